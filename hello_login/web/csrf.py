"""CSRF protection: the token of each form, and the origin of the page that sends it."""

import hmac
import re
import secrets
from typing import Any
from urllib.parse import urlsplit

from pyramid.exceptions import BadCSRFOrigin
from pyramid.request import RequestLocalCache
from pyramid.viewderivers import INGRESS as FIRST_DERIVER
from pyramid.viewderivers import csrf_view

from ..settings import Settings
from .cookies import get_cookie, set_cookie


def includeme(config: Any) -> None:
    """Require a CSRF token and this site's origin for every unsafe request method."""
    config.set_csrf_storage_policy(CSRFTokens(config.registry.hello_login))
    config.set_default_csrf_options(require_csrf=True)
    # By default Pyramid checks the permission first, and would redirect a forged form to the login.
    config.add_view_deriver(csrf_view, "csrf_view", under=FIRST_DERIVER, over="secured_view")
    config.add_view_deriver(refuse_other_origins, under=FIRST_DERIVER, over="csrf_view")


class CSRFTokens:
    """The CSRF token of a browser (pyramid.interfaces.ICSRFStoragePolicy).

    With a session, it is an HMAC of the session's token.  So a CSRF cookie planted by another site
    is useless, and the CSRF token changes whenever the session's token does.
    Without a session, it is the value of a cookie with 256 random bits.  (Pyramid's own policy has
    122 bits, too few for ASVS 5.0, 11.5.1.)
    """

    def __init__(self, settings: Settings) -> None:
        self._keys = [key.encode() for key in settings.secret_keys]
        self._token: Any = RequestLocalCache(self._find_token)

    def new_csrf_token(self, request: Any) -> str:
        """Return a new token for a browser without a session, and set its cookie."""
        token = secrets.token_urlsafe()
        self._token.set(request, token)

        request.add_response_callback(
            lambda _, response: set_cookie(request, response, "csrf_token", token, None)
        )
        return token

    def get_csrf_token(self, request: Any) -> str:
        """Return the token that this browser's forms must contain."""
        return str(self._token.get_or_create(request))

    def check_csrf_token(self, request: Any, supplied: str) -> bool:
        """Return whether this is the browser's token."""
        expected, session_token = [self.get_csrf_token(request)], request.session_token
        if session_token is not None:
            # The page may have been loaded before SECRET_KEY got a newer key.
            expected += [_derive_token(key, session_token) for key in self._keys[1:]]
        given = supplied.encode("utf-8", "backslashreplace")
        return any(hmac.compare_digest(token.encode(), given) for token in expected)

    def _find_token(self, request: Any) -> str:
        session_token = request.session_token
        if session_token is not None:
            return _derive_token(self._keys[0], session_token)
        return get_cookie(request, "csrf_token") or self.new_csrf_token(request)


def _derive_token(key: bytes, session_token: str) -> str:
    return hmac.new(key, f"CSRF\0{session_token}".encode(), "sha256").hexdigest()


def refuse_other_origins(view: Any, info: Any) -> Any:
    """Wrap a view (as a view deriver) to refuse forms that a page of another origin sent.

    Pyramid itself checks the Origin over https only, and ignores Sec-Fetch-Site.
    The view raises BadCSRFOrigin.
    """
    if info.exception_only:
        return view

    def guarded(context: Any, request: Any) -> Any:
        if request.method not in ("GET", "HEAD") and not _has_own_origin(request):
            raise BadCSRFOrigin("The form was sent by a page of another origin")
        return view(context, request)

    return guarded


def was_sent_by_own_page(request: Any) -> bool:
    """Return whether the browser says that a page of this site sent the request."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return bool(site == "same-origin")  # "none" says that no page sent it
    return "Origin" in request.headers and _has_own_origin(request)


def _has_own_origin(request: Any) -> bool:
    """Return whether a page of this site, or no page at all, sent the request."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("Origin")
    return origin is None or _host(urlsplit(origin).netloc) == _host(request.host)


def _host(netloc: str) -> str:
    """Return the host and port without a default port, which browsers leave out."""
    return re.sub(":(80|443)$", "", netloc.lower())
