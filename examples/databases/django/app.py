"""A small Django project. Its hook makes a clone what it would be had it booted in its own allocation."""
import json, os, pathlib, random, shlex, socket, ssl, time

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import OperationalError, connections
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "NAME": "postgres", "USER": "app",
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,  # each thread has a connection of its own, and opens it anew where it has ended
    }},
    INSTALLED_APPS=["visits"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="not one",
)
django.setup()

from visits.models import Visit


def open_database():
    """The clone's PostgreSQL is another one than the donor's: it may be starting still, and have no tables."""
    while True:
        connections.close_all()
        try:
            return call_command("migrate")
        except OperationalError:
            time.sleep(0.1)


def reseed(random_bytes):
    ssl.RAND_add(random_bytes, len(random_bytes))
    random.seed(random_bytes)


def index(request):
    Visit.objects.create()
    return JsonResponse({
        "hostname": socket.gethostname(), "requests": Visit.objects.count(), "random": f"{random.getrandbits(128):032x}",
        "allocation": os.environ.get("NOMAD_ALLOC_ID"),
    })


@csrf_exempt
def after_restore(request):
    reseed(bytes.fromhex(json.loads(request.body)["random"]))
    variables = shlex.split(pathlib.Path("/local/criu-docker.env").read_text())
    os.environ.update(line.split("=", 1) for line in variables)
    open_database()
    return HttpResponse()


urlpatterns = [path("", index), path("after-restore", after_restore)]
open_database()
app = get_wsgi_application()
