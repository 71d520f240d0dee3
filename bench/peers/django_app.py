"""The login with Django: its auth, its sessions in the database, its protection from CSRF.

Run as a script, it makes the table of the sessions.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import common
import django
from django.conf import settings

settings.configure(
    SECRET_KEY=common.SECRET_KEY,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django_peer",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        f"{__name__}.CsrfMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": common.DATABASE["database"],
            "USER": common.DATABASE["username"],
            "PASSWORD": common.DATABASE["password"] or "",
            "HOST": common.DATABASE["host"],
            "PORT": common.DATABASE["port"] or "",
            "CONN_MAX_AGE": None,
        }
    },
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "DIRS": [Path(__file__).parent / "templates"],
            "OPTIONS": {
                "context_processors": ["django.contrib.auth.context_processors.auth"],
                "builtins": [__name__],
            },
        }
    ],
    AUTH_USER_MODEL="django_peer.User",
    PASSWORD_HASHERS=["django_peer.models.Argon2"],
    LOGIN_URL="/login",
    SESSION_EXPIRE_AT_BROWSER_CLOSE=True,
    USE_I18N=False,
)
django.setup()

# Only now, for these need the settings.
from django.contrib.auth import authenticate, login, logout  # noqa: E402
from django.contrib.auth.decorators import login_required  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import IntegrityError, transaction  # noqa: E402
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse  # noqa: E402
from django.middleware.csrf import CsrfViewMiddleware  # noqa: E402
from django.shortcuts import redirect, render  # noqa: E402
from django.template import Library  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402
from django.views.decorators.http import require_POST  # noqa: E402
from django_peer.models import Event, LoginSession, User  # noqa: E402

register = Library()  # Django looks for this name
for filter_name, function in common.FILTERS.items():
    register.filter(filter_name, function)


class CsrfMiddleware(CsrfViewMiddleware):
    """Django's own, which takes the field that the forms of all peers have for its header."""

    def process_view(self, request: HttpRequest, *view: Any) -> HttpResponse | None:
        """Refuse a form that is not of this site."""
        if request.method == "POST":
            token = request.POST.get("csrf_token", "")
            request.META.setdefault(settings.CSRF_HEADER_NAME, token)
        return super().process_view(request, *view)


def greet(request: HttpRequest) -> HttpResponse:
    """JSON for programs, a page for browsers."""
    if "text/html" in request.headers.get("Accept", ""):
        return render(request, "home.html", {"greeting": common.GREETING})
    return JsonResponse({"answer": common.GREETING})


def is_alive(_request: HttpRequest) -> HttpResponse:
    """The process answers."""
    return JsonResponse({"status": "ok"})


def sign_up(request: HttpRequest) -> HttpResponse:
    """The form; posted, a new account, logged in."""
    if request.method != "POST":
        return render(request, "register.html", {"values": {}, "errors": {}})
    form = request.POST
    name, email = form.get("name", "").strip(), form.get("email", "").strip()
    password = form.get("password", "")
    errors = common.registration_errors(name, email, password, form.get("confirm", ""))
    if not errors:
        user = User(name=name, email=email)
        user.set_password(password)
        try:
            with transaction.atomic():
                user.save()
                begin_session(request, user)
        except IntegrityError:
            errors = common.TAKEN
        else:
            return redirect("/account")
    return render(request, "register.html", {"values": form, "errors": errors}, status=422)


def log_in(request: HttpRequest) -> HttpResponse:
    """The form; posted, a new session, and on to where the person wanted to go."""
    if request.method != "POST":
        return render(request, "login.html", {"values": request.GET, "errors": {}})
    form = request.POST
    user = authenticate(
        request, username=form.get("email", "").strip(), password=form.get("password", "")
    )
    if user is None:
        context = {"values": form, "errors": common.REFUSED}
        return render(request, "login.html", context, status=422)
    with transaction.atomic():
        begin_session(request, user)
    if "remember" in form:
        request.session.set_expiry(timedelta(days=14))
    return redirect(common.local_path(form.get("next")))


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    """End the session."""
    logout(request)
    return HttpResponseRedirect("/")


@login_required
def show_account(request: HttpRequest) -> HttpResponse:
    """Who you are, where you are logged in, and what happened."""
    sessions = LoginSession.objects.filter(user=request.user, expires_at__gt=timezone.now())
    events = Event.objects.filter(user=request.user).order_by("-happened_at", "-id")[:100]
    return render(request, "account.html", {"sessions": sessions, "events": list(events)[:10]})


def begin_session(request: HttpRequest, user: Any) -> None:
    """Log the user in, which notes when, and note where from."""
    login(request, user)
    address = request.META["REMOTE_ADDR"] or None
    LoginSession.objects.create(
        id=os.urandom(32),
        user=user,
        idle_limit=common.IDLE_LIMIT,
        expires_at=timezone.now() + common.LIFETIME,
        address=address,
        device="Unknown device",
    )
    Event.objects.create(event="logged_in", user=user, address=address)


urlpatterns = [
    path("", greet),
    path("healthz", is_alive),
    path("register", sign_up),
    path("login", log_in),
    path("logout", log_out),
    path("account", show_account),
]

application = get_wsgi_application()

if __name__ == "__main__":
    call_command("migrate", "sessions", verbosity=0)
