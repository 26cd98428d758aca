#!/bin/sh -e
data=/var/lib/app/data
[ -d "$data" ] || mariadb-install-db --no-defaults --datadir="$data" --auth-root-authentication-method=normal --skip-test-db
exec mariadbd --no-defaults --innodb-buffer-pool-size-max=1G --datadir="$data" --socket=/tmp/mariadb.sock --pid-file=/tmp/mariadb.pid
