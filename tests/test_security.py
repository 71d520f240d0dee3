"""Who is asking, and what every view is guarded by."""

from typing import Any

import pytest
from pyramid.httpexceptions import default_exceptionresponse_view

from hello_login import security
from hello_login.routes import STATIC

OPEN = {
    "greeting": {"needs login": False},
    "register": {"needs login": False, "methods": ("GET", "HEAD", "POST")},
    "login": {"needs login": False, "methods": ("GET", "HEAD", "POST")},
    "logout": {"needs login": False, "methods": ("POST",)},
    "change_profile": {"methods": ("GET", "HEAD", "POST")},
    "change_password": {"methods": ("GET", "HEAD", "POST")},
    "end_sessions": {"methods": ("GET", "HEAD", "POST")},
    "delete_account": {"methods": ("GET", "HEAD", "POST")},
    "healthz": {"needs login": False},
    "readyz": {"needs login": False},
    f"__{STATIC}/": {"needs login": False},
}
"""Every view that opens itself, and how far.  A new one is a decision: make it here as well."""

CLOSED = {"needs login": True, "methods": ("GET", "HEAD"), "needs CSRF token": True}


def test_every_view_is_closed_but_those_that_open_themselves_by_name(app: Any) -> None:
    opened = {}
    for entry in app.registry.introspector.get_category("views"):
        view = entry["introspectable"]
        if view["route_name"] is None:
            assert view["exception_only"] or view["callable"] is default_exceptionresponse_view
            continue
        guards = {
            "needs login": hasattr(view["derived_callable"], "__permitted__"),
            "methods": view.get("require_methods", ("GET", "HEAD")),
            "needs CSRF token": view["require_csrf"] is not False,
        }
        if guards != CLOSED:
            opened[view["route_name"]] = dict(guards.items() - CLOSED.items())
    assert opened == OPEN


@pytest.mark.parametrize("target", ["/", "/account", "/account?tab=1#top", "/~ada/%C3%BC", "/a//b"])
def test_a_path_of_this_site_may_be_gone_on_to(target: str) -> None:
    assert security.local_path(target) == target


@pytest.mark.parametrize(
    "target",
    [
        None,
        "",
        "account",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https:evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/account\r\nSet-Cookie: a=b",
        "\t//evil.example",
        " //evil.example",
        "/account\x7f",
        "/account\n",
        "/a b",
        "/\xfc",
        "/\u65e5\u672c",
        "/\u2028",
    ],
)
def test_nothing_else_may_be_gone_on_to(target: str | None) -> None:
    assert security.local_path(target) is None
