"""Thin views: read the form, call accounts, answer."""

import math
from datetime import timedelta
from functools import lru_cache
from typing import Any

from webob.acceptparse import create_accept_header

from ...auth.rate_limits import FOREVER
from ..forms import Form, LoginForm, RegisterForm

JSON, HTML = "application/json", "text/html"
FORM_METHODS = ("GET", "HEAD", "POST")
"""require_methods of a view that shows a form and takes it."""

LOCKED = (
    "There were too many wrong passwords: none is checked here any more. Log in on a device where "
    "you have logged in before, or ask for a new password."
)

UNITS = {"day": timedelta(days=1), "hour": timedelta(hours=1), "minute": timedelta(minutes=1)}


def includeme(config: Any) -> None:
    """Add the views of every module here, and their templates."""
    config.include(".flash")
    config.add_settings(
        {"jinja2.undefined": "strict", "jinja2.trim_blocks": True, "jinja2.lstrip_blocks": True}
    )
    config.scan()


def negotiate_media_type(request: Any, *offers: str) -> str:
    """The media type to answer in: the client's choice, and the first offer where it has none.

    The response must say Vary: Accept.
    """
    return _negotiate(request.environ.get("HTTP_ACCEPT"), offers)


@lru_cache(256)
def _negotiate(accept: str | None, offers: tuple[str, ...]) -> str:
    """Few browsers send many different ones."""
    acceptable = create_accept_header(accept).acceptable_offers(list(offers))
    return str(acceptable[0][0]) if acceptable else offers[0]


def form_context(request: Any, form: Form, **more: Any) -> dict[str, Any]:
    """Return the template's values for a form, and set the status 422 if the form was posted."""
    if request.method == "POST" and request.response.status_int == 200:
        request.response.status_int = 422
    return {"form": form, **more}


def ask_to_wait(request: Any, form: Form, wait: timedelta) -> None:
    """Let the form be shown with a 429 (RFC 6585) and how long to wait.

    Where no time will do, there is no Retry-After.
    """
    request.response.status_int = 429
    if wait == FOREVER:
        form.form_errors = [LOCKED]
    else:
        request.response.retry_after = math.ceil(wait.total_seconds())
        form.form_errors = [f"Too many attempts. Wait {in_words(wait)}, then try again."]


def redirect_url(request: Any, form: LoginForm | RegisterForm) -> str:
    """Return the URL to go to after a login: the page asked for before it, or the account."""
    return form.next.data or str(request.route_path("account"))


def in_words(time: timedelta) -> str:
    """A time in minutes, or in seconds where it is short, rounded up."""
    seconds = math.ceil(time.total_seconds())
    return _count(seconds, "second") if seconds < 60 else _count(math.ceil(seconds / 60), "minute")


def ago(time: timedelta) -> str:
    """How long ago it was, in the largest unit that fits, rounded down."""
    for unit, length in UNITS.items():
        if time >= length:
            return f"{_count(time // length, unit)} ago"
    return "just now"


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
