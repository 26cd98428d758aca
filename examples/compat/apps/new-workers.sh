#!/bin/sh -e
# exec hook for a server whose first process replaces its workers when it gets a signal: the new ones seed their generators themselves.
# new-workers.sh SIGNAL [PID of the first process]
first=${2:-1}
old=$(cat "/proc/$first/task/$first/children")
kill -s "$1" "$first"
for worker in $old; do
  while [ -e "/proc/$worker" ]; do sleep 0.01; done # until then it may still answer
done
