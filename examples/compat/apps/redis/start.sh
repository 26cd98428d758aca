#!/bin/sh -e
# Redis with an append-only file, and a client that is always connected.
python3 /compat/apps/redis/client.py &
exec redis-server --dir /var/lib/app --appendonly yes --unixsocket /tmp/redis.sock --port 6379
