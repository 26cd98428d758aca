# A snapshot of the provider's store, by its ref as `criu-docker ls` prints it:
terraform import criu_snapshot.web 43195803ca54d0a4…/5f0c2b6d9e8a7c31/amd64

# A snapshot of another store, STORE#REF:
terraform import criu_snapshot.web 'gs://acme-snapshots/staging#43195803ca54d0a4…/5f0c2b6d9e8a7c31/amd64'

# A configuration that resolves to the same ref adopts the snapshot: the next apply notes the configuration and rebuilds
# nothing. One that resolves to another ref replaces it.
