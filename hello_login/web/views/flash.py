"""Flash messages: what the next page says, after one redirect and no more.

The cookie holds the name of a message and no text, so nobody can make a page say anything else.
"""

from collections.abc import Iterable
from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.response import Response

from ..cookies import cookie_name

MESSAGES = {
    "registered": "Welcome! Your account is ready, and you are logged in.",
    "logged_out": "You are logged out.",
    "profile_changed": "Your changes are saved.",
    "password_changed": "Your password is changed, and all your other sessions have ended.",
    "session_ended": "That session has ended.",
    "sessions_ended": "All your other sessions have ended.",
    "deleted": "Your account is deleted.",
    "session_over": "Your session had ended. Log in, and see whether this was done.",
    "too_late": "This was done already, or your session had ended before.",
}

LIFETIME = 60
"""Seconds: who does not look at the next page by then is told nothing."""


def includeme(config: Any) -> None:
    """Add request.flash, the message that this page is to show, or None."""
    config.add_request_method(_take, "flash", reify=True)


def redirect(
    request: Any, url: str, message: str, headers: Iterable[tuple[str, str]] = ()
) -> HTTPSeeOther:
    """Go on to the URL, whose page shows the one of MESSAGES that has this name."""
    response = HTTPSeeOther(url, headers=list(headers))
    _set(request, response, message, LIFETIME)
    return response


def _take(request: Any) -> str | None:
    """The message; the answer to this request takes it off the browser."""
    message = request.cookies.get(_name(request))
    if message is not None:
        request.add_response_callback(lambda _, response: _set(request, response, "", 0))
    return MESSAGES.get(message)


def _set(request: Any, response: Response, message: str, max_age: int) -> None:
    secure = request.registry.hello_login.secure_cookies
    response.set_cookie(
        _name(request), message, max_age=max_age, secure=secure, httponly=True, samesite="Lax"
    )


def _name(request: Any) -> str:
    return cookie_name(request.registry.hello_login, "flash")
