# All snapshots in the provider's store.
data "criu_snapshots" "all" {}

output "refs" {
  value = data.criu_snapshots.all.snapshots[*].ref
}
