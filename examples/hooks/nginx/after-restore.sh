#!/bin/sh -e
# exec hook for nginx: workers that are forked now seed OpenSSL's generator from the kernel, since it notices that the process is another one.
openssl rand -out /tmp/ticket.key 80
old=$(cat /proc/1/task/1/children)
kill -HUP 1
# nginx reloads in its own time: until the last old worker is gone, it may still answer.
for worker in $old; do
  while [ -e "/proc/$worker" ]; do sleep 0.01; done
done
