#!/bin/sh -e
# build.sh rails|django|node: builds an app's image and its snapshot.
#
# The app boots beside a PostgreSQL in one network namespace, as it will in a group of Nomad's: in both it is at 127.0.0.1.
app=$1
cd "$(dirname "$0")"
for target in postgresql "$app"; do
  tar -C .. --create hooks/node/reseed.c databases | docker build --quiet --file databases/Dockerfile --target "$target" --tag "$target:lab" - >&2
done

postgresql=$(docker run --detach --rm postgresql:lab)
trap 'docker rm --force "$postgresql" >/dev/null' EXIT
criu-docker build "$app:lab" --nomad --network "container:$postgresql" \
  --ready http://:8080/ --after-restore http://:8080/after-restore --hook-timeout 1m
