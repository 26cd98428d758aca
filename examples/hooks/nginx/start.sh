#!/bin/sh -e
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout /tmp/key.pem -out /tmp/certificate.pem 2>/dev/null
openssl rand -out /tmp/ticket.key 80
exec nginx -c /hooks/nginx/nginx.conf -g 'daemon off;'
