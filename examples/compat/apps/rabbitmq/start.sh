#!/bin/sh -e
# RabbitMQ in directories of the user's own. A node's name has its host's name in it by default; a clone has another one.
export RABBITMQ_NODENAME=rabbit@localhost
export RABBITMQ_MNESIA_BASE=/var/lib/app/mnesia RABBITMQ_LOG_BASE=/var/lib/app/log RABBITMQ_PID_FILE=/tmp/rabbitmq.pid
export RABBITMQ_ENABLED_PLUGINS_FILE=/compat/apps/rabbitmq/enabled_plugins
exec /usr/lib/rabbitmq/bin/rabbitmq-server
