import ctypes
import fcntl
import mmap
import multiprocessing
import os
import pty
import select
import struct
import time
from multiprocessing import resource_tracker, shared_memory

from kernel import equal, is_clone, libc, must, true

PATIENCE = 30


def pipe():
    r, w = os.pipe()
    os.write(w, b"early")
    os.set_blocking(r, False)

    def check():
        equal(os.read(r, 100), b"early", "what waited in the pipe")
        os.write(w, b"early")

    return check


def pipe_full():
    r, w = os.pipe()
    fcntl.fcntl(w, 1031, 1 << 20)  # F_SETPIPE_SZ
    os.set_blocking(w, False)
    size = os.write(w, bytes(1 << 20))

    def check():
        equal(fcntl.fcntl(w, 1032), 1 << 20, "size of the pipe")
        fds = struct.pack("I", 0)
        equal(struct.unpack("I", fcntl.ioctl(r, 0x541B, fds))[0], size, "bytes in the pipe")  # FIONREAD

    return check


def fifo():
    os.mkfifo("/tmp/fifo")
    fd = os.open("/tmp/fifo", os.O_RDWR)
    os.write(fd, b"early")

    def check():
        equal(os.read(fd, 100), b"early", "what waited in the FIFO")
        os.write(fd, b"early")

    return check


def fifo_reader():
    """A reader whose writers come and go."""
    os.mkfifo("/tmp/fifo")
    fd = os.open("/tmp/fifo", os.O_RDONLY | os.O_NONBLOCK)
    poller = select.poll()
    poller.register(fd, select.POLLIN)

    def check():
        w = os.open("/tmp/fifo", os.O_WRONLY)
        os.write(w, b"x")
        equal(poller.poll(PATIENCE * 1000)[0][1] & select.POLLIN, select.POLLIN, "events")
        equal(os.read(fd, 100), b"x", "what came")
        os.close(w)

    return check


def terminal():
    """A pseudo-terminal of the app's own, with a shell on it."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvp("sh", ["sh", "-c", "stty -echo; while read line; do echo got $line; done"])
    seen = bytearray()

    def check():
        os.write(master, b"hello\n")
        end = time.monotonic() + PATIENCE
        while b"got hello" not in seen:
            true(time.monotonic() < end, f"the shell says {bytes(seen)!r}")
            if select.select([master], [], [], 1)[0]:
                seen.extend(os.read(master, 1000))
        seen.clear()

    return check


def posix_queue():
    rt = ctypes.CDLL("librt.so.1", use_errno=True)
    q = must(rt.mq_open(b"/queue", os.O_CREAT | os.O_RDWR, 0o600, None), "mq_open")
    must(rt.mq_send(q, b"early", 5, 0), "mq_send")
    return lambda: true(os.fstat(q), "closed")


IPC_PRIVATE, IPC_CREAT = 0, 0o1000


def sysv_queue():
    q = must(libc.msgget(IPC_PRIVATE, IPC_CREAT | 0o600), "msgget")
    message = ctypes.create_string_buffer(struct.pack("l", 1) + b"early")
    must(libc.msgsnd(q, message, 5, 0), "msgsnd")

    def check():
        received = ctypes.create_string_buffer(100)
        equal(must(libc.msgrcv(q, received, 90, 0, 0), "msgrcv"), 5, "size of the message that waited")
        must(libc.msgsnd(q, received, 5, 0), "msgsnd")

    return check


def sysv_semaphore():
    s = must(libc.semget(IPC_PRIVATE, 1, IPC_CREAT | 0o600), "semget")
    must(libc.semctl(s, 0, 16, 3), "semctl")  # SETVAL
    return lambda: equal(must(libc.semctl(s, 0, 12, 0), "semctl"), 3, "value")  # GETVAL


def sysv_memory():
    libc.shmat.restype = ctypes.c_void_p
    m = must(libc.shmget(IPC_PRIVATE, 1 << 20, IPC_CREAT | 0o600), "shmget")
    address = must(libc.shmat(m, None, 0), "shmat")
    ctypes.memmove(address, b"early", 5)
    return lambda: equal(ctypes.string_at(address, 5), b"early", "content")


def posix_semaphore():
    """Made under a name that is removed at once, as Python's multiprocessing does."""
    lock = multiprocessing.Lock()

    def check():
        true(lock.acquire(timeout=PATIENCE), "the lock is taken")
        lock.release()

    return check


def named_semaphore():
    pthread = ctypes.CDLL(None, use_errno=True)
    pthread.sem_open.restype = ctypes.c_void_p
    sem = ctypes.c_void_p(must(pthread.sem_open(b"/named", os.O_CREAT, 0o600, 3), "sem_open"))

    def check():
        value = ctypes.c_int()
        must(pthread.sem_getvalue(sem, ctypes.byref(value)), "sem_getvalue")
        equal(value.value, 3, "value")
        again = must(pthread.sem_open(b"/named", 0), "sem_open of the same name")
        must(pthread.sem_post(ctypes.c_void_p(again)), "sem_post")
        must(pthread.sem_trywait(sem), "sem_trywait")
        must(pthread.sem_getvalue(sem, ctypes.byref(value)), "sem_getvalue")
        equal(value.value, 3, "value after what was done by name")

    return check


def shared_memory_named():
    m = shared_memory.SharedMemory(create=True, size=1 << 20)
    resource_tracker.unregister(m._name, "shared_memory")
    m.buf[:5] = b"early"

    def check():
        equal(bytes(m.buf[:5]), b"early", "content")
        again = shared_memory.SharedMemory(m.name, track=False)
        equal(bytes(again.buf[:5]), b"early", "content by name")
        again.close()

    return check


def shared_memory_unlinked():
    m = shared_memory.SharedMemory(create=True, size=1 << 20)
    m.buf[:5] = b"early"
    m.unlink()
    return lambda: equal(bytes(m.buf[:5]), b"early", "content")


def square(x):
    return x * x


def worker_pool():
    pool = multiprocessing.get_context("fork").Pool(4)
    equal(pool.map(square, range(10)), [x * x for x in range(10)], "squares")
    return lambda: equal(pool.map_async(square, range(10)).get(PATIENCE), [x * x for x in range(10)], "squares")


def queue_between_processes():
    context = multiprocessing.get_context("fork")
    requests, answers = context.Queue(), context.Queue()

    def work():
        while True:
            answers.put(requests.get() + 1)

    context.Process(target=work, daemon=True).start()

    def check():
        requests.put(1)
        equal(answers.get(timeout=PATIENCE), 2, "answer")

    return check


def shared_anonymous():
    """Memory that is shared with a child, which counts in it."""
    m = mmap.mmap(-1, 1 << 20)
    child = os.fork()
    if child == 0:
        while True:
            m[0:8] = struct.pack("Q", struct.unpack("Q", m[0:8])[0] + 1)
            time.sleep(0.02)

    def check():
        before, end = m[0:8], time.monotonic() + PATIENCE
        while m[0:8] == before:
            true(time.monotonic() < end, "the child's counter stands still")
            time.sleep(0.01)

    return check


def futex():
    """A child waits for a word in shared memory to change."""
    m = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(m))
    child = os.fork()
    if child == 0:
        count = 0
        while True:
            libc.syscall(202, ctypes.c_void_p(address), 0, count, None, None, 0)  # FUTEX_WAIT
            count = struct.unpack("I", m[0:4])[0]
            m[4:8] = struct.pack("I", count)

    def check():
        count = struct.unpack("I", m[0:4])[0] + 1
        m[0:4] = struct.pack("I", count)
        libc.syscall(202, ctypes.c_void_p(address), 1, 1, None, None, 0)  # FUTEX_WAKE
        end = time.monotonic() + PATIENCE
        while struct.unpack("I", m[4:8])[0] != count:
            true(time.monotonic() < end, "the child sleeps on")
            time.sleep(0.01)

    return check


def robust_mutex():
    """A lock in shared memory whose owner, a child, dies: who waits for it is told."""
    pthread = ctypes.CDLL(None)
    m = mmap.mmap(-1, 4096)
    mutex = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(m)))
    attributes = ctypes.create_string_buffer(64)
    equal(pthread.pthread_mutexattr_init(attributes), 0, "pthread_mutexattr_init")
    equal(pthread.pthread_mutexattr_setpshared(attributes, 1), 0, "pthread_mutexattr_setpshared")
    equal(pthread.pthread_mutexattr_setrobust(attributes, 1), 0, "pthread_mutexattr_setrobust")
    equal(pthread.pthread_mutex_init(mutex, attributes), 0, "pthread_mutex_init")
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        pthread.pthread_mutex_lock(mutex)
        os.write(w, b"x")
        while True:
            time.sleep(1)
    os.read(r, 1)
    owners = [child]

    def check():
        if owners and is_clone():
            os.kill(owners[0], 9)
            os.waitpid(owners.pop(), 0)
            equal(len(m), 4096, "size of what the lock is in")
            equal(pthread.pthread_mutex_lock(mutex), 130, "what the lock says")  # EOWNERDEAD
            pthread.pthread_mutex_consistent(mutex)
            pthread.pthread_mutex_unlock(mutex)

    return check
