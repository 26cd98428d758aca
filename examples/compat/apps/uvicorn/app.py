"""The smallest ASGI application, with a hook that reseeds Python's generator."""
import random


async def app(scope, receive, send):
    if scope["path"] == "/after-restore":
        random.seed()  # from the kernel
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": f"{random.random()}\n".encode()})
