"""What the next page says, after one redirect and no more."""

from typing import Any

import webtest

from tests.conftest import MakeClient
from tests.people import log_out, register


def told(page: Any) -> str | None:
    message = page.html.find(role="status")
    return message and str(message.get_text())


def test_a_message_survives_one_redirect_and_no_more(browser: webtest.TestApp) -> None:
    page = register(browser).follow()
    assert told(page) == "Welcome! Your account is ready, and you are logged in."
    assert told(browser.get("/account")) is None
    assert told(log_out(browser).follow()) == "You are logged out."
    assert told(browser.get("/")) is None


def test_a_message_is_taken_off_the_browser_over_https_too(
    client: MakeClient, production_app: Any
) -> None:
    browser = client(production_app, **{"wsgi.url_scheme": "https", "HTTP_ORIGIN": "https://x"})
    browser.set_cookie("__Host-flash", "logged_out")
    page = browser.get("/")
    assert told(page) == "You are logged out."
    (cookie,) = page.headers.getall("Set-Cookie")
    assert cookie.startswith("__Host-flash=; Max-Age=0; Path=/; expires=")
    assert cookie.endswith("; secure; HttpOnly; SameSite=Lax")


def test_nobody_can_make_a_page_say_anything_else(browser: webtest.TestApp) -> None:
    browser.set_cookie("flash", "Your account is locked")
    assert told(browser.get("/")) is None
    assert "locked" not in browser.get("/")


def test_what_shows_no_message_leaves_it_for_the_next_page(browser: webtest.TestApp) -> None:
    browser.set_cookie("flash", "deleted")
    browser.get("/", headers={"Accept": "application/json"})
    browser.get("/nowhere", status=404)
    browser.get("/account", status=303)
    assert told(browser.get("/")) == "Your account is deleted."
