# The snapshot of an image, published by another configuration.
data "criu_snapshot" "web" {
  image_id = "sha256:43195803ca54d0a43b1b8b1b9d3f3b0b1d8a1f6f3b5b9b1e0c7d2a4f6e8c0a12"
}

output "web" {
  value = "${data.criu_snapshot.web.ref}: ${data.criu_snapshot.web.sizes.packed} bytes, CRIU ${data.criu_snapshot.web.built_on.criu}"
}
