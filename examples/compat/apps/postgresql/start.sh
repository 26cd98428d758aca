#!/bin/sh -e
# start.sh [OPTION…]: PostgreSQL with a table, on a socket in /tmp.
bin=/usr/lib/postgresql/18/bin data=/var/lib/app/data
if [ ! -d "$data" ]; then
  "$bin/initdb" --pgdata "$data" --auth trust --no-sync
  echo 'create table visits (at timestamptz)' | "$bin/postgres" --single -D "$data" postgres
fi
exec "$bin/postgres" -D "$data" -c listen_addresses= -c unix_socket_directories=/tmp "$@"
