terraform {
  required_providers {
    criu = {
      source = "criu-docker/criu"
    }
  }
}

provider "criu" {
  host  = "unix:///var/run/docker.sock"
  store = "gs://acme-snapshots/production"
}
