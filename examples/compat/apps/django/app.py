"""A Django project in one file, with a hook that reseeds Python's generator."""
import random

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.template import engines
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

settings.configure(
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="not one",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)


def index(request):
    page = engines["django"].from_string("<p>{{ number }}</p>")
    return HttpResponse(page.render({"number": random.random()}, request))


@csrf_exempt
def after_restore(request):
    random.seed()  # from the kernel
    return HttpResponse()


urlpatterns = [path("", index), path("after-restore", after_restore)]
app = get_wsgi_application()
