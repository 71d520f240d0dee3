"""The security policy, and what every view requires."""

from typing import Any

import webtest
from pyramid.httpexceptions import default_exceptionresponse_view
from pyramid.request import apply_request_extensions

from tests.people import register
from tests.visitor import Visitor

OPEN_VIEWS = {
    "greeting": {"needs login": False},
    "register": {"needs login": False, "methods": ("GET", "HEAD", "POST")},
    "login": {"needs login": False, "methods": ("GET", "HEAD", "POST")},
    "logout": {"needs login": False, "methods": ("POST",)},
    "change_profile": {"methods": ("GET", "HEAD", "POST")},
    "change_password": {"methods": ("GET", "HEAD", "POST")},
    "end_sessions": {"methods": ("GET", "HEAD", "POST")},
    "delete_account": {"methods": ("GET", "HEAD", "POST")},
    "confirm_address": {"methods": ("POST",)},
    "forgot": {"needs login": False, "methods": ("GET", "HEAD", "POST")},
    "link": {"needs login": False, "methods": ("GET", "HEAD", "POST")},
    "change_password_hint": {"needs login": False},
    "healthz": {"needs login": False},
    "readyz": {"needs login": False},
    "static": {"needs login": False},
}
"""The exceptions that views make from CLOSED.  Add a new one here too: it is a decision."""

CLOSED = {"needs login": True, "methods": ("GET", "HEAD"), "needs CSRF token": True}


def test_every_view_is_closed_unless_it_is_listed_as_open(app: Any) -> None:
    open_views = {}
    for entry in app.registry.introspector.get_category("views"):
        view = entry["introspectable"]
        if view["route_name"] is None:
            assert view["exception_only"] or view["callable"] is default_exceptionresponse_view
            continue
        protection = {
            "needs login": hasattr(view["derived_callable"], "__permitted__"),
            "methods": view.get("require_methods", ("GET", "HEAD")),
            "needs CSRF token": view["require_csrf"] is not False,
        }
        if protection != CLOSED:
            open_views[view["route_name"]] = dict(protection.items() - CLOSED.items())
    assert open_views == OPEN_VIEWS


def test_a_request_with_a_session_cookie_has_the_id_of_its_user(
    app: Any, browser: webtest.TestApp, visitor: Visitor
) -> None:
    register(browser)

    def user_id(cookies: dict[str, str]) -> int | None:
        request = app.request_factory.blank("/", browser.extra_environ, cookies=cookies)
        request.registry = app.registry
        apply_request_extensions(request)
        found: int | None = request.authenticated_userid
        return found

    assert user_id({"session": browser.cookies["session"]}) == visitor.user().id
    assert user_id({}) is None
