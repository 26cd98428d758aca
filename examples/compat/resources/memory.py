import ctypes
import fcntl
import mmap
import os
import struct
import threading

from kernel import equal, libc, mmap as map_memory, must, syscall, true

MIB = 1 << 20
PAGE = 4096
PRIVATE, SHARED, ANONYMOUS, NORESERVE, HUGETLB, FIXED_NOREPLACE = 2, 1, 0x20, 0x4000, 0x40000, 0x100000
READ, WRITE, EXEC = 1, 2, 4


def put(address, offset, text):
    ctypes.memmove(address + offset, text, len(text))


def has(address, offset, text):
    equal(ctypes.string_at(address + offset, len(text)), text, f"memory at {offset:#x}")


def marked(address, distance=2 * MIB):
    """Writes to two places, and returns a function that looks whether that is there."""
    put(address, 0, b"first")
    put(address, distance, b"second")

    def check():
        has(address, 0, b"first")
        has(address, distance, b"second")

    return check


def private():
    return marked(map_memory(None, 64 * MIB, READ | WRITE, PRIVATE | ANONYMOUS))


def shared():
    return marked(map_memory(None, 64 * MIB, READ | WRITE, SHARED | ANONYMOUS))


def shared_executable():
    """As PHP's opcache has it with a JIT: shared, and executable, below the program's own code."""
    program = min(int(line.split("-")[0], 16) for line in open("/proc/self/maps") if "python" in line)
    address = map_memory(program - 3 * MIB, 2 * MIB, READ | WRITE, SHARED | ANONYMOUS | FIXED_NOREPLACE)
    check = runs(address)
    must(libc.mprotect(ctypes.c_void_p(address), 2 * MIB, READ | EXEC), "mprotect")
    return check


def private_executable():
    return runs(map_memory(None, 4 * MIB, READ | WRITE | EXEC, PRIVATE | ANONYMOUS))


def runs(address):
    put(address, PAGE, b"\xb8\x2a\0\0\0\xc3")  # mov $42, %eax; ret
    return lambda: equal(ctypes.CFUNCTYPE(ctypes.c_int)(address + PAGE)(), 42, "what the code returns")


def memory_file():
    fd = os.memfd_create("file")
    os.ftruncate(fd, 4 * MIB)
    return marked(map_memory(None, 4 * MIB, READ | WRITE, SHARED, fd))


def memory_file_sealed():
    fd = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    os.write(fd, b"first".ljust(MIB, b"\0"))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)

    def check():
        equal(os.pread(fd, 5, 0), b"first", "content")
        equal(fcntl.fcntl(fd, fcntl.F_GET_SEALS), 0xE, "seals")

    return check


def memory_file_sealed_mapped():
    """As Wayland, systemd and Chromium share what nobody may change any more."""
    fd = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    os.write(fd, b"first".ljust(MIB, b"\0"))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    m = mmap.mmap(fd, MIB, prot=mmap.PROT_READ)

    def check():
        equal(m[:5], b"first", "content")
        equal(fcntl.fcntl(fd, fcntl.F_GET_SEALS), 0xE, "seals")

    return check


def memory_file_two_views():
    """As JITs map their code twice: writable here, executable there."""
    fd = os.memfd_create("code")
    os.ftruncate(fd, 4 * MIB)
    writable = map_memory(None, 4 * MIB, READ | WRITE, SHARED, fd)
    executable = map_memory(None, 4 * MIB, READ | EXEC, SHARED, fd)
    os.close(fd)
    put(writable, PAGE, b"\xb8\x2a\0\0\0\xc3")

    def check():
        equal(ctypes.CFUNCTYPE(ctypes.c_int)(executable + PAGE)(), 42, "what the code returns")
        put(writable, 0, b"x")
        has(executable, 0, b"x")

    return check


def huge_pages():
    return marked(map_memory(None, 4 * MIB, READ | WRITE, PRIVATE | ANONYMOUS | HUGETLB))


def memory_file_huge():
    fd = os.memfd_create("huge", os.MFD_HUGETLB)
    os.ftruncate(fd, 4 * MIB)
    return marked(map_memory(None, 4 * MIB, READ | WRITE, SHARED, fd))


def transparent_huge_pages():
    size = 64 * MIB
    address = map_memory(None, size, READ | WRITE, PRIVATE | ANONYMOUS)
    madvise(address, size, 14)  # MADV_HUGEPAGE
    for offset in range(0, size, PAGE):
        put(address, offset, struct.pack("Q", offset))

    def check():
        for offset in range(0, size, PAGE):
            has(address, offset, struct.pack("Q", offset))

    return check


def madvise(address, length, advice):
    return must(libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(length), advice), "madvise")


def reserved_1_tib():
    return reserved(1 << 40)


def reserved_64_tib():
    return reserved(64 << 40)


def reserved(size):
    """Address space without memory, some of which is used, as garbage collectors and sanitizers have it."""
    address = map_memory(None, size, 0, PRIVATE | ANONYMOUS | NORESERVE)
    used = address + size // 2
    must(libc.mprotect(ctypes.c_void_p(used), 4 * MIB, READ | WRITE), "mprotect")
    return marked(used)


def droppable():
    """MAP_DROPPABLE: what the kernel may drop when memory is short."""
    address = map_memory(None, MIB, READ | WRITE, 8 | ANONYMOUS)
    put(address, 0, b"first")

    def check():
        true(ctypes.string_at(address, 5) in (b"first", bytes(5)), "neither what was there nor zeros")
        put(address, 0, b"first")

    return check


def secret():
    fd = syscall(447, 0)
    os.ftruncate(fd, 4 * MIB)
    return marked(map_memory(None, 4 * MIB, READ | WRITE, SHARED, fd))


def own_userfaultfd():
    fd = syscall(323, 1)  # UFFD_USER_MODE_ONLY
    return lambda: true(os.fstat(fd), "closed")


def guards():
    """MADV_GUARD_INSTALL, as newer C libraries guard stacks. Where it is refused, apps protect memory as ever."""
    address = map_memory(None, 64 * PAGE, READ | WRITE, PRIVATE | ANONYMOUS)
    put(address, 0, b"first")
    refused = libc.madvise(ctypes.c_void_p(address + 8 * PAGE), PAGE, 102) < 0
    if refused:
        must(libc.mprotect(ctypes.c_void_p(address + 8 * PAGE), PAGE, 0), "mprotect")

    def check():
        has(address, 0, b"first")
        r, w = os.pipe()
        true(libc.write(w, ctypes.c_void_p(address + 8 * PAGE), 1) < 0, "the guard is gone")
        os.close(r)
        os.close(w)

    return check


def locked():
    address = map_memory(None, 16 * PAGE, READ | WRITE, PRIVATE | ANONYMOUS)
    must(libc.mlock(ctypes.c_void_p(address), 16 * PAGE), "mlock")
    put(address, 0, b"first")

    def check():
        has(address, 0, b"first")
        size = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmLck")]
        equal(size, ["64"], "KiB of locked memory")

    return check


def discarded():
    """What the app gave back reads as zeros."""
    address = map_memory(None, 4 * MIB, READ | WRITE, PRIVATE | ANONYMOUS)
    put(address, 0, b"x" * 2 * MIB)
    madvise(address, MIB, 4)  # MADV_DONTNEED

    def check():
        has(address, 0, bytes(5))
        has(address, MIB, b"x" * 5)

    return check


def not_inherited():
    """MADV_WIPEONFORK and MADV_DONTFORK, as random number generators use them."""
    address = map_memory(None, PAGE, READ | WRITE, PRIVATE | ANONYMOUS)
    madvise(address, PAGE, 18)
    put(address, 0, b"secret")

    def check():
        has(address, 0, b"secret")
        child = os.fork()
        if child == 0:
            os._exit(0 if ctypes.string_at(address, 6) == bytes(6) else 1)
        equal(os.waitpid(child, 0)[1], 0, "exit status of a child that looks for the secret")

    return check


def many_mappings():
    """60,000 of them, each with a page in use."""
    addresses = []
    for i in range(30_000):
        address = map_memory(None, 2 * PAGE, READ | WRITE, PRIVATE | ANONYMOUS)
        must(libc.mprotect(ctypes.c_void_p(address + PAGE), PAGE, READ), "mprotect")
        put(address, 0, struct.pack("I", i))
        addresses.append(address)

    def check():
        for i, address in enumerate(addresses):
            has(address, 0, struct.pack("I", i))

    return check


def copied_on_write():
    """Memory that a process shares with its child until one of them writes."""
    address = map_memory(None, 8 * MIB, READ | WRITE, PRIVATE | ANONYMOUS)
    put(address, 0, b"x" * 8 * MIB)
    r, w = os.pipe()
    r2, w2 = os.pipe()
    if os.fork() == 0:
        put(address, 0, b"child")
        while os.read(r, 1):
            os.write(w2, ctypes.string_at(address, 6))

    def check():
        has(address, 0, b"xxxxxx")
        os.write(w, b"x")
        equal(os.read(r2, 6), b"childx", "what the child has there")

    return check


def stack_deep():
    """A thread deep in its stack."""
    go, answers = threading.Semaphore(0), []

    def deep(n):
        if n == 0:
            while True:
                go.acquire()
                answers.append(n)
        deep(n - 1)

    threading.stack_size(64 * MIB)
    thread = threading.Thread(target=deep, args=(900,), daemon=True)
    thread.start()

    def check():
        answers.clear()
        go.release()
        for _ in range(3000):
            if answers:
                return
            libc.usleep(10_000)
        raise AssertionError("the thread does not answer")

    return check
