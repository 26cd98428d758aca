#!/bin/sh -e
# start.sh COMMAND… runs a command of runit's on a copy of the services: runit keeps its own files beside those of a service.
rm -rf /var/lib/app/services
mkdir /var/lib/app/services
cp -r /compat/apps/services/runit/web /compat/apps/services/runit/worker /var/lib/app/services
exec "$@"
