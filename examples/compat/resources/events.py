import ctypes
import os
import select
import signal
import struct
import threading
import time

from kernel import equal, libc, must, syscall, true

PATIENCE = 30  # seconds, for what is bound to happen


def epoll():
    r, w = os.pipe()
    e = select.epoll()
    e.register(r, select.EPOLLIN)

    def check():
        equal(e.poll(0), [], "events before")
        os.write(w, b"x")
        equal(e.poll(PATIENCE), [(r, select.EPOLLIN)], "events")
        os.read(r, 1)

    return check


def epoll_edge_triggered():
    r, w = os.pipe()
    e = select.epoll()
    e.register(r, select.EPOLLIN | select.EPOLLET)

    def check():
        os.write(w, b"x")
        equal(e.poll(PATIENCE), [(r, select.EPOLLIN)], "events")
        os.read(r, 1)

    return check


def epoll_of_epoll():
    r, w = os.pipe()
    inner, outer = select.epoll(), select.epoll()
    inner.register(r, select.EPOLLIN)
    outer.register(inner.fileno(), select.EPOLLIN)

    def check():
        os.write(w, b"x")
        equal(outer.poll(PATIENCE), [(inner.fileno(), select.EPOLLIN)], "events")
        os.read(r, 1)

    return check


def epoll_forgotten():
    """A descriptor that was closed, and is watched on since another one is open for the same pipe."""
    r, w = os.pipe()
    other = os.dup(r)
    e = select.epoll()
    e.register(r, select.EPOLLIN)
    os.close(r)

    def check():
        os.write(w, b"x")
        equal(e.poll(PATIENCE), [(r, select.EPOLLIN)], "events")
        os.read(other, 1)

    return check


def eventfd():
    e = os.eventfd(7)

    def check():
        equal(os.eventfd_read(e), 7, "counter")
        os.eventfd_write(e, 7)

    return check


def eventfd_semaphore():
    e = os.eventfd(2, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)

    def check():
        equal(os.eventfd_read(e), 1, "what is taken at once")
        os.eventfd_write(e, 1)

    return check


def timerfd():
    """One that is due in the clone fires once, and another one goes on."""
    once = os.timerfd_create(time.CLOCK_MONOTONIC)
    often = os.timerfd_create(time.CLOCK_BOOTTIME, flags=os.TFD_NONBLOCK)
    os.timerfd_settime(often, initial=0.05, interval=0.05)

    def check():
        os.timerfd_settime(once, initial=0.2)
        start = time.monotonic()
        equal(struct.unpack("Q", os.read(once, 8)), (1,), "expirations")
        true(0.19 < time.monotonic() - start < PATIENCE, "it fired at the wrong time")
        true(select.select([often], [], [], PATIENCE)[0], "the other timer has stopped")
        expirations = struct.unpack("Q", os.read(often, 8))[0]
        true(expirations < 20 * 3600, f"{expirations} expirations at once")

    return check


def timerfd_pending():
    """It was set before the freeze and is due after it, by the monotonic clock."""
    t = os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK)
    os.timerfd_settime(t, initial=3600)

    def check():
        left, _ = os.timerfd_gettime(t)
        true(0 < left <= 3600, f"{left} s are left")

    return check


def timerfd_wall():
    """It is due at a time of day."""
    t = os.timerfd_create(time.CLOCK_REALTIME, flags=os.TFD_NONBLOCK)
    os.timerfd_settime(t, flags=os.TFD_TIMER_ABSTIME, initial=time.time() + 3600)

    def check():
        left, _ = os.timerfd_gettime(t)
        true(0 < left <= 3600, f"{left} s are left")

    return check


class Sigevent(ctypes.Structure):
    _fields_ = [("value", ctypes.c_void_p), ("signo", ctypes.c_int), ("notify", ctypes.c_int), ("pad", ctypes.c_int * 12)]


def posix_timer():
    """timer_create: a signal twenty times a second."""
    count = counter(signal.SIGUSR1)
    timer = ctypes.c_void_p()
    must(libc.timer_create(1, ctypes.byref(Sigevent(signo=signal.SIGUSR1)), ctypes.byref(timer)), "timer_create")
    spec = (ctypes.c_long * 4)(0, 50_000_000, 0, 50_000_000)
    must(libc.timer_settime(timer, 0, spec, None), "timer_settime")
    return lambda: counts_on(count)


def interval_timer():
    count = counter(signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    return lambda: counts_on(count)


def counter(signo):
    count = [0]

    def handler(*_):
        count[0] += 1

    signal.signal(signo, handler)
    return count


def counts_on(count):
    before, end = count[0], time.monotonic() + PATIENCE
    while count[0] == before:
        true(time.monotonic() < end, "no signal comes")
        time.sleep(0.01)


def signalfd():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    mask = ctypes.create_string_buffer(struct.pack("Q", 1 << signal.SIGUSR1 - 1))
    fd = syscall(289, -1, mask, 8, 0)
    os.kill(os.getpid(), signal.SIGUSR1)

    def check():
        true(select.select([fd], [], [], PATIENCE)[0], "the signal that waited is gone")
        equal(struct.unpack("I", os.read(fd, 128)[:4])[0], signal.SIGUSR1, "signal")
        os.kill(os.getpid(), signal.SIGUSR1)

    return check


IN_CREATE, IN_NONBLOCK, IN_CLOEXEC = 0x100, 0o4000, 0o2000000


def inotify_disk():
    return inotify("/var/lib/app/watched")


def inotify_file():
    """A file of the image, as programs watch their configuration."""
    fd = must(libc.inotify_init1(IN_NONBLOCK), "inotify_init1")
    must(libc.inotify_add_watch(fd, b"/etc/passwd", 0x20), "inotify_add_watch")

    def check():
        open("/etc/passwd").close()
        true(select.select([fd], [], [], PATIENCE)[0], "no event comes")
        os.read(fd, 4096)

    return check


def inotify_tmpfs():
    return inotify("/dev/shm/watched")


def inotify_tree():
    """A tree of directories, as watchers of source code do."""
    for i in range(50):
        os.makedirs(f"/var/lib/app/tree/{i}/below", exist_ok=True)
    fd = must(libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC), "inotify_init1")
    for directory, _, _ in os.walk("/var/lib/app/tree"):
        must(libc.inotify_add_watch(fd, directory.encode(), IN_CREATE), "inotify_add_watch")
    return lambda: sees(fd, "/var/lib/app/tree/49/below")


def inotify(directory):
    os.makedirs(directory, exist_ok=True)
    fd = must(libc.inotify_init1(IN_NONBLOCK), "inotify_init1")
    must(libc.inotify_add_watch(fd, directory.encode(), IN_CREATE), "inotify_add_watch")
    return lambda: sees(fd, directory)


def sees(fd, directory):
    name = os.path.join(directory, f"{time.time_ns()}")
    open(name, "w").close()
    true(select.select([fd], [], [], PATIENCE)[0], "no event comes")
    events = os.read(fd, 4096)
    os.unlink(name)
    true(os.path.basename(name).encode() in events, f"another event came: {events!r}")


def fanotify():
    fd = must(libc.fanotify_init(0x200, 0), "fanotify_init")  # FAN_REPORT_FID: needs no rights
    os.makedirs("/var/lib/app/watched", exist_ok=True)
    libc.fanotify_mark.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_ulong, ctypes.c_int, ctypes.c_char_p]
    must(libc.fanotify_mark(fd, 1, 0x100, -100, b"/var/lib/app/watched"), "fanotify_mark")

    def check():
        open("/var/lib/app/watched/file", "w").close()
        os.unlink("/var/lib/app/watched/file")
        true(select.select([fd], [], [], PATIENCE)[0], "no event comes")
        os.read(fd, 4096)

    return check


def pidfd():
    child = os.fork()
    if child == 0:
        while True:
            time.sleep(1)
    fd = os.pidfd_open(child)
    return lambda: signal.pidfd_send_signal(fd, signal.SIGCONT)


def io_uring():
    parameters = ctypes.create_string_buffer(120)
    fd = syscall(425, 8, parameters)
    return lambda: true(os.fstat(fd), "closed")


def perf_event():
    attributes = ctypes.create_string_buffer(struct.pack("IIQ", 1, 128, 0) + bytes(112))  # software: cpu-clock
    fd = syscall(298, attributes, 0, -1, -1, 0)
    return lambda: equal(len(os.read(fd, 8)), 8, "counter")


def condition_variable():
    """A thread that waits with a deadline, and one that waits for ever."""
    condition, woken = threading.Condition(), []

    def wait(timeout):
        while True:
            with condition:
                condition.wait(timeout)
                woken.append(timeout)

    for timeout in (0.1, None):
        threading.Thread(target=wait, args=(timeout,), daemon=True).start()

    def check():
        woken.clear()
        with condition:
            condition.notify_all()
        end = time.monotonic() + PATIENCE
        while not {0.1, None} <= set(woken):
            true(time.monotonic() < end, f"only {set(woken)} woke up")
            time.sleep(0.01)

    return check


def clocks():
    """The monotonic clock goes on where it stopped, and the wall clock is right."""
    monotonic, boot = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)

    def check():
        true(0 <= time.monotonic() - monotonic < 3600, "the monotonic clock has jumped")
        true(0 <= time.clock_gettime(time.CLOCK_BOOTTIME) - boot < 3600, "the clock since boot has jumped")
        with open("/tmp/now", "w") as f:
            true(abs(os.fstat(f.fileno()).st_mtime - time.time()) < 2, "the wall clock is wrong")

    return check
