"""Who is asking, and what every view is guarded by, unless it says otherwise.

A view needs a login, a CSRF token for what is not safe, and GET or HEAD.  It opens itself by name:
permission=NO_PERMISSION_REQUIRED, require_csrf=False, require_methods=(...).
"""

import re
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from pyramid.authentication import AuthTktCookieHelper
from pyramid.csrf import CookieCSRFStoragePolicy, new_csrf_token
from pyramid.httpexceptions import HTTPBadRequest, HTTPMethodNotAllowed
from pyramid.request import RequestLocalCache
from pyramid.security import Allowed, Denied
from pyramid.tweens import EXCVIEW, INGRESS
from pyramid.viewderivers import INGRESS as FIRST_DERIVER
from pyramid.viewderivers import csrf_view

from . import accounts
from .repositories.sessions import Session
from .repositories.users import User
from .settings import Settings

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
    """Close every view, and add the policy, the guards and the headers."""
    settings: Settings = config.registry.hello_login
    prefix = "__Host-" if settings.secure_cookies else ""
    config.set_security_policy(AuthTktSecurityPolicy(settings, f"{prefix}session"))
    config.set_default_permission("authenticated")

    config.set_csrf_storage_policy(
        CSRFCookie(f"{prefix}csrf_token", secure=settings.secure_cookies, httponly=True)
    )
    config.set_default_csrf_options(require_csrf=True)
    # Pyramid checks the permission first, and would send a forged form to the login page.
    config.add_view_deriver(csrf_view, "csrf_view", under=FIRST_DERIVER, over="secured_view")
    config.add_view_deriver(require_methods, under=FIRST_DERIVER, over="csrf_view")

    config.add_tween(
        "hello_login.security.add_headers", under=INGRESS, over="pyramid_tm.tm_tween_factory"
    )
    config.add_tween("hello_login.security.refuse_malformed", under=EXCVIEW)


class AuthTktSecurityPolicy:
    """The cookie signs a session's token; the session's row says whose it is, and whether it lasts.

    So the cookie has no limits of its own, and is never reissued.
    """

    def __init__(self, settings: Settings, cookie_name: str) -> None:
        self._idle_limit = timedelta(hours=settings.session_idle_hours)
        self._limit = timedelta(hours=settings.session_limit_hours)
        self._remembered_idle_limit = timedelta(hours=settings.remembered_idle_hours)
        self._remembered_limit = timedelta(hours=settings.remembered_limit_hours)
        self._cookie = AuthTktCookieHelper(
            settings.secret_key,
            cookie_name=cookie_name,
            secure=settings.secure_cookies,
            http_only=True,
            wild_domain=False,
        )
        self._session: Any = RequestLocalCache(self._find_session)

    def identity(self, request: Any) -> User | None:
        """Who is logged in: asked for once a request, and not at all without a cookie."""
        session: Session | None = self._session.get_or_create(request)
        return session and session.user

    def authenticated_userid(self, request: Any) -> int | None:
        """That account's id."""
        user = self.identity(request)
        return user and user.id

    def permits(self, request: Any, _context: object, permission: str) -> Allowed | Denied:
        """The one permission there is: to be logged in."""
        if self.identity(request) is None:
            return Denied("%s: nobody is logged in", permission)
        return Allowed("%s: somebody is logged in", permission)

    def remember(
        self, request: Any, userid: int, *, remembered: bool = False
    ) -> list[tuple[str, str]]:
        """Begin a session, and return the headers that hand it to the browser.

        remembered: the browser keeps it when it is closed, and its limits are the longer ones.
        The session and the CSRF token that came with the request end (ASVS 5.0, 7.2.4).
        """
        self._end_session(request)
        idle_limit = self._remembered_idle_limit if remembered else self._idle_limit
        limit = self._remembered_limit if remembered else self._limit
        token = accounts.begin_session(request.db, userid, idle_limit=idle_limit, limit=limit)
        max_age = int(limit.total_seconds()) if remembered else None
        return list(self._cookie.remember(request, token, max_age=max_age))

    def forget(self, request: Any) -> list[tuple[str, str]]:
        """End the session, and return the headers that take it off the browser."""
        self._end_session(request)
        return list(self._cookie.forget(request))

    def _token(self, request: Any) -> str | None:
        ticket = self._cookie.identify(request)
        return None if ticket is None else str(ticket["userid"])

    def _find_session(self, request: Any) -> Session | None:
        token = self._token(request)
        return None if token is None else accounts.find_session(request.db, token)

    def _end_session(self, request: Any) -> None:
        token = self._token(request)
        if token is not None:
            accounts.end_session(request.db, token)
        self._session.clear(request)
        new_csrf_token(request)


class CSRFCookie(CookieCSRFStoragePolicy):  # type: ignore[misc]
    """A double-submit cookie of 256 random bits; Pyramid's UUID is too little for ASVS 11.5.1."""

    _token_factory = staticmethod(secrets.token_urlsafe)


def require_methods(view: Any, info: Any) -> Any:
    """A view deriver: answer 405 to every method that the view does not name.

    Raises HTTPMethodNotAllowed.
    """
    if info.exception_only:
        return view
    methods: tuple[str, ...] = info.options.get("require_methods", ("GET", "HEAD"))

    def guarded(context: Any, request: Any) -> Any:
        if request.method not in methods:
            raise HTTPMethodNotAllowed(headers={"Allow": ", ".join(methods)})
        return view(context, request)

    return guarded


require_methods.options = ("require_methods",)  # type: ignore[attr-defined]


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


def local_path(target: str | None) -> str | None:
    r"""The target, if a redirect to it can lead nowhere but to this site; None otherwise.

    One slash must come first, and no slash after it.  Only printable ASCII may follow, as in every
    URL that a browser sends; and no backslash, which browsers take for a slash.
    """
    if target and re.fullmatch(r"/(?!/)[!-\[\]-~]*", target):
        return target
    return None
