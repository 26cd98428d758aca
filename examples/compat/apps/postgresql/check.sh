#!/bin/sh -e
exec psql --no-psqlrc --quiet --host /tmp --dbname postgres -v ON_ERROR_STOP=1 -c 'insert into visits values (now())' -c 'select count(*) from visits'
