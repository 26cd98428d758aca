#!/bin/sh -e
# exec hook for Puma: it replaces workers that end, sooner than with its phased restart, which takes five seconds for each. It
# replaces them by itself as well when they have not reported for a minute of the wall clock, as those of most clones have not.
old=$(cat /proc/1/task/1/children)
kill $old || true # some may have ended meanwhile
for worker in $old; do
  while [ -e "/proc/$worker" ]; do sleep 0.01; done
done
