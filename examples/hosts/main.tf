terraform {
  required_providers {
    criu = {
      source = "criu-docker/criu"
    }
  }
}

provider "criu" {
  store = "gs://snapshots"
}

resource "criu_snapshot" "tiny" {
  image = "tiny:lab"
  nomad = true

  ready = {
    http = { port = 80 }
  }
}
