"""A service for web.py."""
import os
import socket

path = "/tmp/worker.sock"
if os.path.exists(path):
    os.remove(path)
with socket.socket(socket.AF_UNIX) as server:
    server.bind(path)
    server.listen()
    while True:
        client, _ = server.accept()
        with client:
            client.sendall(b"ok\n")
