"""Uses most of what the module multiprocessing has, at each request."""
import http.server
import multiprocessing
from multiprocessing.shared_memory import SharedMemory

lock = semaphore = memory = None  # of this process; workers get theirs from begin


def begin(*shared):
    global lock, semaphore, memory
    lock, semaphore, name = shared
    memory = SharedMemory(name, track=False)


def add(n):
    with semaphore, lock:
        memory.buf[0] = (memory.buf[0] + n) % 256


def echo(questions, answers):
    while True:
        answers.put(questions.get())


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        before = memory.buf[0]
        pool.map(add, range(20), chunksize=1)
        questions.put("ok")
        right = answers.get() == "ok" and memory.buf[0] == (before + sum(range(20))) % 256
        self.send_response(200 if right else 500)
        self.end_headers()

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    shared = SharedMemory(create=True, size=1)
    lock, semaphore, memory = multiprocessing.Lock(), multiprocessing.BoundedSemaphore(2), shared
    pool = multiprocessing.Pool(4, begin, (lock, semaphore, shared.name))  # by a fork server, since Python 3.14
    questions, answers = multiprocessing.Queue(), multiprocessing.Queue()
    multiprocessing.get_context("fork").Process(target=echo, args=(questions, answers), daemon=True).start()
    http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
