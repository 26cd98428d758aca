output "image_id" {
  value = provider::criu::parse_ref(criu_snapshot.web.ref).image_id
}
