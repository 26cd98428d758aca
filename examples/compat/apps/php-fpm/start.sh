#!/bin/sh -e
nginx -c /compat/apps/php-fpm/nginx.conf # in the background
exec php-fpm8.4 -d opcache.jit_buffer_size=0 --nodaemonize --fpm-config /compat/apps/php-fpm/php-fpm.conf
