"""What Python has no name for."""

import ctypes
import fcntl
import json
import os
import socket
import struct

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]

MAP_FAILED = ctypes.c_void_p(-1).value


def must(result, what):
    """Returns what a function of the C library returned, or raises its error."""
    if result is None or result < 0 or result == MAP_FAILED:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")
    return result


def syscall(number, *args):
    return must(libc.syscall(number, *args), f"system call {number}")


def mmap(address, length, prot, flags, fd=-1):
    return must(libc.mmap(address, length, prot, flags, fd, 0), "mmap")


def equal(got, want, what):
    if got != want:
        raise AssertionError(f"{what}: {got!r}, want {want!r}")


def true(condition, what):
    if not condition:
        raise AssertionError(what)


def own_address():
    """The container's address now, in a clone not the one of its boot."""
    request = struct.pack("256s", b"eth0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return socket.inet_ntoa(fcntl.ioctl(s.fileno(), 0x8915, request)[20:24])  # SIOCGIFADDR


def own_address6():
    for line in open("/proc/net/if_inet6"):
        address, _, _, scope, _, name = line.split()
        if name == "eth0" and scope == "00":  # global
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(address))
    raise AssertionError("the container has no IPv6 address")


def gateway():
    for line in open("/proc/net/route"):
        fields = line.split()
        if fields[1] == "00000000" and fields[0] != "Iface":
            return socket.inet_ntoa(struct.pack("<I", int(fields[2], 16)))
    raise AssertionError("no default route")


def is_clone():
    """Reads what every container of ours finds at its start."""
    return json.load(open("/.criu-docker"))["start"] == "hot"
