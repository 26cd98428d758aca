job "tiny" {
  type = "service"

  update {
    min_healthy_time = "1s"
    healthy_deadline = "2m"
  }

  group "hot" {
    count = 2

    network {
      port "http" {
        to = 80
      }
    }

    task "app" {
      driver       = "criu-docker"
      kill_timeout = "1s"

      config {
        image = "tiny:lab"
        ports = ["http/tcp"]

        snapshot {
          policy = "always"
        }
      }

      resources {
        cpu    = 50
        memory = 64
      }
    }
  }

  group "cold" {
    network {
      port "http" {
        to = 80
      }
    }

    task "app" {
      driver       = "criu-docker"
      kill_timeout = "1s"

      config {
        image = "tiny:lab"
        ports = ["http/tcp"]

        snapshot {
          policy = "never"
        }
      }

      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
}
