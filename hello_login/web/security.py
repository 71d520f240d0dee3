"""The security policy: the identity of a cookie, and the requirements of every view.

A view requires a login, a CSRF token unless the method is safe, and GET or HEAD.  It declares each
exception: permission=NO_PERMISSION_REQUIRED, require_csrf=False, require_methods=(...).  A view
that is open to users who must set up a second factor first has permission="logged_in".
"""

import secrets
from typing import Any

from pyramid.authentication import AuthTktCookieHelper
from pyramid.csrf import new_csrf_token
from pyramid.request import RequestLocalCache
from pyramid.security import Allowed, Denied, forget, remember

from .. import logs
from ..auth import sessions
from ..auth.audit import Actor
from ..auth.clients import Client, DeviceCookie, describe_device, parse_address
from ..auth.rate_limits import RateLimiter
from ..repositories.events import Event
from ..repositories.sessions import Session
from ..repositories.users import User
from ..settings import Settings
from .cookies import cookie_name, delete_cookie
from .tweens import REQUEST_ID_KEY

PERMISSIONS = ("authenticated", "logged_in")
"""All permissions: the default, and that of views for users who must set up a second factor."""

DEVICE_COOKIE_LIFETIME = 365 * 24 * 60 * 60  # seconds


def includeme(config: Any) -> None:
    """Add the policy and the view derivers, and close every view by default."""
    settings: Settings = config.registry.hello_login
    policy = AuthTktSecurityPolicy(settings)
    config.set_security_policy(policy)
    config.registry.security_policy = policy
    config.add_request_method(policy.session, "login_session", property=True)
    config.add_request_method(policy.session_token, "session_token", property=True)
    config.add_request_method(policy.half_login_token, "half_login_token", property=True)
    config.add_request_method(request_id, "id", reify=True)
    config.add_request_method(policy.client, "client", reify=True)
    config.add_request_method(policy.loaded_user_id, "loaded_user_id", property=True)
    config.add_request_method(log_event)
    config.add_request_method(log_after_commit)
    config.add_request_method(wake_sender_after_commit)
    config.add_request_method(make_actor, "actor", reify=True)
    config.add_request_method(make_rate_limiter, "rate_limiter", reify=True)
    config.set_default_permission("authenticated")
    config.include(".csrf")
    config.include(".guards")
    config.include(".typed")


class AuthTktSecurityPolicy:
    """Finds the session of a request (pyramid.interfaces.ISecurityPolicy).

    The session cookie signs the session's token.  The session's row has the user and the limits,
    so the cookie has none of its own and is never reissued.
    The device cookie signs that this device has logged in to the account; it is no login.
    The half-login cookie signs the token of a login that waits for its second step.  It is no login
    either: only the view of the second step and the logout read it.
    """

    def __init__(self, settings: Settings) -> None:
        shared = {"secure": settings.secure_cookies, "http_only": True, "wild_domain": False}
        lifetime = {"timeout": DEVICE_COOKIE_LIFETIME, "max_age": DEVICE_COOKIE_LIFETIME}

        def make_cookies(name: str, prefix: str, **more: Any) -> list[AuthTktCookieHelper]:
            # Other secrets, so that no cookie can be taken for another.
            options = {**shared, **more, "cookie_name": cookie_name(settings, name)}
            return [AuthTktCookieHelper(prefix + key, **options) for key in settings.secret_keys]

        self._cookies = make_cookies("session", "")
        self._half_login_cookies = make_cookies("half_login", "half login ")
        self._device_cookies = make_cookies("device", "device ", **lifetime)
        self._second_factor_required = settings.second_factor_required
        self._session: Any = RequestLocalCache(self._find_session)

    def session(self, request: Any) -> Session | None:
        """Return the session, or None.  Queries once per request, and not without a cookie."""
        session: Session | None = self._session.get_or_create(request)
        return session

    def identity(self, request: Any) -> User | None:
        """Return the user who is logged in, or None."""
        session = self.session(request)
        return session and session.user

    def authenticated_userid(self, request: Any) -> int | None:
        """Return the user's id, or None."""
        user = self.identity(request)
        return user and user.id

    def loaded_user_id(self, request: Any) -> int | None:
        """Return the user's id if it is already loaded; never query."""
        session = self._session.get(request)
        return session.user.id if isinstance(session, Session) else None

    def permits(self, request: Any, _context: object, permission: str) -> Allowed | Denied:
        """Allow PERMISSIONS to a user who is logged in, and other permissions to nobody.

        While a second factor is required and not set up, allow "logged_in" only.
        """
        if self.identity(request) is None:
            return Denied("%s: nobody is logged in", permission)
        if permission not in PERMISSIONS:
            return Denied("%s: there is no such permission", permission)
        if permission != "logged_in" and self.must_set_up(request):
            return Denied("%s: a second factor is required", permission)
        return Allowed("%s: somebody is logged in", permission)

    def must_set_up(self, request: Any) -> bool:
        """Return whether the user, who is logged in, must set up a second factor first."""
        session = self.session(request)
        return self._second_factor_required and not (session and session.has_second_factor)

    def remember(self, request: Any, userid: sessions.IssuedSession) -> list[tuple[str, str]]:
        """Return the headers that set the cookies of a session; write nothing.

        userid: the issued session; Pyramid's interface prescribes the name.
        """
        issued = userid
        self._session.clear(request)
        max_age = int(issued.remaining.total_seconds()) if issued.remembered else None
        # A known device keeps its id, and so the failures that its rate limit has counted.
        client = request.client
        same = client.is_known(issued.auth_hash)
        device_id = client.known.id if same else secrets.token_urlsafe(16)
        return [
            *self._cookies[0].remember(request, issued.token, max_age=max_age),
            *self._device_cookies[0].remember(request, f"{issued.auth_hash}.{device_id}"),
        ]

    def forget(self, request: Any) -> list[tuple[str, str]]:
        """Return the headers that delete the session's cookie; write nothing."""
        self._session.clear(request)
        return list(self._cookies[0].forget(request))

    def remember_half_login(self, request: Any, token: str) -> list[tuple[str, str]]:
        """Return the headers that set the half-login cookie; write nothing."""
        return list(self._half_login_cookies[0].remember(request, token))

    def forget_half_login(self, request: Any) -> list[tuple[str, str]]:
        """Return the headers that delete the half-login cookie, if there is one; write nothing."""
        if self.half_login_token(request) is None:
            return []
        return list(self._half_login_cookies[0].forget(request))

    def client(self, request: Any) -> Client:
        """Return the client, from the connection, the headers and the device cookie."""
        ticket = _identify(self._device_cookies, request)
        return Client(
            address=parse_address(request.remote_addr),
            device=describe_device(request.user_agent),
            known=DeviceCookie(*ticket["userid"].split(".", 1)) if ticket else None,
            request_id=request.id,
        )

    def session_token(self, request: Any) -> str | None:
        """Return the token in the session cookie if the signature is right; never query.

        The session may have ended.
        """
        ticket = _identify(self._cookies, request)
        return ticket["userid"] if ticket else None

    def half_login_token(self, request: Any) -> str | None:
        """Return the token in the half-login cookie if the signature is right; never query."""
        ticket = _identify(self._half_login_cookies, request)
        return ticket["userid"] if ticket else None

    def _find_session(self, request: Any) -> Session | None:
        token = self.session_token(request)
        if token is None:
            return None
        with request.autocommit() as db:
            session = sessions.find(db, token)
            if session is not None:
                sessions.record_use(db, session, request.client)
        return session


def _identify(cookies: list[AuthTktCookieHelper], request: Any) -> dict[str, Any] | None:
    """Return the ticket that the key of one of these cookies has signed, or None."""
    tickets = (cookie.identify(request) for cookie in cookies)
    return next((ticket for ticket in tickets if ticket), None)


def issue_cookies(request: Any, issued: sessions.IssuedSession) -> list[tuple[str, str]]:
    """Replace the CSRF cookie, and return the headers that set the cookies of a session.

    While the session lasts, its token determines the CSRF token.  The cookie counts afterwards.
    """
    new_csrf_token(request)
    policy: AuthTktSecurityPolicy = request.registry.security_policy
    return [*remember(request, issued), *policy.forget_half_login(request)]


def issue_half_login_cookie(request: Any, token: str) -> list[tuple[str, str]]:
    """Replace the CSRF cookie, and return the headers that set the cookie of a half login.

    The cookie of an ended session is deleted: its token would still determine the CSRF token.
    """
    new_csrf_token(request)
    policy: AuthTktSecurityPolicy = request.registry.security_policy
    return [*forget(request), *policy.remember_half_login(request, token)]


def revoke_cookies(request: Any) -> list[tuple[str, str]]:
    """Replace the CSRF cookie, and return the headers that delete the cookies of a login.

    The cookie of a typed form is deleted, too: the next person may be another.
    """
    new_csrf_token(request)
    delete_cookie(request, "typed")
    policy: AuthTktSecurityPolicy = request.registry.security_policy
    return [*forget(request), *policy.forget_half_login(request)]


def request_id(request: Any) -> str:
    """Return the request's id in the log: a trusted proxy's, or else a random one.

    A retried request keeps it.
    """
    return str(request.environ.setdefault(REQUEST_ID_KEY, secrets.token_hex(8)))


def log_event(request: Any, event: Event) -> None:
    """Write the event to the security log, and count it."""
    logs.log_security_event(event)
    if request.registry.metrics is not None:
        request.registry.metrics.count_event(event.event)


def log_after_commit(request: Any, event: Event) -> None:
    """Write the event to the security log if the request's transaction is committed."""

    def log(committed: bool) -> None:
        if committed:
            request.log_event(event)

    request.tm.get().addAfterCommitHook(log)


def wake_sender_after_commit(request: Any) -> None:
    """Let the mails that the request has queued be sent without delay."""
    # Waking it after a failed commit does no harm: it finds nothing to send.
    request.tm.get().addAfterCommitHook(lambda _committed: request.registry.mail_sender.wake())


def make_actor(request: Any) -> Actor:
    """Return the request's client and transaction as an Actor."""
    sends_mail = request.registry.hello_login.sends_mail
    return Actor(request.db, request.client, request.log_after_commit, sends_mail)


def make_rate_limiter(request: Any) -> RateLimiter:
    """Return the rate limits for the request's client."""
    key = request.registry.hello_login.secret_keys[0].encode()
    # A retried request shares the environ with its earlier run.
    counted = request.environ.setdefault("hello_login.counted", set())
    log = request.log_after_commit
    return RateLimiter(key, request.client, log, request.autocommit, counted)
