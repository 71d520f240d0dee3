"""View derivers that refuse a request before its view: by the method, or by the login's age."""

from datetime import timedelta
from typing import Any

from pyramid.httpexceptions import HTTPMethodNotAllowed, HTTPSeeOther
from pyramid.viewderivers import INGRESS as FIRST_DERIVER

from ..auth.sessions import FRESH_LOGIN
from .typed import keep_typed
from .views.flash import redirect

FRESH_PAGE = FRESH_LOGIN - timedelta(minutes=5)
"""The age of a login up to which a page is shown.  Then there is time to send its form: otherwise,
the browser could make a passkey that is refused."""

MAX_REDIRECT_LENGTH = 2000
"""Characters.  Many proxies answer 502 to response headers of more than 4,096 bytes."""


def includeme(config: Any) -> None:
    """Add the view derivers."""
    config.add_view_deriver(require_methods, under=FIRST_DERIVER, over="refuse_other_origins")
    config.add_view_deriver(require_fresh_login)


def require_methods(view: Any, info: Any) -> Any:
    """Wrap a view, to refuse every method that it does not name (a view deriver).

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


def require_fresh_login(view: Any, info: Any) -> Any:
    """Wrap a view with fresh=True, to ask for the password if the login is old (a view deriver).

    ASVS 5.0, 7.5.1 and 7.5.3.  The view needs a login anyway.
    """
    if not info.options.get("fresh"):
        return view

    def guarded(context: Any, request: Any) -> Any:
        form_was_sent = request.method == "POST"
        if request.login_session.login_age < (FRESH_LOGIN if form_was_sent else FRESH_PAGE):
            return view(context, request)
        confirm = url_with_next(request, "confirm", request.path_qs)
        if form_was_sent:
            response = redirect(request, confirm, "login_not_fresh")
            keep_typed(request, response)
            return response
        return HTTPSeeOther(confirm)

    return guarded


require_fresh_login.options = ("fresh",)  # type: ignore[attr-defined]


def url_with_next(request: Any, route_name: str, target: str | None) -> str:
    """Return the URL of a route that redirects to the target afterwards, unless it is too long."""
    url = str(request.route_path(route_name))
    with_next = str(request.route_path(route_name, _query={"next": target}))
    return with_next if target and len(with_next) <= MAX_REDIRECT_LENGTH else url
