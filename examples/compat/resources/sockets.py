import array
import errno
import os
import select
import socket
import struct
import threading

from kernel import equal, gateway, own_address, own_address6, true

SO_BINDTODEVICE = 25
RTMGRP_LINK = 1
RTM_GETADDR = 22
NLM_F_REQUEST, NLM_F_DUMP = 1, 0x300


def udp_connected():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect((gateway(), 8125))
    return lambda: connected(s, own_address())


def udp_connected_mapped():
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.connect(("::ffff:" + gateway(), 8125))
    return lambda: connected(s, "::ffff:" + own_address())


def udp_connected_v6():
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.connect((own_address6().rsplit(":", 1)[0] + ":1", 8125))
    return lambda: connected(s, own_address6())


def connected(s, address):
    for _ in range(2):  # nobody listens there: a datagram may return the error of the one before
        try:
            s.send(b"requests:1|c")
            break
        except ConnectionRefusedError:
            pass
    equal(s.getsockname()[0], address, "address that it sends from")


def udp_wildcard():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("0.0.0.0", 5000))
    return lambda: echo(s, own_address())


def udp_own_address():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((own_address(), 5000))
    return lambda: echo(s, own_address())


def udp_own_address_v6():
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.bind((own_address6(), 5000))
    return lambda: echo(s, own_address6())


def udp_device():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, b"eth0")
    s.bind(("0.0.0.0", 5000))
    return lambda: equal(s.getsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, 16).rstrip(b"\0"), b"eth0", "device")


def udp_unread():
    """A datagram that waits. Clones lack it, as one may be lost on its way at any time."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("0.0.0.0", 5000))
    s.sendto(b"hello", ("127.0.0.1", 5000))
    return lambda: echo(s, own_address())


def echo(s, address):
    with socket.socket(s.family, socket.SOCK_DGRAM) as client:
        client.sendto(b"hello", (address, s.getsockname()[1]))
        s.settimeout(10)
        equal(s.recv(100), b"hello", "datagram")


def tcp_wildcard_v6():
    return listening(socket.AF_INET6, "::", own_address)


def tcp_own_address():
    return listening(socket.AF_INET, own_address(), own_address)


def tcp_own_address_v6():
    return listening(socket.AF_INET6, own_address6(), own_address6)


def tcp_device():
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, b"eth0")
    s.bind(("0.0.0.0", 7000))
    s.listen()
    return lambda: equal(s.getsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, 16).rstrip(b"\0"), b"eth0", "device")


def listening(family, address, now):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.bind((address, 7000))
    s.listen()

    def check():
        with socket.create_connection((now(), 7000), 10):
            s.settimeout(10)
            s.accept()[0].close()

    return check


def tcp_bound():
    s = socket.socket()
    s.bind(("0.0.0.0", 7000))

    def check():
        equal(s.getsockname()[1], 7000, "port")

    return check


def tcp_connected():
    """Both ends are in the container. What is open when it is frozen ends; the app connects again."""
    server = socket.create_server(("127.0.0.1", 7000))
    ends = [None, None]

    def connect():
        ends[0] = socket.create_connection(("127.0.0.1", 7000), 10)
        ends[1] = server.accept()[0]

    def check():
        try:
            ends[0].send(b"x")
            true(ends[1].recv(1), "the connection has ended")
        except (OSError, AssertionError):
            connect()
            ends[0].send(b"x")
            equal(ends[1].recv(1), b"x", "what came over a new connection")

    connect()
    return check


def tcp_half_closed():
    server = socket.create_server(("127.0.0.1", 7000))
    client = socket.create_connection(("127.0.0.1", 7000), 10)
    end = server.accept()[0]
    client.shutdown(socket.SHUT_WR)

    def check():
        end.settimeout(10)
        equal(end.recv(1), b"", "what comes after the end")

    return check


def unix_stream():
    a, b = socket.socketpair()
    a.send(b"early")

    def check():
        equal(b.recv(5, socket.MSG_PEEK), b"early", "what waited")
        b.send(b"x")
        equal(a.recv(1), b"x", "what was sent")

    return check


def unix_seqpacket():
    a, b = socket.socketpair(type=socket.SOCK_SEQPACKET)
    a.send(b"early")
    return lambda: equal(b.recv(5, socket.MSG_PEEK), b"early", "what waited")


def unix_datagram():
    a, b = socket.socketpair(type=socket.SOCK_DGRAM)
    a.send(b"early")
    return lambda: equal(b.recv(5, socket.MSG_PEEK), b"early", "what waited")


def unix_listening():
    return unix_server("/tmp/server.sock")


def unix_abstract():
    return unix_server("\0server")


def unix_server(name):
    server = socket.socket(socket.AF_UNIX)
    server.bind(name)
    server.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(name)
    end = server.accept()[0]

    def check():
        client.send(b"x")
        equal(end.recv(1), b"x", "what came over the old connection")
        with socket.socket(socket.AF_UNIX) as another:
            another.connect(name)
            server.accept()[0].close()

    return check


def unix_unlinked():
    server = socket.socket(socket.AF_UNIX)
    server.bind("/tmp/gone.sock")
    server.listen()
    os.unlink("/tmp/gone.sock")
    return lambda: equal(server.getsockname(), "/tmp/gone.sock", "name")


def unix_descriptors_in_flight():
    a, b = socket.socketpair()
    fd = os.open("/etc/hostname", os.O_RDONLY)
    a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    os.close(fd)

    def check():
        _, messages, _, _ = b.recvmsg(1, 100, socket.MSG_PEEK)
        (received,) = struct.unpack("i", messages[0][2][:4])
        os.close(received)

    return check


def netlink_route():
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    s.bind((0, RTMGRP_LINK))

    def check():
        s.send(struct.pack("IHHIIB", 17, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, 1, 0, socket.AF_INET))
        s.settimeout(10)
        while True:  # what the kernel tells of links may come before the answer
            answer = s.recv(65536)
            if struct.unpack("IHHII", answer[:16])[3] == 1:
                break
        while select.select([s], [], [], 0)[0]:
            s.recv(65536)

    return check


def raw():
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    return lambda: s.sendto(struct.pack("BBHHH", 8, 0, 0xF7FE, 1, 0), ("127.0.0.1", 0))


def packet():
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300)

    def check():
        s.settimeout(10)
        equal(len(s.getsockname()), 5, "name")

    return check


def vsock():
    s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    return lambda: true(s.fileno() >= 0, "closed")


def mptcp():
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    s.bind(("0.0.0.0", 7000))
    s.listen()

    def check():
        with socket.create_connection((own_address(), 7000), 10):
            s.accept()[0].close()

    return check


def many_waiting():
    """Threads that wait for datagrams, as resolvers and metrics clients do."""
    got = []

    def wait(s):
        while True:
            got.append(s.recv(100))

    sockets = []
    for i in range(20):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("127.0.0.1", 5000 + i))
        threading.Thread(target=wait, args=(s,), daemon=True).start()
        sockets.append(s)
    done = threading.Event()

    def check():
        got.clear()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for i in range(20):
                client.sendto(b"x", ("127.0.0.1", 5000 + i))
        for _ in range(1000):
            if len(got) == 20:
                return
            done.wait(0.01)
        raise AssertionError(f"{len(got)} of 20 threads have got their datagram")

    return check
