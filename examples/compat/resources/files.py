import errno
import fcntl
import mmap
import os
import struct
import threading

from kernel import equal, true

HOME = "/var/lib/app"


def layer():
    """A log in the container's own layer: it is written on, and what is in it stays."""
    return log(HOME + "/log")


def volume():
    return log("/volume/log")


def task_directories():
    checks = [log(f"/{name}/log") for name in ("alloc", "local", "secrets")]

    def check():
        for c in checks:
            c()

    return check


def tmpfs():
    return log("/tmpfs/log")


def log(path):
    f = open(path, "ab+", buffering=0)
    f.write(b"first\n")

    def check():
        f.write(b"next\n")
        with open(path, "rb") as again:
            true(again.read().startswith(b"first\nnext\n"), "the file by its name is another one, or empty")

    return check


def position():
    f = open("/etc/passwd", "rb", buffering=0)
    f.seek(5)

    def check():
        equal(f.tell(), 5, "position")

    return check


def shared_position():
    """One open file with two descriptors, of which a child has one."""
    f = open(HOME + "/file", "wb+", buffering=0)
    r, w = os.pipe()
    r2, w2 = os.pipe()
    if os.fork() == 0:
        while os.read(r, 1):
            f.seek(7)
            os.write(w2, b"x")

    def check():
        f.seek(0)
        os.write(w, b"x")
        os.read(r2, 1)
        equal(f.tell(), 7, "position that the child has set")

    return check


def deleted():
    """A temporary file without a name any more."""
    f = open(HOME + "/temporary", "wb+", buffering=0)
    f.write(b"first")
    os.unlink(HOME + "/temporary")

    def check():
        f.seek(0)
        equal(f.read(5), b"first", "content")
        f.write(b"more")
        true(not os.path.exists(HOME + "/temporary"), "the name is back")

    return check


def unnamed():
    fd = os.open(HOME, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"first")
    return lambda: equal(os.pread(fd, 5, 0), b"first", "content")


def deleted_under_one_name():
    """Two names, of which the one that it was opened under is gone: so locks and semaphores are made."""
    f = open(HOME + "/temporary", "wb+", buffering=0)
    f.write(b"first")
    os.link(HOME + "/temporary", HOME + "/final")
    os.unlink(HOME + "/temporary")

    def check():
        f.seek(0)
        equal(f.read(5), b"first", "content")
        equal(os.fstat(f.fileno()).st_ino, os.stat(HOME + "/final").st_ino, "inode under the other name")
        equal(sorted(n for n in os.listdir(HOME) if n != "final" and not n.startswith(".")), [], "what else is there")

    return check


def large_deleted():
    """100 MiB of a file without a name."""
    f = open(HOME + "/temporary", "wb+", buffering=0)
    for _ in range(100):
        f.write(bytes(1 << 20))
    os.unlink(HOME + "/temporary")
    return lambda: equal(os.fstat(f.fileno()).st_size, 100 << 20, "size")


def sparse():
    f = open(HOME + "/sparse", "wb+", buffering=0)
    f.truncate(1 << 26)
    os.pwrite(f.fileno(), b"end", (1 << 26) - 3)

    def check():
        equal(os.pread(f.fileno(), 3, (1 << 26) - 3), b"end", "content")
        true(os.fstat(f.fileno()).st_blocks < 1000, "the holes are filled")

    return check


def mapped_shared():
    f = open(HOME + "/mapped", "wb+")
    f.truncate(1 << 20)
    m = mmap.mmap(f.fileno(), 1 << 20)
    m[0:5] = b"first"

    def check():
        equal(m[0:5], b"first", "memory")
        m[8:12] = b"next"
        equal(os.pread(f.fileno(), 4, 8), b"next", "file")

    return check


def mapped_private():
    """A file of the image, changed in memory only."""
    with open("/etc/passwd", "rb") as f:
        m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)
    m[0:5] = b"first"

    def check():
        equal(m[0:5], b"first", "memory")
        with open("/etc/passwd", "rb") as f:
            equal(f.read(5), b"root:", "file")

    return check


def mapped_deleted():
    f = open(HOME + "/mapped", "wb+")
    f.truncate(1 << 20)
    m = mmap.mmap(f.fileno(), 1 << 20)
    m[0:5] = b"first"
    os.unlink(f.name)
    f.close()
    return lambda: equal(m[0:5], b"first", "memory")


def locked_flock():
    return locked(lambda f: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB))


def locked_posix():
    return locked(lambda f: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB))


def locked_open_file():
    whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
    return locked(lambda f: fcntl.fcntl(f, 37, whole))  # F_OFD_SETLK


def locked(lock):
    f = open(HOME + "/lock", "wb+")
    lock(f)

    def check():
        true(not f.closed, "closed")
        child = os.fork()
        if child == 0:
            try:
                lock(open(HOME + "/lock", "rb+"))
                os._exit(0)
            except OSError as e:
                os._exit(e.errno)
        equal(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), errno.EAGAIN, "error of another process that locks the file")

    return check


def lease():
    f = open(HOME + "/lease", "wb+")
    fcntl.fcntl(f, 1024, fcntl.F_WRLCK)  # F_SETLEASE
    return lambda: equal(fcntl.fcntl(f, 1025), fcntl.F_WRLCK, "lease")


def directory():
    fd = os.open("/etc", os.O_RDONLY | os.O_DIRECTORY)
    path = os.open("/etc/passwd", os.O_PATH)

    def check():
        true("passwd" in os.listdir(fd), "/etc is empty")
        equal(os.readlink(f"/proc/self/fd/{path}"), "/etc/passwd", "path of a descriptor opened with O_PATH")

    return check


def working_directory():
    os.makedirs(HOME + "/work", exist_ok=True)
    os.chdir(HOME + "/work")

    def check():
        open("here", "w").close()
        true(os.path.exists(HOME + "/work/here"), "it works in another directory")

    return check


def working_directory_deleted():
    os.mkdir(HOME + "/gone")
    os.chdir(HOME + "/gone")
    os.rmdir(HOME + "/gone")

    def check():
        try:
            os.getcwd()
        except FileNotFoundError:
            return
        raise AssertionError("the directory is back")

    return check


def changed_of_image():
    """Modes, owners and times of what the app has made."""
    os.mkdir(HOME + "/made", 0o700)
    with open(HOME + "/made/file", "w") as f:
        os.fchmod(f.fileno(), 0o640)
        os.utime(f.fileno(), (1, 2))
    os.symlink("file", HOME + "/made/link")

    def check():
        st = os.stat(HOME + "/made/link")
        equal((st.st_mode & 0o7777, st.st_mtime, st.st_uid), (0o640, 2, os.getuid()), "mode, time and owner")
        equal(os.stat(HOME + "/made").st_mode & 0o7777, 0o700, "mode of the directory")

    return check


def extended_attribute():
    with open(HOME + "/file", "w") as f:
        os.setxattr(f.fileno(), "user.note", b"kept")
    return lambda: equal(os.getxattr(HOME + "/file", "user.note"), b"kept", "extended attribute")


def device():
    null, random = open("/dev/null", "wb"), open("/dev/urandom", "rb", buffering=0)

    def check():
        null.write(b"x")
        equal(len(random.read(16)), 16, "bytes")

    return check


def proc():
    """Files of /proc that stay open, as monitoring agents keep them."""
    own, system = open("/proc/self/stat"), open("/proc/meminfo")

    def check():
        own.seek(0)
        equal(own.read().split()[0], str(os.getpid()), "process id")
        system.seek(0)
        true("MemTotal" in system.read(), "nothing is in it")

    return check


def proc_of_child():
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(w)
        os.read(r, 1)
        os._exit(0)
    f = open(f"/proc/{child}/stat")

    def check():
        f.seek(0)
        equal(f.read().split()[0], str(child), "process id")

    return check


def standard_output():
    def check():
        print("written", flush=True)

    return check


def many():
    """A thousand open files."""
    files = [open("/etc/passwd", "rb") for _ in range(900)]
    return lambda: [equal(f.read(5) and f.seek(0), 0, "position") for f in files]


def written_meanwhile():
    """A thread that writes a log all the time."""
    f = open(HOME + "/busy", "ab", buffering=0)
    stop = threading.Event()

    def write():
        while not stop.wait(0.001):
            f.write(b"line\n")

    threading.Thread(target=write, daemon=True).start()

    def check():
        before = os.path.getsize(f.name)
        for _ in range(3000):
            if os.path.getsize(f.name) > before:
                return
            stop.wait(0.01)
        raise AssertionError("the log does not grow")

    return check
