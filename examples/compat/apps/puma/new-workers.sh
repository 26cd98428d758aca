#!/bin/sh -e
# exec hook for Puma: it replaces workers that end, sooner than with its phased restart, which takes five seconds for each.
old=$(cat /proc/1/task/1/children)
kill $old
for worker in $old; do
  while [ -e "/proc/$worker" ]; do sleep 0.01; done
done
