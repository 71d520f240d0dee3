"""Requests for another host than this site's are refused."""

from typing import Any

import pytest
import webtest
from pyramid.httpexceptions import HTTPBadRequest

import hello_login
from hello_login.web.tweens import SERVER_ERROR_KEY
from tests.conftest import MakeIni, OpenBrowser

SITE = "https://login.example.org"


@pytest.fixture(scope="module")
def own_site(ini: MakeIni) -> Any:
    """Return the application of production.ini, with SITE_URL."""
    return hello_login.main({}, **ini(secure_cookies="true", site_url=SITE))


@pytest.fixture(scope="module")
def development(ini: MakeIni) -> Any:
    """Return the application of development.ini, with DATABASE_URL."""
    return hello_login.main({}, **ini(embedded_postgres="/nowhere"))


@pytest.mark.parametrize(
    "host",
    ["login.example.org", "LOGIN.example.org", "login.example.org:443", "login.example.org:"],
)
def test_production_answers_for_the_host_of_its_site_url(
    open_browser: OpenBrowser, own_site: Any, host: str
) -> None:
    browser = open_browser(own_site, HTTP_HOST=host)
    assert browser.get("/account", status=303).location == f"{SITE}/login?next=%2Faccount"


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "192.0.2.1", "[2001:db8::1]:443", "example.com", "login.example.org."),
        *("login.example.org.evil.example", "evil.example:login.example.org", "loginxexample.org"),
    ],
)
def test_production_refuses_another_host_and_leads_to_its_own(
    open_browser: OpenBrowser, own_site: Any, host: str
) -> None:
    page = open_browser(own_site, HTTP_HOST=host).get("/account", status=421)
    assert page.status == "421 Misdirected Request"
    assert page.html.h1.get_text() == "This is not the address of this site"
    assert [link["href"] for link in page.html.main("a")] == [f"{SITE}/"]
    answer = open_browser(own_site, HTTP_HOST=host, HTTP_ACCEPT="*/*").post("/login", status=421)
    assert answer.json["error"] == "This is not the address of this site"
    assert answer.json["advice"]
    assert host not in page.text + answer.text


@pytest.mark.parametrize(
    ("origin", "status"), [(SITE, 303), ("http://login.example.org", 400), ("https://a.org", 400)]
)
def test_forms_are_taken_from_pages_of_the_site_url_even_if_the_proxy_hides_the_scheme(
    open_browser: OpenBrowser, own_site: Any, origin: str, status: int
) -> None:
    plain = {"wsgi.url_scheme": "http", "HTTP_HOST": "login.example.org", "SERVER_PORT": "5000"}
    browser = open_browser(own_site, HTTP_ORIGIN=origin, **plain)
    token = browser.get("/login").forms[0]["csrf_token"].value
    # The cookies are Secure, and this browser sees http.
    cookies = "; ".join(f"{each.name}={each.value}" for each in browser.cookiejar)
    browser.post("/logout", {"csrf_token": token}, {"Cookie": cookies}, status=status)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_may_use_any_host(open_browser: OpenBrowser, own_site: Any, path: str) -> None:
    open_browser(own_site, HTTP_HOST="192.0.2.1:5000").get(path, status=200)


def test_a_request_without_a_host_is_answered_for_this_site(
    open_browser: OpenBrowser, own_site: Any
) -> None:
    browser = open_browser(own_site, SERVER_NAME="192.0.2.1", SERVER_PORT="5000")
    request = webtest.TestRequest.blank("/account", browser.extra_environ)
    del request.environ["HTTP_HOST"]
    assert browser.do_request(request, status=303).location.startswith(f"{SITE}/login")


def test_a_malformed_request_without_a_host_is_refused_as_malformed(
    open_browser: OpenBrowser, own_site: Any
) -> None:
    browser = open_browser(own_site, **{SERVER_ERROR_KEY: HTTPBadRequest()})
    request = webtest.TestRequest.blank("/", browser.extra_environ)
    del request.environ["HTTP_HOST"]
    assert browser.do_request(request, status=400)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost:5000", "localhost", "LOCALHOST:8080", "app.localhost:5000", "127.0.0.1:5000"),
        *("127.1.2.3", "[::1]:5000"),
    ],
)
def test_development_takes_every_name_of_this_machine(
    open_browser: OpenBrowser, development: Any, host: str
) -> None:
    location = open_browser(development, HTTP_HOST=host).get("/account", status=303).location
    assert location == f"http://{host}/login?next=%2Faccount"


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "192.0.2.1", "[::2]"])
def test_development_refuses_names_that_may_be_other_machines(
    open_browser: OpenBrowser, development: Any, host: str
) -> None:
    open_browser(development, HTTP_HOST=host).get("/", status=421)


def test_development_takes_the_host_of_its_site_url(
    open_browser: OpenBrowser, ini: MakeIni
) -> None:
    settings = {"embedded_postgres": "/nowhere", "site_url": "http://192.0.2.1:5000"}
    app = hello_login.main({}, **ini(**settings))
    open_browser(app, HTTP_HOST="192.0.2.1:5000").get("/", status=200)
    open_browser(app, HTTP_HOST="localhost:5000").get("/", status=200)


def test_without_a_site_url_production_takes_every_host(
    open_browser: OpenBrowser, production_app: Any
) -> None:
    browser = open_browser(production_app, HTTP_HOST="example.org", **{"wsgi.url_scheme": "https"})
    location = browser.get("/account", status=303).location
    assert location == "https://example.org/login?next=%2Faccount"
