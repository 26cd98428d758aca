"""Sends a message to a queue and gets it from there, by STOMP, the simplest of RabbitMQ's protocols."""
import os
import socket

server = socket.create_connection(("127.0.0.1", 61613), timeout=30)
stream = server.makefile("rwb")


def send(text):
    stream.write(text.encode() + b"\0")
    stream.flush()


def receive():
    frame = b""
    while not frame.endswith(b"\0"):
        byte = stream.read(1)
        if not byte:
            raise SystemExit(f"the connection ended: {frame}")
        frame += byte
    return frame.decode().lstrip("\n").rstrip("\0")


message = f"message of {os.getpid()}"
send("CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n")
assert receive().startswith("CONNECTED")
send(f"SEND\ndestination:/queue/check\n\n{message}")
send("SUBSCRIBE\nid:0\ndestination:/queue/check\n\n")
while not receive().endswith(message):  # there may be others of checks before this one
    pass
send("DISCONNECT\nreceipt:1\n\n")
receive()
