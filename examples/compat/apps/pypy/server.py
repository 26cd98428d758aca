"""Has PyPy compile a loop, and a hook that reseeds its generator."""
import http.server
import random


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        total = 0
        for i in range(100000):
            total = (total * 31 + i) % 1000003
        self.answer(f"{total} {random.random()}\n")

    def do_POST(self):
        random.seed()  # from the kernel
        self.answer("")

    def answer(self, text):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass


http.server.HTTPServer(("", 8080), Handler).serve_forever()
