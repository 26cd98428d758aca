#!/bin/sh -e
# Sets and gets a value, and waits until the client has counted on both ways.
value=$$
[ "$(redis-cli set value $value)" = OK ]
[ "$(redis-cli get value)" = $value ]
for key in tcp unix; do
  before=$(redis-cli get $key)
  while [ "$(redis-cli get $key)" = "$before" ]; do sleep 0.01; done
done
