"""What stands around every request: the headers of its answer, and a guard against nonsense."""

import logging
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from pyramid.httpexceptions import HTTPBadRequest, HTTPNotFound, HTTPUnsupportedMediaType
from pyramid.tweens import EXCVIEW, INGRESS
from pyramid_retry import is_error_retryable

from ..auth.clients import parse_address

log = logging.getLogger(__name__)

REFUSED = "hello_login.refused"
"""An HTTPError, by which the server asks for nothing but an answer that says so."""

LONGEST_PATH = 200
"""Characters; no path of this site has more than 60."""

CONDITIONS = (
    *("HTTP_RANGE", "HTTP_IF_RANGE", "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"),
    *("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE"),
)
"""Headers that ask for a part of an answer, or for none if nothing has changed."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
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

FORM_TYPE = re.compile(r"(application/x-www-form-urlencoded(; ?charset=(utf|UTF)-8)?)?")
"""Content-Type of every form here.  The time that cgi takes to parse a longer one, or the head of a
part of multipart/form-data, is quadratic in its length."""

PARSED_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
"""WebOb parses a body of these types, whatever the method."""

MOST_FIELDS = 100
"""No form here has more than ten.  20,000 empty ones cost WebOb a quarter of a second."""


def includeme(config: Any) -> None:
    """Add them."""
    config.add_tween(f"{__name__}.log_requests", under=INGRESS, over=f"{__name__}.add_headers")
    config.add_tween(f"{__name__}.add_headers", under=INGRESS, over="pyramid_tm.tm_tween_factory")
    config.add_tween(
        "hello_login.web.cookies.filter_cookies", under=INGRESS, over=f"{__name__}.log_requests"
    )
    config.add_tween(f"{__name__}.refuse_malformed", under=EXCVIEW)


def log_requests(handler: Callable[[Any], Any], _registry: Any) -> Callable[[Any], Any]:
    """A tween: a line for each request, and its id in the answer, so that a person can quote it."""

    def tween(request: Any) -> Any:
        started = time.perf_counter()
        response = handler(request)
        response.headers["X-Request-ID"] = request.id
        if not is_error_retryable(request, request.exception):
            route = request.matched_route
            fields = {
                "method": request.method,
                "route": route and route.name,
                "status": response.status_int,
                "ms": round((time.perf_counter() - started) * 1000, 1),
                "request_id": request.id,
                "address": parse_address(request.remote_addr),
                "user_id": request.loaded_user_id,
            }
            log.info("answered", extra={"fields": fields})
        return response

    return tween


def add_headers(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    """A tween: the one place for the headers of every response that is not waitress's own."""

    # Not by the request's scheme, which is http where TRUSTED_PROXY does not fit; over http,
    # browsers ignore it.
    https = HTTPS_HEADERS if registry.hello_login.secure_cookies else {}
    headers = [*HEADERS.items(), *https.items()]

    def tween(request: Any) -> Any:
        response = handler(request)
        # No view has any of them; to look, once for each, took a seventh of the greeting's time.
        response.headerlist.extend(headers)
        # Static files say how long they may be kept; all else may know who asked, or hold a form.
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return tween


def refuse_malformed(handler: Callable[[Any], Any], _registry: Any) -> Callable[[Any], Any]:
    """A tween: the one place for what can't be decoded, and for what no form of ours sends.

    Raises HTTPBadRequest, HTTPNotFound or HTTPUnsupportedMediaType.
    """

    def tween(request: Any) -> Any:
        environ = request.environ
        if REFUSED in environ:
            raise environ[REFUSED]
        # Pyramid keeps the parts of the last 1,000 paths, whatever their length.
        if len(environ["PATH_INFO"]) > LONGEST_PATH:
            raise HTTPNotFound
        # WebOb fails for dates and ranges that are none, after all tweens; no page needs either.
        for name in CONDITIONS:
            environ.pop(name, None)
        _refuse_unparsed(request)
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


def _refuse_unparsed(request: Any) -> None:
    """Raise HTTPUnsupportedMediaType or HTTPBadRequest for what is too dear to parse."""
    content_type = request.environ.get("CONTENT_TYPE", "")
    may_be_form = request.method == "POST" or request.content_type in PARSED_TYPES
    if may_be_form and not FORM_TYPE.fullmatch(content_type):
        raise HTTPUnsupportedMediaType("The content is not of the type that forms here have.")
    if request.query_string.count("&") + request.body.count(b"&") >= MOST_FIELDS:
        raise HTTPBadRequest("What the browser sent has more fields than a form here has.")
