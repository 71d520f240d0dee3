"""Tweens: the access log, response headers, and the refusal of malformed requests."""

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

SERVER_ERROR_KEY = "hello_login.server_error"
"""The environ key of an HTTPError that the server wants to be raised for this request."""

REQUEST_ID_KEY = "hello_login.request_id"
"""The environ key of the request's id.  The server sets it if a trusted proxy has sent one."""

MAX_PATH_LENGTH = 200
"""Characters.  No path of this site has more than 60."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # With no-referrer, browsers send "Origin: null" with this site's own forms, and the CSRF check
    # refuses them over https.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every response (ASVS 5.0, 3.4)."""

HTTPS_HEADERS = {"Strict-Transport-Security": "max-age=31536000; includeSubDomains"}
"""A year, as ASVS 5.0, 3.4.1 requires."""

FORM_TYPE = re.compile(r"(application/x-www-form-urlencoded(; ?charset=(utf|UTF)-8)?)?")
"""The Content-Type of every form of this site.  The cgi module takes quadratic time to parse a
longer one, or the head of a part of multipart/form-data."""

PARSED_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
"""WebOb parses a body of these types with every method."""

MAX_FIELDS = 100
"""No form of this site has more than ten.  WebOb takes a quarter of a second for 20,000 fields."""


def includeme(config: Any) -> None:
    """Add the tweens of this module and the cookie filter."""
    config.add_tween(f"{__name__}.log_requests", under=INGRESS, over=f"{__name__}.add_headers")
    config.add_tween(f"{__name__}.add_headers", under=INGRESS, over="pyramid_tm.tm_tween_factory")
    cookie_filter = "hello_login.web.cookies.filter_cookies"
    config.add_tween(cookie_filter, under=INGRESS, over=f"{__name__}.log_requests")
    config.add_tween(f"{__name__}.refuse_malformed", under=EXCVIEW)


def log_requests(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    """Log and count each request, and return its id in a header that users can quote (a tween)."""
    metrics = registry.metrics

    def tween(request: Any) -> Any:
        started = time.perf_counter()
        response = handler(request)
        response.headers["X-Request-ID"] = request.id
        if not is_error_retryable(request, request.exception):
            route = request.matched_route and request.matched_route.name
            seconds = time.perf_counter() - started
            if metrics is not None:
                metrics.count_request(route, response.status_int, seconds)
            fields = {
                "method": request.method,
                "route": route,
                "status": response.status_int,
                "ms": round(seconds * 1000, 1),
                "request_id": request.id,
                "address": parse_address(request.remote_addr),
                "user_id": request.loaded_user_id,
            }
            log.info("answered", extra={"fields": fields})
        return response

    return tween


def add_headers(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    """Add the headers that all responses of the application share (a tween)."""

    # The request's scheme does not decide: it is http if TRUSTED_PROXY is wrong.  Browsers ignore
    # the header over http.
    https = HTTPS_HEADERS if registry.hello_login.secure_cookies else {}
    headers = [*HEADERS.items(), *https.items()]

    def tween(request: Any) -> Any:
        response = handler(request)
        # No view sets any of them.  Looking for each would take a seventh of the greeting's time.
        response.headerlist.extend(headers)
        # Static files set their own.  All other responses may name the user or hold a form.
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return tween


def refuse_malformed(handler: Callable[[Any], Any], _registry: Any) -> Callable[[Any], Any]:
    """Refuse requests that can't be decoded, or that no form of this site sends (a tween).

    The tween raises HTTPBadRequest, HTTPNotFound or HTTPUnsupportedMediaType.
    """

    def tween(request: Any) -> Any:
        environ = request.environ
        if SERVER_ERROR_KEY in environ:
            raise environ[SERVER_ERROR_KEY]
        # Pyramid caches the segments of the last 1,000 paths, however long they are.
        if len(environ["PATH_INFO"]) > MAX_PATH_LENGTH:
            raise HTTPNotFound
        # After all tweens, WebOb fails for malformed dates and ranges.  No page needs them.
        request.remove_conditional_headers(remove_encoding=False)
        _refuse_costly_form(request)
        try:
            _ = request.path_info, dict(request.cookies)
            values = [part for item in request.params.items() for part in item]
            # Pyramid's CSRF check parses them, and does not catch the error.
            for header in ("Origin", "Referer"):
                urlsplit(request.headers.get(header, ""))
        # WebOb raises all of these; a UnicodeDecodeError is a ValueError.
        except (ValueError, LookupError, DeprecationWarning) as error:
            raise HTTPBadRequest("The request can't be decoded.") from error
        if not all(isinstance(value, str) and "\0" not in value for value in values):
            raise HTTPBadRequest("A field of the request holds a file or a NUL instead of text.")
        return handler(request)

    return tween


def _refuse_costly_form(request: Any) -> None:
    """Raise HTTPUnsupportedMediaType or HTTPBadRequest for a form that takes long to parse."""
    content_type = request.environ.get("CONTENT_TYPE", "")
    may_be_form = request.method == "POST" or request.content_type in PARSED_TYPES
    if may_be_form and not FORM_TYPE.fullmatch(content_type):
        reason = "The content is not of the type that this site's forms have."
        raise HTTPUnsupportedMediaType(reason)
    if request.query_string.count("&") + request.body.count(b"&") >= MAX_FIELDS:
        raise HTTPBadRequest("The request has more fields than any form of this site.")
