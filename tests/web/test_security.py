"""The security policy, and the requirements of every view."""

from collections.abc import Iterator
from typing import Any

import webtest
from pyramid.httpexceptions import default_exceptionresponse_view
from pyramid.request import apply_request_extensions

import hello_login
from tests.conftest import MakeIni
from tests.people import register
from tests.visitor import Visitor

OPEN_VIEWS = {
    "greeting": {"needs login": False},
    "register": {"needs login": False, "methods": ("GET", "HEAD", "POST")},
    "login": {"needs login": False, "methods": ("GET", "HEAD", "POST")},
    "second_step": {"needs login": False, "methods": ("GET", "HEAD", "POST")},
    "logout": {"needs login": False, "methods": ("POST",)},
    "change_profile": {"methods": ("GET", "HEAD", "POST")},
    "change_password": {"methods": ("GET", "HEAD", "POST")},
    "end_sessions": {"methods": ("GET", "HEAD", "POST")},
    "delete_account": {"methods": ("GET", "HEAD", "POST")},
    "confirm": {"methods": ("GET", "HEAD", "POST")},
    "totp": {"methods": ("GET", "HEAD", "POST")},
    "remove_totp": {"methods": ("GET", "HEAD", "POST")},
    "add_passkey": {"methods": ("GET", "HEAD", "POST")},
    "decline_passkey": {"methods": ("POST",)},
    "rename_passkey": {"methods": ("GET", "HEAD", "POST")},
    "remove_passkey": {"methods": ("GET", "HEAD", "POST")},
    "recovery_codes": {"methods": ("GET", "HEAD", "POST")},
    "confirm_address": {"methods": ("POST",)},
    "forgot": {"needs login": False, "methods": ("GET", "HEAD", "POST")},
    "link": {"needs login": False, "methods": ("GET", "HEAD", "POST")},
    "check_password": {"needs login": False, "methods": ("POST",)},
    "change_password_hint": {"needs login": False},
    "favicon": {"needs login": False},
    "robots": {"needs login": False},
    "healthz": {"needs login": False},
    "readyz": {"needs login": False},
    "metrics": {"needs login": False},  # a token of its own
    "static": {"needs login": False},
}
"""The exceptions that views make from CLOSED.  Add a new one here too: it is a decision."""

CLOSED = {"needs login": True, "methods": ("GET", "HEAD"), "needs CSRF token": True}

FRESH_VIEWS = {
    "change_profile": "a new address gets the links that set a password",
    "change_password": "ends all other sessions",
    "end_sessions": "the thief of a session could lock its owner out",
    "delete_account": "can't be undone",
    "totp": "the app of a thief could lock the owner out",
    "remove_totp": "the password alone may be enough afterwards",
    "add_passkey": "the passkey of a thief logs in without the password",
    "remove_passkey": "the password alone may be enough afterwards",
    "recovery_codes": "shows new codes, and the earlier ones end",
}
"""The views that need a fresh login, each with the reason."""

CHANGING_WITHOUT_FRESH_LOGIN = {
    "confirm": "makes the login fresh",
    "confirm_address": "only sends a mail to the account's own address",
    "decline_passkey": "only ends the offers of a passkey",
    "rename_passkey": "only changes a label that the owner alone sees",
}
"""The other views that take a POST and need a login.  Each reason says why an old one is enough."""

BEFORE_SECOND_FACTOR = {
    "confirm": "the login must be fresh to set up a second factor",
    "totp": "sets it up",
    "add_passkey": "sets it up",
    "confirm_address": "with mail, the address must be confirmed before",
}
"""The views for a user who must set up a second factor, each with the reason."""


def views_by_route(app: Any) -> Iterator[tuple[str, Any]]:
    """Yield the route's name and the introspectable of every view that is not for errors only."""
    for entry in app.registry.introspector.get_category("views"):
        view = entry["introspectable"]
        if view["route_name"] is None:
            assert view["exception_only"] or view["callable"] is default_exceptionresponse_view
        else:
            yield view["route_name"], view


def test_every_view_is_closed_unless_it_is_listed_as_open(ini: MakeIni) -> None:
    app = hello_login.main({}, **ini(metrics_token="0123456789abcdef0123456789abcdef"))
    open_views = {}
    for name, view in views_by_route(app):
        protection = {
            "needs login": hasattr(view["derived_callable"], "__permitted__"),
            "methods": view.get("require_methods", ("GET", "HEAD")),
            "needs CSRF token": view["require_csrf"] is not False,
        }
        if protection != CLOSED:
            open_views[name] = dict(protection.items() - CLOSED.items())
    assert open_views == OPEN_VIEWS


def test_every_view_that_changes_an_account_needs_a_fresh_login_unless_it_is_listed(
    app: Any,
) -> None:
    fresh, changing = set(), set()
    for name, view in views_by_route(app):
        if view.get("fresh"):
            fresh.add(name)
        needs_login = hasattr(view["derived_callable"], "__permitted__")
        if needs_login and "POST" in view.get("require_methods", ()):
            changing.add(name)
    assert fresh == set(FRESH_VIEWS)
    assert changing - fresh == set(CHANGING_WITHOUT_FRESH_LOGIN)
    assert fresh <= changing


def test_every_view_is_closed_until_a_required_second_factor_is_set_up_unless_it_is_listed(
    app: Any,
) -> None:
    permissions = {}
    for name, view in views_by_route(app):
        if hasattr(view["derived_callable"], "__permitted__"):
            permissions[name] = view["derived_callable"].__permission__
    before = {name for name, permission in permissions.items() if permission == "logged_in"}
    assert before == set(BEFORE_SECOND_FACTOR)
    assert {permissions[name] for name in permissions.keys() - before} == {"authenticated"}


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
