"""The smallest WSGI application. Its hook, new-workers.sh, has gunicorn start new workers."""
import random


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{random.random()}\n".encode()]
