#!/bin/sh -e
# PostgreSQL for what shares its network namespace. Its data is the allocation's, or the container's where there is none.
bin=/usr/lib/postgresql/18/bin data=${NOMAD_ALLOC_DIR:-$HOME}/data/postgresql
if [ ! -d "$data" ]; then # whole, or not there at all
  rm -rf "$data.new"
  "$bin/initdb" --pgdata "$data.new" --username app --auth trust
  mv "$data.new" "$data"
fi
exec "$bin/postgres" -D "$data" -c listen_addresses=127.0.0.1 -c unix_socket_directories=
