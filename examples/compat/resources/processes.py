import ctypes
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time

from kernel import equal, libc, must, syscall, true

PATIENCE = 30


def child(run=None):
    pid = os.fork()
    if pid == 0:
        if run:
            run()
        while True:
            time.sleep(1)
    return pid


def state(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("State:"):
            return line.split()[1]


def eventually(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        true(time.monotonic() < end, what)
        time.sleep(0.01)


def zombie():
    """A child that has ended and that nobody has waited for yet."""
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    eventually(lambda: state(pid) == "Z", "the child lives")
    return lambda: equal(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT).si_status, 3, "exit status")


def orphan():
    """A process whose parent has ended, below a subreaper."""
    libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    r, w = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.write(w, struct.pack("I", child()))
        os._exit(0)
    os.waitpid(parent, 0)
    (pid,) = struct.unpack("I", os.read(r, 4))
    return lambda: equal(os.waitpid(pid, os.WNOHANG), (0, 0), "the orphan's status")


def stopped():
    pid = child()
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: state(pid) == "T", "the child runs")
    return lambda: equal(state(pid), "T", "state of the child")


def thousand():
    """1,000 programs that wait for input. Forks of this one would each have its memory once more in the snapshot."""
    end, _ = os.pipe()
    children = [subprocess.Popen(["cat"], stdin=end) for _ in range(1000)]

    def check():
        for c in children:
            assert c.poll() is None, "process %d has ended" % c.pid

    return check


def threads():
    """500 threads that wait, each on something of its own."""
    words = [threading.Semaphore(0) for _ in range(500)]
    answers = []
    threading.stack_size(256 << 10)

    def wait(i):
        while True:
            words[i].acquire()
            answers.append(i)

    for i in range(500):
        threading.Thread(target=wait, args=(i,), daemon=True).start()

    def check():
        answers.clear()
        for word in words:
            word.release()
        eventually(lambda: len(answers) == 500, "not all threads answer")

    return check


def main_thread_gone():
    """A child whose first thread has ended while another one goes on."""
    r, w = os.pipe()
    r2, w2 = os.pipe()

    def run():
        def answer():
            while os.read(r, 1):
                os.write(w2, b"x")

        threading.Thread(target=answer).start()
        libc.syscall(60, 0)  # exit, of this thread only

    pid = child(run)
    eventually(lambda: state(pid) == "Z", "its first thread lives")

    def check():
        os.write(w, b"x")
        equal(os.read(r2, 1), b"x", "answer")

    return check


def sessions():
    """A process group and a session of children's own."""
    group = child(lambda: os.setpgid(0, 0))
    session = child(os.setsid)
    eventually(lambda: os.getpgid(group) == group and os.getsid(session) == session, "no group or no session")

    def check():
        equal((os.getpgid(group), os.getsid(session)), (group, session), "process group and session")

    return check


def signals():
    """Handlers, a mask, and a signal that waits behind it."""
    got = []
    signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)

    def check():
        equal(signal.getsignal(signal.SIGUSR2), signal.SIG_IGN, "SIGUSR2")
        true(signal.SIGUSR1 in signal.sigpending(), "the signal that waited is gone")
        equal(got, [], "signals that came in spite of the mask")

    return check


def alternate_stack():
    stack = ctypes.create_string_buffer(65536)
    libc.sigaltstack.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    must(libc.sigaltstack(struct.pack("PixxxxQ", ctypes.addressof(stack), 0, 65536), None), "sigaltstack")
    now = ctypes.create_string_buffer(24)

    def check():
        must(libc.sigaltstack(None, now), "sigaltstack")
        equal(struct.unpack("PixxxxQ", now.raw), (ctypes.addressof(stack), 0, 65536), "the stack for signals")

    return check


def attributes():
    """Nice value, umask, limits, name, and what else belongs to a process."""
    os.nice(7)
    os.umask(0o27)
    libc.prctl(15, b"named")
    libc.prctl(38, 1, 0, 0, 0)  # no_new_privs
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, 700))

    def check():
        equal(os.nice(0), 7, "nice value")
        equal(os.umask(0o27), 0o27, "umask")
        equal(open("/proc/self/comm").read(), "named\n", "name")
        equal(libc.prctl(39, 0, 0, 0, 0), 1, "no_new_privs")
        equal(resource.getrlimit(resource.RLIMIT_NOFILE), (500, 700), "limit of open files")

    return check


def affinity():
    os.sched_setaffinity(0, [0])
    return lambda: equal(os.sched_getaffinity(0), {0}, "processors")


DENY_SYSINFO = [(0x20, 0, 0, 0), (0x15, 0, 1, 99), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000)]  # with EPERM
NOTIFY_SYSINFO = [(0x20, 0, 0, 0), (0x15, 0, 1, 99), (6, 0, 0, 0x7FC00000), (6, 0, 0, 0x7FFF0000)]


def seccomp(instructions, flags=0):
    libc.prctl(38, 1, 0, 0, 0)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in instructions))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(instructions), ctypes.addressof(code)))
    return syscall(317, 1, flags, program)


def denied():
    return libc.sysinfo(ctypes.create_string_buffer(200)) == -1 and ctypes.get_errno() == 1


def seccomp_filter():
    seccomp(DENY_SYSINFO)
    return lambda: true(denied(), "the filter is gone")


def seccomp_filter_of_all_threads():
    answers, go = [], threading.Semaphore(0)

    def run():
        while True:
            go.acquire()
            answers.append(denied())

    threading.Thread(target=run, daemon=True).start()
    seccomp(DENY_SYSINFO, 1)  # SECCOMP_FILTER_FLAG_TSYNC

    def check():
        answers.clear()
        go.release()
        eventually(lambda: answers, "the thread does not answer")
        equal(answers, [True], "the filter works in another thread")

    return check


def seccomp_filter_of_one_thread():
    answers, go = [], threading.Semaphore(0)

    def run():
        seccomp(DENY_SYSINFO)
        while True:
            go.acquire()
            answers.append(denied())

    threading.Thread(target=run, daemon=True).start()

    def check():
        answers.clear()
        go.release()
        eventually(lambda: answers, "the thread does not answer")
        equal((answers, denied()), ([True], False), "the filter works in its thread, and in no other")

    return check


def seccomp_notify():
    """A filter that asks another process."""
    fd = seccomp(NOTIFY_SYSINFO, 8)
    return lambda: true(os.fstat(fd), "closed")


def landlock():
    """No file may be written any more."""
    ruleset = syscall(444, ctypes.create_string_buffer(struct.pack("Q", 1 << 1)), 8, 0)
    libc.prctl(38, 1, 0, 0, 0)
    syscall(446, ruleset, 0)
    os.close(ruleset)

    def check():
        try:
            open("/tmp/written", "w").close()
        except PermissionError:
            return
        raise AssertionError("the app may write again")

    return check


def traced():
    """A child that a debugger is attached to."""
    pid = child()
    libc.ptrace.argtypes = [ctypes.c_long] * 4
    must(libc.ptrace(0x4206, pid, 0, 0), "ptrace")  # PTRACE_SEIZE
    return lambda: os.kill(pid, 0)


def user_namespace():
    pid = child(lambda: must(libc.unshare(0x10000000), "unshare"))
    eventually(lambda: os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user"), "no namespace of its own")
    return lambda: os.kill(pid, 0)


def network_namespace():
    pid = child(lambda: must(libc.unshare(0x40000000), "unshare"))
    eventually(lambda: os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net"), "no namespace of its own")
    return lambda: os.kill(pid, 0)


def mount_namespace():
    """A child with a mount of its own."""

    def mount():
        must(libc.unshare(0x20000), "unshare")
        must(libc.mount(b"own", b"/mnt", b"tmpfs", 0, None), "mount")
        open("/mnt/inside", "w").close()

    pid = child(mount)
    eventually(lambda: os.path.exists(f"/proc/{pid}/root/mnt/inside"), "no mount of its own")

    def check():
        true(os.path.exists(f"/proc/{pid}/root/mnt/inside"), "the mount is gone")
        true(not os.path.exists("/mnt/inside"), "the mount is everybody's")

    return check


def forking():
    """A child that starts processes all the time."""

    def run():
        while True:
            if os.fork() == 0:
                os._exit(0)
            os.wait()

    pid = child(run)
    return lambda: os.kill(pid, 0)


def hostname():
    def check():
        with open("/etc/hostname") as f:
            equal(os.uname().nodename, f.read().strip(), "hostname")

    return check


def exit_status():
    """What a signal does: the container's exit code is the app's."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
    return lambda: None


def keyring():
    """A key in the process's keyring."""
    key = syscall(248, b"user", b"name", b"secret", 6, -2)  # add_key, KEY_SPEC_PROCESS_KEYRING

    def check():
        value = ctypes.create_string_buffer(10)
        equal(syscall(250, 11, key, value, 10), 6, "size of the key")  # KEYCTL_READ

    return check


def transient():
    """Programs that it starts for each answer."""
    return lambda: equal(os.system("true"), 0, "exit status")
