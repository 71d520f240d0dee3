"""The Host header: requests for another site are refused, and no redirect depends on the header."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from pyramid.httpexceptions import HTTPClientError
from pyramid.tweens import EXCVIEW

from ..settings import Settings

PROBES = ("/healthz", "/readyz", "/metrics")
"""The paths that are answered for every Host: probes and Prometheus use a machine's address."""

LOOPBACK = r"localhost|[a-z0-9.-]+\.localhost|127\.[0-9.]+|\[::1\]"
"""The names of this machine (RFC 6761, 6.3)."""


class HTTPMisdirectedRequest(HTTPClientError):  # type: ignore[misc]  # Pyramid has no types
    """The request is for another site (RFC 9110, 15.5.20)."""

    code = 421
    title = "Misdirected Request"


def includeme(config: Any) -> None:
    """Add the tween; its errors become pages, and it runs before anything reads the Host."""
    config.add_tween(
        f"{__name__}.refuse_other_hosts",
        under=EXCVIEW,
        over="hello_login.web.tweens.refuse_malformed",
    )


def refuse_other_hosts(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    """Refuse requests for another Host than SITE_URL's, if it is set (a tween).

    Ports may differ, because a proxy may leave them out.  In production, SITE_URL replaces the
    Host and the scheme, so redirects and the CSRF check use it.  Development takes every name of
    this machine as well.
    The tween raises HTTPMisdirectedRequest.
    """
    settings: Settings = registry.hello_login
    own = _own_hosts(settings)
    site = urlsplit(settings.site_url or "")

    def tween(request: Any) -> Any:
        environ = request.environ
        # HTTP/1.0 needs no Host.  The server removes a malformed one before it lets us answer.
        host = environ.get("HTTP_HOST")
        if site.netloc and settings.secure_cookies:
            environ.update({"HTTP_HOST": site.netloc, "wsgi.url_scheme": site.scheme})
        if host and not own.fullmatch(host) and environ["PATH_INFO"] not in PROBES:
            raise HTTPMisdirectedRequest
        return handler(request)

    return tween


def _own_hosts(settings: Settings) -> re.Pattern[str]:
    """Return the pattern of the Host headers of this site; without SITE_URL, any will do."""
    names = re.escape(settings.host)
    if settings.embedded_postgres:
        names += f"|{LOOPBACK}"
    elif not (names and settings.secure_cookies):
        names = ".*"
    return re.compile(f"({names})(:[0-9]*)?", re.IGNORECASE)
