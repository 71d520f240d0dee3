"""What people see when a request can't be answered: in HTML or JSON, as asked."""

import logging
from typing import Any, NamedTuple

import psycopg2
from psycopg2 import errors
from pyramid.exceptions import BadCSRFOrigin, BadCSRFToken
from pyramid.httpexceptions import HTTPError, HTTPSeeOther
from pyramid.renderers import render_to_response
from pyramid.view import exception_view_config, forbidden_view_config, notfound_view_config

from ... import logs
from ...db.transactions import CommitUnknown
from ...repositories.events import Event
from . import HTML, JSON, negotiate_media_type
from .flash import redirect

log = logging.getLogger(__name__)


class Words(NamedTuple):
    """What happened, and what to do."""

    title: str
    advice: str
    retry: bool = False
    """The same address may do better the next time."""


WORDS = {
    400: Words("We can't read what was sent", "Go back, and try once more."),
    403: Words("You don't have access to this page", "Log in with an account that may see it."),
    404: Words("There is no such page", "Check the address, or begin at the home page."),
    405: Words("This can't be done here", "Begin at the home page."),
    413: Words("This is too much at once", "Go back, and send less."),
    415: Words(
        "We can't read this kind of content",
        "Send a form of this site, as application/x-www-form-urlencoded.",
    ),
    431: Words("This is too much at once", "Clear this site's cookies, and try once more."),
    500: Words(
        "Something went wrong here", "It has been noted. Try again in a little while.", retry=True
    ),
    503: Words(
        "Too many people want this just now",
        "Nothing has changed. Try again in a few seconds.",
        retry=True,
    ),
}
UNAVAILABLE = Words(
    "Our database is too busy, or away",
    "Nothing has changed. Try again in a little while.",
    retry=True,
)
UNKNOWN = Words(
    "We can't tell whether that was done",
    "The connection to our database was lost. Look whether it was, before you do it again.",
)
EXPIRED = Words(
    "This form has expired",
    "You may have logged in or out since it was loaded, perhaps in another tab. Load it anew, and "
    "send it once more. If that does not help, allow cookies for this site.",
    retry=True,
)
NOT_LOGGED_OUT = Words(
    EXPIRED.title,
    "You have logged in again since it was loaded, perhaps in another tab. Go to the home page, "
    "and log out there.",
)
REMEDIES: dict[type[psycopg2.Error], str] = {
    errors.UndefinedTable: "run initialize_db",
    errors.UndefinedColumn: "run initialize_db",
    errors.ReadOnlySqlTransaction: "name the primary in DATABASE_URL",
    errors.InvalidSqlStatementName: "let the pooler keep a session for each connection",
    errors.DuplicatePreparedStatement: "let the pooler keep a session for each connection",
}
"""What the operator can do about errors that are no mistake in a statement."""


LONGEST_REDIRECT = 2000
"""Characters.  Many proxies take a head of 4,096 bytes, and count a longer one as our failure."""


@forbidden_view_config()
def show_forbidden(_error: Any, request: Any) -> Any:
    """Whoever is not logged in may log in and come back; who asks for JSON gets a 403."""
    logs.log_security_event(
        Event("access_refused", address=request.client.address, request_id=request.id)
    )
    if request.identity is not None or negotiate_media_type(request, HTML, JSON) == JSON:
        return _respond(request, 403)
    login = request.route_path("login", _query={"next": request.path_qs})
    if len(login) > LONGEST_REDIRECT:
        login = request.route_path("login")
    if request.method == "POST":
        return redirect(request, login, "session_over")
    return HTTPSeeOther(login, vary=["Accept"])


@exception_view_config(BadCSRFToken)
@exception_view_config(BadCSRFOrigin)
def show_expired(_error: Any, request: Any) -> Any:
    """Refuse a form from another site, or from before the last login or logout."""
    logs.log_security_event(
        Event("csrf_refused", address=request.client.address, request_id=request.id)
    )
    return _respond(request, 400, EXPIRED if _takes_get(request) else NOT_LOGGED_OUT)


@notfound_view_config()
@exception_view_config(HTTPError)
def show_http_error(error: Any, request: Any) -> Any:
    """4xx and 5xx that were raised on purpose."""
    response = _respond(request, error.status_int)
    for name in ("Allow", "Retry-After"):
        if name in error.headers:
            response.headers[name] = error.headers[name]
    return response


@exception_view_config(psycopg2.Error)
def show_database_error(error: psycopg2.Error, request: Any) -> Any:
    """PostgreSQL does not answer, or ended what it was asked; otherwise the mistake is ours."""
    said, remedy = str(error).strip(), REMEDIES.get(type(error))
    unavailable = isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError))
    # psycopg2 raises DatabaseError itself only where the server has not told what went wrong.
    if not (remedy or unavailable or type(error) is psycopg2.DatabaseError):
        return show_failure(error, request)
    said = f"{said}: {remedy}" if remedy else said
    log.error("The database did not do it: %s", said, extra=_of(request))
    response = _respond(request, 503, UNAVAILABLE)
    response.retry_after = 5
    return response


@exception_view_config(CommitUnknown)
def show_unknown(_error: Any, request: Any) -> Any:
    """Nobody knows whether it was done, so it is not done once more."""
    log.error("The connection broke during a commit", extra=_of(request))
    return _respond(request, 503, UNKNOWN)


@exception_view_config(Exception)
def show_failure(error: Exception, request: Any) -> Any:
    """What nobody foresaw: the log has the traceback, the person does not."""
    log.error("Unexpected error", exc_info=error, extra=_of(request))
    return _respond(request, 500)


def _of(request: Any) -> dict[str, Any]:
    return {"fields": {"request_id": request.id}}


def _respond(request: Any, status: int, words: Words | None = None) -> Any:
    """Touches neither the path nor who is asking: either may be what failed."""
    words = words or WORDS.get(status) or WORDS[400 if status < 500 else 500]
    told = {"error": words.title, "advice": words.advice, "request_id": request.id}
    if negotiate_media_type(request, JSON, HTML) == HTML:
        told["again"] = _again(request) if words.retry else ""
        response = render_to_response("hello_login.web:templates/error.jinja2", told, request)
    else:
        response = render_to_response("json", told, request)
    response.status_int = status
    response.vary = ["Accept"]
    return response


def _again(request: Any) -> str:
    """What a link to the same address leads to; nothing where it can't be asked for."""
    if request.method != "POST":
        return "Try again"
    return "Load the form anew" if _takes_get(request) else ""


def _takes_get(request: Any) -> bool:
    return request.matched_route is not None and request.matched_route.name != "logout"
