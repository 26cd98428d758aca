#!/bin/bash -e
# Sets a value, and gets it.
exec 3<> /dev/tcp/127.0.0.1/11211
printf 'set value 0 0 %d\r\n%s\r\nget value\r\nquit\r\n' ${#$} $$ >&3
answer=$(tr -d '\r' <&3)
[ "$answer" = "STORED
VALUE value 0 ${#$}
$$
END" ]
