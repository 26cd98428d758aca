# A web application: booted, proven ready, warmed up, frozen, published.
resource "criu_snapshot" "web" {
  image = "registry.example.com/acme/web:2026.11"

  env = {
    RAILS_ENV = "production"
  }
  ports = ["3000"]
  mounts = [
    { destination = "/app/tmp", type = "tmpfs" },
  ]

  ready = {
    http    = { port = 3000, path = "/up" }
    timeout = "2m"
  }
  warm_up = [
    { path = "/login", count = 3 },
    { path = "/api/search", method = "POST", header = { Content-Type = "application/json" }, body = jsonencode({ q = "x" }) },
  ]

  # The old snapshot stays until the new one is published.
  lifecycle {
    create_before_destroy = true
  }
}

# A Nomad task: gets the directories and variables that Nomad gives every task.
resource "criu_snapshot" "worker" {
  image   = "registry.example.com/acme/web:2026.11"
  command = ["bundle", "exec", "sidekiq"]
  nomad   = true

  ready = {
    log = { pattern = "Starting processing" }
  }
  checkpoint = {
    tcp = "close" # the connection to Redis is opened anew by every clone
  }
  # The database's schema is frozen into memory.
  triggers = {
    schema = filesha256("db/schema.rb")
  }
}
