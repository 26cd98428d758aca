# What Python offers an app that wants something random, and the hook that reseeds it.
import http.server, json, random, secrets, ssl, tempfile, uuid

def values():
    return {
        "random.random": random.random(),
        "uuid.uuid4": str(uuid.uuid4()),
        "secrets.token_hex": secrets.token_hex(16),
        "ssl.RAND_bytes": ssl.RAND_bytes(16).hex(),
        "hash of a string": hash("a"),  # by a seed that is made at boot
        "tempfile": next(tempfile._get_candidate_names()),
    }

def after_restore(random_bytes):
    ssl.RAND_add(random_bytes, len(random_bytes))  # OpenSSL asks the kernel as well, and reseeds the generators of all threads
    random.seed(random_bytes)
    tempfile._name_sequence = None  # a generator of its own; its names are only tried, so a name that is taken does no harm

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(json.dumps(values()) if self.path == "/random" else "")

    def do_POST(self):
        identity = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        after_restore(bytes.fromhex(identity["random"]))
        self.answer("")

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

http.server.HTTPServer(("", 8080), Handler).serve_forever()
