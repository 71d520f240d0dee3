"""This site's cookies, and a filter for the Cookie header.

WebOb splits a Cookie header at blanks and commas as well as at semicolons, and takes the last value
of a name.  So a sibling subdomain's cookie with " __Host-session=..." in its value would override
the real session cookie.  Its regular expression also takes quadratic time.  The filter reads the
header before WebOb does.
"""

import re
from collections.abc import Callable, Collection
from typing import Any

from ..settings import Settings

COOKIES = ("session", "half_login", "device", "csrf_token", "flash", "typed")
"""All cookies that this site sets; in production each name starts with __Host-."""

MAX_VALUE_LENGTH = 4096
"""Browsers do not store a longer cookie (RFC 6265, 6.1; ASVS 5.0, 3.3.5)."""

VALUE = re.compile(r'("?)[!#-+\--:<-\[\]-~]*\1')
"""A cookie's value, which may be quoted (RFC 6265, 4.1.1: cookie-value)."""


def cookie_name(settings: Settings, name: str) -> str:
    """Return the name in full: a prefix ties a Secure cookie to this host (ASVS 5.0, 3.3.1)."""
    return f"__Host-{name}" if settings.secure_cookies else name


def get_cookie(request: Any, name: str) -> str:
    """Return the value of this site's cookie, or "" if there is none."""
    return str(request.cookies.get(cookie_name(request.registry.hello_login, name), ""))


def set_cookie(request: Any, response: Any, name: str, value: str, max_age: int | None) -> None:
    """Set this site's cookie.

    max_age: in seconds.  With None, the cookie ends when the browser is closed.
    """
    settings = request.registry.hello_login
    protection = {"secure": settings.secure_cookies, "httponly": True, "samesite": "Lax"}
    response.set_cookie(cookie_name(settings, name), value, max_age=max_age, **protection)


def delete_cookie(request: Any, name: str) -> None:
    """Delete this site's cookie with the response, if the browser has it."""
    if get_cookie(request, name):
        request.add_response_callback(
            lambda request, response: set_cookie(request, response, name, "", 0)
        )


def keep_own_cookies(header: str, names: Collection[str]) -> str:
    """Return the Cookie header with only the first cookie of each of these names.

    A cookie that is too long, or has a character that RFC 6265 forbids, is left out.
    """
    kept: dict[str, str] = {}
    for pair in header.split(";"):
        name, _, value = pair.strip(" \t").partition("=")
        if name in names:
            kept.setdefault(name, value)
    return "; ".join(
        f"{name}={value}"
        for name, value in kept.items()
        if len(value) <= MAX_VALUE_LENGTH and VALUE.fullmatch(value)
    )


def filter_cookies(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    """Remove other sites' cookies from each request (a tween)."""
    names = {cookie_name(registry.hello_login, name) for name in COOKIES}

    def tween(request: Any) -> Any:
        header = request.environ.get("HTTP_COOKIE", "")
        request.environ["HTTP_COOKIE"] = keep_own_cookies(header, names)
        return handler(request)

    return tween
