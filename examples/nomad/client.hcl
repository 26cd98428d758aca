# What a Nomad client needs for driver = "criu-docker", beside its usual configuration. The plugin's binary,
# nomad-driver-criu-docker, lies in the plugin_dir; the block's label is that file's name. Nomad loads the plugin only if
# there is a block, but nothing in it is required: with "config {}" it restores from the snapshots in
# /var/lib/criu-docker/store. docs/nomad.md has all options.

plugin "nomad-driver-criu-docker" {
  config {
    snapshot {
      store        = "gs://snapshots"
      allow_stores = ["gs://snapshots/*"] # which others a job may name
      policy       = "if_present"
      timeout      = "60s"
    }

    cache {
      dir      = "/var/lib/criu-docker/cache"
      max_size = "20GiB"
    }

    gc {
      container = true

      dangling_containers {
        period         = "5m"
        creation_grace = "5m"
      }
    }

    extra_labels = ["job_name", "task_group_name", "task_name", "node_name"]
  }
}
