"""A walk through every page in every state."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import webtest

import hello_login
from hello_login.web.security import AuthTktSecurityPolicy
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
    """Type the values into the fields of these names, and press the button."""
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
    """Yield the name of each state while the page is in it; the caller must not leave the page."""
    page.goto("/")
    yield _reach(page, "home", "Log in to be greeted by name")
    page.goto("/register")
    yield _reach(page, "register", "Already registered?")
    fill(page, "Register", name="", email="ada@", password="short", confirm="other")
    yield _reach(page, "register-refused", "The two passwords differ")
    register(page)
    yield _reach(page, "registered", "Welcome!")
    page.goto("/")
    yield _reach(page, "home-logged-in", "Good to see you")
    yield from _walk_account(page, site)
    yield from _walk_errors(page, site)
    page.goto("/")
    page.get_by_role("button", name="Log out").click()
    yield _reach(page, "logged-out", "You are logged out")
    yield from _walk_login(page)


def _reach(page: Any, state: str, words: str) -> str:
    """Wait for words that only this state shows, and return the state's name."""
    page.get_by_role("main").get_by_text(words).first.wait_for()
    return state


def _walk_account(page: Any, site: Site) -> Iterator[str]:
    for user_agent in (IPHONE, FIREFOX):
        other = page.context.browser.new_context(base_url=site.url, user_agent=user_agent)
        log_in(other.new_page())
        other.close()
    page.goto("/account")
    yield _reach(page, "account", "Firefox on Windows")
    page.goto("/account/profile")
    yield _reach(page, "profile", "Needed only to change the address")
    fill(page, "Save", name="", email="ada@example.org")
    yield _reach(page, "profile-refused", "Type the name")
    page.goto("/account/profile")
    fill(page, "Save", name="Ada King")
    yield _reach(page, "profile-saved", "Your changes are saved")
    page.goto("/account/profile")
    fill(page, "Save", name="Augusta" * 14)
    yield _reach(page, "long-name", "AugustaAugusta")
    page.goto("/account/profile")
    fill(page, "Save", name="Ada King")
    _reach(page, "", "Your changes are saved")
    page.goto("/account/password")
    yield _reach(page, "password", "other devices have to log in again")
    fill(page, "Change password", current="a wrong one", password="password1234", confirm="other")
    yield _reach(page, "password-refused", "Many people use this password")
    page.goto("/account")
    which = page.locator("button[name=session]").first.get_attribute("value")
    page.goto(f"/account/sessions/end?session={which}")
    yield _reach(page, "end-session", "That device has")
    site.database.execute("UPDATE sessions SET authenticated_at = now() - INTERVAL '1 hour'")
    page.goto("/account/sessions/end?session=others")
    yield _reach(page, "end-sessions-asked", "You logged in a while ago")
    fill(page, "End them", current="a wrong one")
    yield _reach(page, "end-sessions-refused", "This is not your password")
    page.goto("/account/delete")
    yield _reach(page, "delete", "will be deleted")
    fill(page, "Delete my account", current="a wrong one")
    yield _reach(page, "delete-refused", "This is not your password")


def _walk_errors(page: Any, site: Site) -> Iterator[str]:
    page.goto("/account/profile")
    page.locator("main [name=csrf_token]").evaluate("field => { field.value = 'old' }")
    fill(page, "Save")
    yield _reach(page, "expired", "This form has expired")
    page.goto("/nowhere")
    yield _reach(page, "not-found", "There is no such page")
    page.goto("/logout")
    yield _reach(page, "not-allowed", "This can't be done here")
    forbidden = _render_forbidden(site)
    page.route(re.compile("/account$"), lambda route: route.fulfill(status=403, body=forbidden))
    page.goto("/account")
    yield _reach(page, "forbidden", "You don't have access to this page")
    page.unroute_all()
    # A wrong type makes the page fail.  A missing table would be reported as an old schema.
    change = "ALTER TABLE users ALTER created_at TYPE {0} USING created_at::{0}"
    site.database.execute("ALTER TABLE users ALTER created_at DROP DEFAULT")
    site.database.execute(change.format("text"))
    page.goto("/account")
    yield _reach(page, "failed", "Something went wrong here")
    site.database.execute(change.format("timestamptz"))
    site.database.execute("ALTER TABLE users ALTER created_at SET DEFAULT now()")
    site.database.kill()
    page.goto("/account")
    yield _reach(page, "offline", "Our database is too busy or unreachable")
    site.database.start_again()


def _walk_login(page: Any) -> Iterator[str]:
    page.goto("/login")
    yield _reach(page, "login", "Forgot your password?")
    page.goto("/account")
    yield _reach(page, "login-to-go-on", "Log in to continue")
    log_in(page, password="a wrong one")
    yield _reach(page, "login-refused", "The address or the password is wrong")
    for _ in range(5):
        log_in(page, password="a wrong one")
    yield _reach(page, "login-rate-limited", "Too many attempts")


def _render_forbidden(site: Site) -> str:
    """Return the page for a missing permission; no view requires one that a user can lack."""
    ini = {"database_url": site.database.url, "secret_key": "k" * 32, "migrations": f"{ROOT}/sql"}
    ini["trusted_proxy"] = "none"
    app = hello_login.main({}, **{f"hello_login.{name}": ini[name] for name in ini})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AuthTktSecurityPolicy, "permits", lambda *_: False)
        patch.setattr(AuthTktSecurityPolicy, "identity", lambda *_: EMAIL)
        browser = webtest.TestApp(app, {"HTTP_ACCEPT": "text/html"})
        return str(browser.get("/account", status=403).text)
