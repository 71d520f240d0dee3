"""The operator's contact, CONTACT, is linked where users need help."""

from typing import Any

import pytest
import webtest

import hello_login
from hello_login.auth import rate_limits
from tests.conftest import MakeIni, OpenBrowser
from tests.people import log_in, register

CONTACT = "https://example.org/help?from=login&to=us"


def contacts(page: Any) -> list[str]:
    """Return the links of a page that lead to the operator."""
    return [link["href"] for link in page.html.main("a") if link.get_text().lower() == "ask us"]


@pytest.fixture(params=[CONTACT, "help@example.org"])
def helped(
    open_browser: OpenBrowser, ini: MakeIni, request: pytest.FixtureRequest
) -> webtest.TestApp:
    """Return a browser of a site with a contact."""
    return open_browser(hello_login.main({}, **ini(contact=request.param)))


def wait_page(browser: webtest.TestApp, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the page of a login that is refused by a rate limit."""
    monkeypatch.setattr(rate_limits, "MAX_PER_ACCOUNT_AND_NETWORK", 1)
    log_in(browser, password="a wrong password", status=422)
    return log_in(browser, password="a wrong password", status=429)


def test_the_contact_is_linked_from_the_login_error_and_wait_pages(
    helped: webtest.TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [helped.app.registry.hello_login.contact]
    assert expected[0] in (CONTACT, "mailto:help@example.org")
    assert contacts(helped.get("/login")) == expected
    error = helped.get("/nowhere", status=404)
    assert contacts(error) == expected
    assert error.headers["X-Request-ID"] in error.html.main.get_text()
    # The login page links to it twice: because of the wait, and for a forgotten password.
    assert contacts(wait_page(helped, monkeypatch)) == expected * 2


def test_the_page_of_an_expired_link_links_the_contact_if_no_mail_is_sent(
    helped: webtest.TestApp,
) -> None:
    page = helped.get("/link/expired", status=404)
    assert contacts(page) == [helped.app.registry.hello_login.contact]


def test_the_footer_of_every_page_links_the_contact(helped: webtest.TestApp) -> None:
    contact = helped.app.registry.hello_login.contact
    pages = [helped.get("/"), helped.get("/login"), helped.get("/nowhere", status=404)]
    register(helped)
    pages.append(helped.get("/account"))
    for page in pages:
        assert [link["href"] for link in page.html.footer("a")] == [contact]


def test_a_wrong_password_alone_does_not_link_the_contact_twice(helped: webtest.TestApp) -> None:
    assert len(contacts(log_in(helped, password="a wrong password", status=422))) == 1


def test_without_a_contact_no_page_links_one(
    browser: webtest.TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert contacts(browser.get("/login")) == []
    assert browser.get("/login").html.footer is None
    assert "Ask the operator of this site" in browser.get("/login")
    assert contacts(browser.get("/nowhere", status=404)) == []
    assert contacts(wait_page(browser, monkeypatch)) == []
