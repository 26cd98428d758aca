# Snapshots of two booted applications, made anew whenever their images change. `make demo` applies this; the jobs in
# ../nomad start from what it publishes.

terraform {
  required_version = ">= 1.8"

  required_providers {
    criu = {
      source = "criu-docker/criu"
    }
  }
}

variable "store" {
  description = "Where the snapshots are published: gs://BUCKET[/PREFIX], or the absolute path of a directory."
  type        = string
  default     = "gs://snapshots"
}

provider "criu" {
  store = var.store
}

locals {
  # By name: the image, and a page that the app answers as soon as it has booted.
  apps = {
    redmine = { image = "redmine:lab", path = "/login" }
    fat-app = { image = "fat-app:lab", path = "/" }
  }
}

resource "criu_snapshot" "app" {
  for_each = local.apps

  image = each.value.image
  nomad = true # the clones will be Nomad tasks

  ready = {
    http    = { port = 3000, path = each.value.path, status = 200 }
    timeout = "5m"
  }
  # What the first requests load and compile is in the snapshot then.
  warm_up = [
    { path = each.value.path, count = 2 },
  ]

  # Tasks are started from the old snapshot until the new one is published.
  lifecycle {
    create_before_destroy = true
  }
}

output "snapshots" {
  description = "What was published, by application."
  value = {
    for name, s in criu_snapshot.app : name => {
      ref        = s.ref
      megabytes  = floor(s.sizes.packed / 1e6)
      boot_s     = s.timings.boot
      freeze_s   = s.timings.freeze
      created_at = s.created_at
    }
  }
}
