# Puma 8.0.2 has workers that a SIGTERM does not end, a cold container's as often as a clone's. It kills them, by default after 30 seconds.
workers 2
worker_shutdown_timeout 3
