"""Runs one resource: serve.py MODULE FUNCTION. The function makes what it is about and returns a function that checks it.

GET / checks once: 200 if all is as it should be, else 500 with what is not. The check runs in the donor, in its clones, and in
containers that were booted cold.
"""

import http.server
import importlib
import os
import signal
import sys
import traceback


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def do_GET(self):
        status, answer = 200, "ok"
        try:
            check()
        except Exception as e:
            traceback.print_exc()
            status, answer = 500, f"{type(e).__name__}: {e}"
        body = answer.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # as process 1 it would ignore it
    module, function = sys.argv[1:]
    check = getattr(importlib.import_module(module), function)()
    http.server.HTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
