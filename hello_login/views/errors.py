"""What people see when a request can't be answered: in HTML or JSON, as asked."""

import logging
from typing import Any

import psycopg2
from pyramid.exceptions import BadCSRFOrigin, BadCSRFToken
from pyramid.httpexceptions import HTTPError, HTTPSeeOther
from pyramid.renderers import render_to_response
from pyramid.view import exception_view_config, forbidden_view_config, notfound_view_config

from .. import logs
from ..repositories.events import Event
from . import HTML, JSON, preferred

log = logging.getLogger(__name__)

# What happened, and what to do.
WORDS = {
    400: ("We can't read what was sent", "Go back, and try once more."),
    403: ("This is not yours to see", "Log in with an account that may see it."),
    404: ("There is no such page", "Check the address, or begin at the home page."),
    405: ("This can't be done here", "Begin at the home page."),
    500: ("Something went wrong here", "It has been noted. Try again in a little while."),
    503: ("We can't reach our database", "Nothing is lost. Try again in a little while."),
}
EXPIRED = ("This form has expired", "Go back, load the page anew, and send the form once more.")


@forbidden_view_config()
def show_forbidden(_error: Any, request: Any) -> Any:
    """Whoever is not logged in may log in and come back; who asks for JSON gets a 403."""
    logs.write(Event("access_refused", address=request.client.address, request_id=request.id))
    if request.identity is not None or preferred(request, HTML, JSON) == JSON:
        return _respond(request, 403)
    query = {"next": request.path_qs} if request.method in ("GET", "HEAD") else {}
    return HTTPSeeOther(request.route_path("login", _query=query), vary=["Accept"])


@exception_view_config(BadCSRFToken)
@exception_view_config(BadCSRFOrigin)
def show_expired(_error: Any, request: Any) -> Any:
    """A form from another site, or from before the last login or logout."""
    logs.write(Event("csrf_refused", address=request.client.address, request_id=request.id))
    return _respond(request, 400, EXPIRED)


@notfound_view_config()
@exception_view_config(HTTPError)
def show_http_error(error: Any, request: Any) -> Any:
    """4xx and 5xx that were raised on purpose."""
    response = _respond(request, error.status_int)
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


@exception_view_config(psycopg2.OperationalError)
def show_unavailable(error: Exception, request: Any) -> Any:
    """PostgreSQL does not answer, or ended what it was asked."""
    log.error("Database unavailable: %s", str(error).strip())
    response = _respond(request, 503)
    response.retry_after = 5
    return response


@exception_view_config(Exception)
def show_failure(error: Exception, request: Any) -> Any:
    """What nobody foresaw: the log has the traceback, the person does not."""
    log.error("Unexpected error", exc_info=error)
    return _respond(request, 500)


def _respond(request: Any, status: int, words: tuple[str, str] | None = None) -> Any:
    """Touches neither the path nor who is asking: either may be what failed."""
    title, advice = words or WORDS.get(status) or WORDS[400 if status < 500 else 500]
    renderer = "error.jinja2" if preferred(request, JSON, HTML) == HTML else "json"
    response = render_to_response(renderer, {"error": title, "advice": advice}, request)
    response.status_int = status
    response.vary = ["Accept"]
    return response
