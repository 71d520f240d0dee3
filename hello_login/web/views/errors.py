"""Error responses, as HTML or JSON, depending on the Accept header."""

import logging
from typing import Any, NamedTuple

import psycopg2
from psycopg2 import errors
from pyramid.exceptions import BadCSRFOrigin, BadCSRFToken
from pyramid.httpexceptions import HTTPError, HTTPSeeOther
from pyramid.renderers import render_to_response
from pyramid.view import exception_view_config, forbidden_view_config, notfound_view_config

from ...auth.audit import make_event
from ...db.transactions import CommitUnknown
from ..guards import url_with_next
from ..tweens import SERVER_ERROR_KEY
from ..typed import keep_typed
from . import HTML, JSON, negotiate_media_type
from .flash import redirect

log = logging.getLogger(__name__)


class ErrorText(NamedTuple):
    """The text of an error response: a title, and the advice to the user."""

    title: str
    advice: str
    retry: bool = False
    """Whether the page links to the same URL, because a retry may succeed."""


ERROR_TEXTS = {
    400: ErrorText("We can't read what was sent", "Go back and try again."),
    401: ErrorText("This page needs a token", "Send the right one: Authorization: Bearer TOKEN."),
    403: ErrorText("You don't have access to this page", "Log in with an account that has access."),
    404: ErrorText("There is no such page", "Check the web address, or start at the home page."),
    405: ErrorText("This can't be done here", "Start at the home page."),
    413: ErrorText("This request is too large", "Go back and send less."),
    415: ErrorText(
        "We can't read this kind of content",
        "Send a form of this site, as application/x-www-form-urlencoded.",
    ),
    421: ErrorText("This is not the address of this site", "Start at the home page."),
    431: ErrorText("This request is too large", "Clear this site's cookies and try again."),
    500: ErrorText(
        "Something went wrong here",
        "The error is in our log. Try again in a little while.",
        retry=True,
    ),
    503: ErrorText(
        "We can't answer just now",
        "Nothing has changed. Try again in a few seconds.",
        retry=True,
    ),
}
DATABASE_UNAVAILABLE = ErrorText(
    "We can't answer just now",
    "Our database is too busy or unreachable. Nothing has changed. Try again in a little while.",
    retry=True,
)
OUTCOME_UNKNOWN = ErrorText(
    "We can't tell whether that was done",
    "Our database has not confirmed it. Check whether it was done before you try again.",
)
FORM_EXPIRED = ErrorText(
    "This form has expired",
    "You may have logged in or out since it was loaded, perhaps in another tab. Open the form "
    "again, and send it again. If that does not help, allow cookies for this site.",
    retry=True,
)
LOGOUT_EXPIRED = ErrorText(
    FORM_EXPIRED.title,
    "You have logged in again since it was loaded, perhaps in another tab. Go to the home page and "
    "log out there.",
)
OPEN_AGAIN = "Open the form again"
READS_COOKIES = (403, 404, 405)
"""The page of these errors offers a login if there is no session.  No cookie causes them."""

WITHOUT_PAGE = ("logout", "confirm_address", "decline_passkey", "check_password")
"""Routes that have no page to open: they take POST only."""

KEEP_SESSIONS = (
    "let the pooler keep a session for each connection, or set DATABASE_POOLER=transaction"
)
OPERATOR_REMEDIES: dict[type[psycopg2.Error], str] = {
    errors.UndefinedTable: "run initialize_db",
    errors.UndefinedColumn: "run initialize_db",
    errors.ReadOnlySqlTransaction: "name the primary in DATABASE_URL",
    errors.InvalidSqlStatementName: KEEP_SESSIONS,
    errors.DuplicatePreparedStatement: KEEP_SESSIONS,
}
"""The operator's remedies for errors that do not come from a wrong statement."""


@forbidden_view_config()
def show_forbidden(_error: Any, request: Any) -> Any:
    """Redirect to the login form; answer 403 to a logged-in user or a request for JSON.

    A user who must set up a second factor first is redirected to its set-up.
    """
    request.log_event(make_event(request.client, "access_refused"))
    logged_in = request.identity is not None
    if negotiate_media_type(request, HTML, JSON) == JSON:
        return _respond(request, 403)
    if logged_in and request.registry.security_policy.must_set_up(request):
        response = redirect(request, request.route_path("totp"), "factor_required")
        response.vary = ["Accept"]
        return response
    if logged_in:
        return _respond(request, 403)
    login = url_with_next(request, "login", request.path_qs)
    if request.method == "POST":
        response = redirect(request, login, "session_over")
        keep_typed(request, response)
        return response
    return HTTPSeeOther(login, vary=["Accept"])


@exception_view_config(BadCSRFToken)
@exception_view_config(BadCSRFOrigin)
def show_expired(_error: Any, request: Any) -> Any:
    """Answer 400 to a form from another site, or from before the last login or logout."""
    request.log_event(make_event(request.client, "csrf_refused"))
    return _respond(request, 400, FORM_EXPIRED if _has_page(request) else LOGOUT_EXPIRED)


@notfound_view_config()
@exception_view_config(HTTPError)
def show_http_error(error: Any, request: Any) -> Any:
    """Answer with the status of an HTTPError that was raised."""
    response = _respond(request, error.status_int)
    response.status = error.status  # WebOb does not know the reason of 421
    for name in ("Allow", "Retry-After", "WWW-Authenticate"):
        if name in error.headers:
            response.headers[name] = error.headers[name]
    return response


@exception_view_config(psycopg2.Error)
def show_database_error(error: psycopg2.Error, request: Any) -> Any:
    """Answer 503 if PostgreSQL is unavailable or the operator can remove the cause, or else 500."""
    message = _describe(error)
    remedy = OPERATOR_REMEDIES.get(type(error))
    unavailable = isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError))
    # psycopg2 raises DatabaseError itself only if the server did not say what went wrong.
    if not (remedy or unavailable or type(error) is psycopg2.DatabaseError):
        quoting_nothing = type(error)(message).with_traceback(error.__traceback__)
        return show_unexpected_error(quoting_nothing, request)
    message = f"{message}: {remedy}" if remedy else message
    log.error("Database error: %s", message, extra=_log_fields(request))
    response = _respond(request, 503, DATABASE_UNAVAILABLE)
    response.retry_after = 5
    return response


@exception_view_config(CommitUnknown)
def show_commit_unknown(error: Any, request: Any) -> Any:
    """Answer 503, without a retry, to a request that may have been committed."""
    cause = _describe(error.__cause__)
    log.error("A commit may be done or not: %s", cause, extra=_log_fields(request))
    return _respond(request, 503, OUTCOME_UNKNOWN)


@exception_view_config(Exception)
def show_unexpected_error(error: Exception, request: Any) -> Any:
    """Answer 500 without details; only the log has the traceback."""
    log.error("Unexpected error", exc_info=error, extra=_log_fields(request))
    return _respond(request, 500)


def _describe(error: psycopg2.Error) -> str:
    """Return PostgreSQL's message without the statement and the row, which contain typed text."""
    return (error.diag.message_primary or str(error)).strip()


def _log_fields(request: Any) -> dict[str, Any]:
    return {"fields": {"request_id": request.id}}


def _respond(request: Any, status: int, text: ErrorText | None = None) -> Any:
    """Return the error as a page or as JSON."""
    # This reads neither the path nor the identity, and rarely a cookie: they may be the cause.
    text = text or ERROR_TEXTS.get(status) or ERROR_TEXTS[400 if status < 500 else 500]
    values = {"error": text.title, "advice": text.advice, "request_id": request.id}
    renderer, retry_label = "json", ""
    if negotiate_media_type(request, JSON, HTML) == HTML:
        # After a 421, the path alone would lead to the same wrong host.
        home = request.route_url if status == 421 else request.route_path
        values["home"] = home("greeting")
        values["retry_label"] = retry_label = _retry_label(request) if text.retry else ""
        values["is_visitor"] = status in READS_COOKIES and request.session_token is None
        renderer = "hello_login.web:templates/error.jinja2"
    response = render_to_response(renderer, values, request)
    response.status_int = status
    response.vary = ["Accept"]
    if retry_label == OPEN_AGAIN:
        keep_typed(request, response)
    return response


def _retry_label(request: Any) -> str:
    """Return the label of a link to the same URL, or "" if the URL has no page."""
    if request.method != "POST":
        return "Try again"
    # The server has refused the request itself, so its body may be unread.
    if SERVER_ERROR_KEY in request.environ or not _has_page(request):
        return ""
    return OPEN_AGAIN


def _has_page(request: Any) -> bool:
    """Return whether the requested route has a page."""
    return request.matched_route is not None and request.matched_route.name not in WITHOUT_PAGE
