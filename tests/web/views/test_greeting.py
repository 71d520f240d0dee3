"""GET /: the greeting."""

import pytest

import hello_login
from tests.conftest import MakeIni, OpenBrowser

GREETING = "Hello World, Little Dude, How Are You?"


@pytest.mark.parametrize("accept", ["*/*", "application/json", "image/png", "text/html;q=0.5, */*"])
def test_programs_are_greeted_in_json(open_browser: OpenBrowser, accept: str) -> None:
    response = open_browser(HTTP_ACCEPT=accept).get("/")
    assert response.content_type == "application/json"
    assert response.json == {"answer": GREETING}
    assert response.headers["Vary"] == "Accept"


@pytest.mark.parametrize(
    "accept", ["text/html", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"]
)
def test_browsers_are_greeted_with_a_page(open_browser: OpenBrowser, accept: str) -> None:
    response = open_browser(HTTP_ACCEPT=accept).get("/")
    assert response.html.h1.get_text() == GREETING
    assert response.headers["Vary"] == "Accept"
    assert [link["href"] for link in response.html.nav("a")] == ["/login", "/register"]


def test_a_request_without_an_accept_header_is_greeted_in_json(open_browser: OpenBrowser) -> None:
    browser = open_browser()
    del browser.extra_environ["HTTP_ACCEPT"]
    assert browser.get("/").json == {"answer": GREETING}


def test_the_first_page_says_what_the_site_is_and_whom_to_ask(
    open_browser: OpenBrowser, ini: MakeIni
) -> None:
    site = hello_login.main({}, **ini(site_name="Acme", contact="help@example.org"))
    page = open_browser(site).get("/").html.main
    assert "Acme shows hello_login, a free login for Pyramid applications" in page.p.get_text()
    assert page.p.a["href"] == "mailto:help@example.org"
    assert open_browser().get("/").html.main.p.a is None


def test_links_begin_with_the_path_at_which_a_server_mounts_the_site(
    open_browser: OpenBrowser,
) -> None:
    browser = open_browser(HTTP_ACCEPT="text/html")
    for mount in ("", "/first", "/second"):
        page = browser.get("/", extra_environ={"SCRIPT_NAME": mount}).html
        assert [link["href"] for link in page.nav("a")] == [f"{mount}/login", f"{mount}/register"]
        assert page.find("link", rel="stylesheet")["href"].startswith(f"{mount}/static/")
