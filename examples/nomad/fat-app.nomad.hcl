# The fat app from a snapshot, and beside it once without, to compare. The snapshot is made by examples/terraform.

variable "store" {
  description = "Where the snapshots are. Empty takes the store of the client's plugin configuration."
  type        = string
  default     = ""
}

job "fat-app" {
  type = "service"

  update {
    max_parallel     = 1
    health_check     = "checks"
    min_healthy_time = "1s"
    healthy_deadline = "5m"
    auto_revert      = true
  }

  # Allocations that restore: they fail where they cannot, and say why.
  group "hot" {
    count = 2

    network {
      port "http" {
        to = 3000
      }
    }

    service {
      name     = "fat-app"
      port     = "http"
      provider = "nomad"

      check {
        type     = "http"
        path     = "/"
        interval = "2s"
        timeout  = "5s"
      }
    }

    restart {
      attempts = 3
      interval = "1m"
      delay    = "1s"
      mode     = "fail"
    }

    task "app" {
      driver = "criu-docker"

      config {
        image = "fat-app:lab"
        ports = ["http/tcp"]

        snapshot {
          store  = var.store
          policy = "always" # "if_present", the default, boots cold where there is no fitting snapshot
        }
      }

      resources {
        cpu    = 200
        memory = 1024
      }
    }
  }

  # The same app booted as usual.
  group "cold" {
    network {
      port "http" {
        to = 3000
      }
    }

    service {
      name     = "fat-app-cold"
      port     = "http"
      provider = "nomad"

      check {
        type     = "http"
        path     = "/"
        interval = "2s"
        timeout  = "5s"
      }
    }

    task "app" {
      driver = "criu-docker"

      config {
        image = "fat-app:lab"
        ports = ["http/tcp"]

        snapshot {
          policy = "never"
        }
      }

      resources {
        cpu    = 200
        memory = 1024
      }
    }
  }
}
