"""Messages that the next page shows once, after a redirect."""

from typing import Any

import webtest

from tests.conftest import OpenBrowser
from tests.people import log_out, register


def message_on(page: Any) -> str | None:
    message = page.html.find(role="status")
    return message and str(message.get_text())


def test_a_message_is_shown_once_after_a_redirect(browser: webtest.TestApp) -> None:
    page = register(browser).follow()
    assert message_on(page) == "Welcome! Your account is ready, and you are logged in."
    assert message_on(browser.get("/account")) is None
    assert message_on(log_out(browser).follow()) == "You are logged out."
    assert message_on(browser.get("/")) is None


def test_a_shown_message_is_deleted_from_the_browser_over_https(
    open_browser: OpenBrowser, production_app: Any
) -> None:
    browser = open_browser(
        production_app, **{"wsgi.url_scheme": "https", "HTTP_ORIGIN": "https://x"}
    )
    browser.set_cookie("__Host-flash", "logged_out")
    page = browser.get("/")
    assert message_on(page) == "You are logged out."
    (cookie,) = page.headers.getall("Set-Cookie")
    assert cookie.startswith("__Host-flash=; Max-Age=0; Path=/; expires=")
    assert cookie.endswith("; secure; HttpOnly; SameSite=Lax")


def test_a_forged_message_is_not_shown(browser: webtest.TestApp) -> None:
    browser.set_cookie("flash", "Your account is locked")
    assert message_on(browser.get("/")) is None
    assert "locked" not in browser.get("/")


def test_a_response_that_shows_no_messages_keeps_them_for_the_next_page(
    browser: webtest.TestApp,
) -> None:
    browser.set_cookie("flash", "deleted")
    browser.get("/", headers={"Accept": "application/json"})
    browser.get("/nowhere", status=404)
    browser.get("/account", status=303)
    assert message_on(browser.get("/")) == "Your account is deleted."
