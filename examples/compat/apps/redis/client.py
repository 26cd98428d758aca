"""Counts in Redis, by one connection over TCP and by another one over a Unix socket. Connects again when it has to, as clients of Redis do."""
import socket
import threading
import time


def count(family, address, key):
    while True:
        try:
            with socket.socket(family) as connection:
                connection.connect(address)
                while True:
                    connection.sendall(b"INCR %s\r\n" % key)
                    if not connection.recv(64).startswith(b":"):
                        break
                    time.sleep(0.05)
        except OSError:
            pass
        time.sleep(0.05)


threading.Thread(target=count, args=(socket.AF_INET, ("127.0.0.1", 6379), b"tcp")).start()
threading.Thread(target=count, args=(socket.AF_UNIX, "/tmp/redis.sock", b"unix")).start()
