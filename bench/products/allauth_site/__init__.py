"""django-allauth with user sessions and MFA, on the settings of startproject."""

import os

from django.conf import settings
from django.contrib.auth.hashers import Argon2PasswordHasher, make_password
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.shortcuts import render
from django.urls import include, path

GREETING = "Hello World, Little Dude, How Are You?"
VALIDATORS = ("UserAttributeSimilarity", "MinimumLength", "CommonPassword", "NumericPassword")
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
]
CONTEXT = ("template.context_processors.request", "contrib.auth.context_processors.auth")
CONTEXT += ("contrib.messages.context_processors.messages",)
TEMPLATES = {"APP_DIRS": True, "OPTIONS": {"context_processors": [f"django.{n}" for n in CONTEXT]}}
DATABASE = {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"]}
DATABASE["CONN_MAX_AGE"] = None


class Hasher(Argon2PasswordHasher):
    memory_cost, time_cost, parallelism = map(int, os.environ["ARGON2"].split(","))


settings.configure(
    SECRET_KEY=os.environ["SECRET_KEY"],
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    STATIC_URL="static/",
    DATABASES={"default": DATABASE},
    PASSWORD_HASHERS=[f"{__name__}.Hasher"],
    AUTH_PASSWORD_VALIDATORS=[
        {"NAME": f"django.contrib.auth.password_validation.{name}Validator"} for name in VALIDATORS
    ],
    INSTALLED_APPS=[
        *(f"django.contrib.{name}" for name in ("auth", "contenttypes", "sessions", "messages")),
        *("django.contrib.staticfiles", "django.contrib.humanize"),
        *("allauth", "allauth.account", "allauth.mfa", "allauth.usersessions", __name__),
    ],
    MIDDLEWARE=MIDDLEWARE,
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", **TEMPLATES}],
    AUTHENTICATION_BACKENDS=["allauth.account.auth_backends.AuthenticationBackend"],
    AUTH_USER_MODEL="allauth_site.User",
    ALLAUTH_TRUSTED_PROXY_COUNT=1,
    ACCOUNT_LOGIN_METHODS={"email"},
    ACCOUNT_SIGNUP_FIELDS=["email*", "password1*", "password2*"],
    ACCOUNT_USER_MODEL_USERNAME_FIELD=None,
    ACCOUNT_EMAIL_VERIFICATION="none",
    LOGIN_REDIRECT_URL="/",
)
app = get_wsgi_application()


def greet(request):
    if "text/html" in request.headers.get("Accept", ""):
        return render(request, "home.html", {"title": GREETING})
    return JsonResponse({"answer": GREETING})


urlpatterns = [path("", greet), path("accounts/", include("allauth.urls"))]


def prepare(users, password):
    """Make the tables and accounts."""
    from allauth.account.models import EmailAddress

    from .models import User

    call_command("migrate", "auth", verbosity=0)
    call_command("migrate", run_syncdb=True, verbosity=0)
    hashed = make_password(password)
    emails = [f"user{n}@example.com" for n in range(1, users + 1)]
    made = User.objects.bulk_create([User(email=email, password=hashed) for email in emails])
    addresses = [EmailAddress(user=each, email=each.email, primary=True) for each in made]
    EmailAddress.objects.bulk_create(addresses)
