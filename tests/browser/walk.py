"""Every page, in every state that it can be in."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import webtest

import hello_login
from hello_login.security import AuthTktSecurityPolicy
from tests.browser.site import Site
from tests.conftest import ROOT
from tests.people import EMAIL, PASSWORD

NAME = "Ada Lovelace"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1"
)


def fill(page: Any, button: str, **typed: str) -> None:
    """Type into the fields of these names, and press the button."""
    for name, value in typed.items():
        page.locator(f"input[name={name}]").fill(value)
    page.get_by_role("main").get_by_role("button", name=button, exact=True).click()


def register(page: Any, email: str = EMAIL, name: str = NAME) -> None:
    page.goto("/register")
    fill(page, "Register", name=name, email=email, password=PASSWORD, confirm=PASSWORD)


def log_in(page: Any, email: str = EMAIL, password: str = PASSWORD) -> None:
    page.goto("/login")
    fill(page, "Log in", email=email, password=password)


def walk(page: Any, site: Site) -> Iterator[str]:
    """Yields the name of a state when the page is in it; the next one begins where it is left."""
    page.goto("/")
    yield "home"
    page.goto("/register")
    yield "register"
    fill(page, "Register", name="", email="ada@", password="short", confirm="other")
    yield "register-refused"
    register(page)
    yield "registered"
    page.goto("/")
    yield "home-logged-in"
    yield from _walk_account(page, site)
    yield from _walk_errors(page, site)
    page.goto("/")
    page.get_by_role("button", name="Log out").click()
    yield "logged-out"
    yield from _walk_login(page)


def _walk_account(page: Any, site: Site) -> Iterator[str]:
    for user_agent in (IPHONE, FIREFOX):
        other = page.context.browser.new_context(base_url=site.url, user_agent=user_agent)
        log_in(other.new_page())
        other.close()
    page.goto("/account")
    yield "account"
    page.goto("/account/profile")
    yield "profile"
    fill(page, "Save", name="", email="ada@example.org")
    yield "profile-refused"
    page.goto("/account/profile")
    fill(page, "Save", name="Ada King")
    yield "profile-saved"
    page.goto("/account/password")
    yield "password"
    fill(page, "Change password", current="a wrong one", password="password1234", confirm="other")
    yield "password-refused"
    page.goto("/account")
    which = page.locator("button[name=session]").first.get_attribute("value")
    page.goto(f"/account/sessions/end?session={which}")
    yield "end-session"
    site.database.execute("UPDATE sessions SET authenticated_at = now() - INTERVAL '1 hour'")
    page.goto("/account/sessions/end?session=others")
    yield "end-sessions-asked"
    fill(page, "End them", current="a wrong one")
    yield "end-sessions-refused"
    page.goto("/account/delete")
    yield "delete"
    fill(page, "Delete my account", current="a wrong one")
    yield "delete-refused"


def _walk_errors(page: Any, site: Site) -> Iterator[str]:
    page.goto("/account/profile")
    page.context.clear_cookies(name="csrf_token")
    fill(page, "Save")
    yield "expired"
    page.goto("/nowhere")
    yield "not-found"
    page.goto("/logout")
    yield "not-allowed"
    forbidden = _render_forbidden(site)
    page.route(re.compile("/account$"), lambda route: route.fulfill(status=403, body=forbidden))
    page.goto("/account")
    yield "forbidden"
    page.unroute_all()
    site.database.execute("ALTER TABLE sessions RENAME TO moved")
    page.goto("/account")
    yield "failed"
    site.database.execute("ALTER TABLE moved RENAME TO sessions")
    site.database.kill()
    page.goto("/account")
    yield "offline"
    site.database.start_again()


def _walk_login(page: Any) -> Iterator[str]:
    page.goto("/login")
    yield "login"
    page.goto("/account")
    yield "login-to-go-on"
    log_in(page, password="a wrong one")
    yield "login-refused"
    for _ in range(5):
        log_in(page, password="a wrong one")
    yield "login-throttled"


def _render_forbidden(site: Site) -> str:
    """The page that nobody comes to while to be logged in is the one permission there is."""
    ini = {"database_url": site.database.url, "secret_key": "k" * 32, "migrations": f"{ROOT}/sql"}
    app = hello_login.main({}, **{f"hello_login.{name}": ini[name] for name in ini})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AuthTktSecurityPolicy, "permits", lambda *_: False)
        patch.setattr(AuthTktSecurityPolicy, "identity", lambda *_: EMAIL)
        browser = webtest.TestApp(app, {"HTTP_ACCEPT": "text/html"})
        return str(browser.get("/account", status=403).text)
