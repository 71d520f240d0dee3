"""What stands around every request: the headers of its answer, and a guard against nonsense."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from pyramid.httpexceptions import HTTPBadRequest
from pyramid.tweens import EXCVIEW, INGRESS

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not no-referrer: with that, browsers send "Origin: null" with our own forms, which the CSRF
    # check refuses over https.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""ASVS 5.0, 3.4."""

HTTPS_HEADERS = {"Strict-Transport-Security": "max-age=31536000; includeSubDomains"}
"""A year, as ASVS 5.0, 3.4.1 asks for."""


def includeme(config: Any) -> None:
    """Add them."""
    config.add_tween(
        "hello_login.tweens.add_headers", under=INGRESS, over="pyramid_tm.tm_tween_factory"
    )
    config.add_tween("hello_login.tweens.refuse_malformed", under=EXCVIEW)


def add_headers(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    """A tween: the one place for the headers of every response that is not waitress's own."""

    # Not by the request's scheme, which is http where nobody has set TRUSTED_PROXY; over http,
    # browsers do not heed it.
    headers = HEADERS | (HTTPS_HEADERS if registry.hello_login.secure_cookies else {})

    def tween(request: Any) -> Any:
        response = handler(request)
        response.headers.update(headers)
        # Static files say how long they may be kept; all else may know who asked, or hold a form.
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return tween


def refuse_malformed(handler: Callable[[Any], Any], _registry: Any) -> Callable[[Any], Any]:
    """A tween: the one place for what can't be decoded, and for what no form of ours sends.

    Raises HTTPBadRequest.
    """

    def tween(request: Any) -> Any:
        try:
            _ = request.path_info, dict(request.cookies)
            values = [part for item in request.params.items() for part in item]
            # Pyramid's CSRF check takes them apart, and would not expect that to fail.
            for header in ("Origin", "Referer"):
                urlsplit(request.headers.get(header, ""))
        # WebOb raises all of these; a UnicodeDecodeError is a ValueError.
        except (ValueError, LookupError, DeprecationWarning) as error:
            raise HTTPBadRequest("What the browser sent can't be decoded.") from error
        if not all(isinstance(value, str) and "\0" not in value for value in values):
            raise HTTPBadRequest("What the browser sent has a file or a NUL where text belongs.")
        return handler(request)

    return tween
