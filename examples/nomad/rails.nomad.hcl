# Rails from a snapshot, and a PostgreSQL beside it in each allocation. examples/databases has the apps, and build.sh there makes the
# snapshot and the images.

variable "store" {
  description = "Where the snapshots are. Empty takes the store of the client's plugin configuration."
  type        = string
  default     = ""
}

job "rails" {
  type = "service"

  group "rails" {
    count = 2

    # The tasks share a network namespace: to each other, they are at 127.0.0.1.
    network {
      mode = "bridge"
      port "http" {
        to = 8080
      }
    }

    # Registered when the hook is done.
    service {
      name     = "rails"
      port     = "http"
      provider = "nomad"

      check {
        type     = "tcp"
        interval = "2s"
        timeout  = "5s"
      }
    }

    # Its data is in /alloc/data: a restarted task finds it there, and so does the next allocation on the same client.
    ephemeral_disk {
      sticky = true
    }

    # It boots, while the app is restored; the app's hook waits for it.
    task "postgresql" {
      driver      = "criu-docker"
      kill_signal = "SIGINT"

      lifecycle {
        hook    = "prestart"
        sidecar = true
      }

      config {
        image = "postgresql:lab"

        snapshot {
          policy = "never"
        }
      }

      resources {
        cpu    = 100
        memory = 256
      }
    }

    task "app" {
      driver = "criu-docker"

      config {
        image = "rails:lab"

        snapshot {
          store  = var.store
          policy = "always" # "if_present", the default, boots cold where there is no fitting snapshot
        }
      }

      resources {
        cpu    = 200
        memory = 512
      }
    }
  }
}
