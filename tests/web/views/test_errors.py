"""The answers to requests that fail, in HTML and JSON."""

from typing import Any

import pytest
import webob.request
import webtest
from psycopg2.extensions import connection as Connection

import hello_login
from hello_login.web.routes import STATIC
from hello_login.web.views import greeting
from tests.conftest import MakeIni, OpenBrowser
from tests.people import EMAIL, register
from tests.rows import execute

ACCEPTED = {
    "text/html": "text/html",
    "application/json": "application/json",
    "*/*": "application/json",
}


@pytest.mark.parametrize(("accept", "content_type"), ACCEPTED.items())
@pytest.mark.parametrize(
    ("method", "path", "status", "title"),
    [
        ("GET", "/nowhere", 404, "There is no such page"),
        ("GET", f"/{STATIC}/nothing.css", 404, "There is no such page"),
        ("GET", f"/{STATIC}/", 404, "There is no such page"),
        ("GET", "/static/0123456789ab/style.css", 404, "There is no such page"),
        ("POST", "/", 405, "This can't be done here"),
        ("GET", "/logout", 405, "This can't be done here"),
        ("TRACE", "/login", 405, "This can't be done here"),
        ("POST", "/login", 400, "This form has expired"),
        ("GET", "/%FF", 400, "We can't read what was sent"),
        ("GET", "/login?next=%FF", 400, "We can't read what was sent"),
        ("GET", "/login?next=%00", 400, "We can't read what was sent"),
    ],
)
def test_errors_are_shown_in_html_or_json_as_requested(
    open_browser: OpenBrowser,
    accept: str,
    content_type: str,
    method: str,
    path: str,
    status: int,
    title: str,
) -> None:
    response = open_browser(HTTP_ACCEPT=accept).request(path, method=method, status=status)
    assert response.content_type == content_type
    assert response.headers["Vary"] == "Accept"
    quoted = response.headers["X-Request-ID"]
    assert len(quoted) == 16
    if content_type == "text/html":
        assert response.html.h1.get_text() == title
        assert f"quote {quoted}" in response
    else:
        assert response.json["error"] == title
        assert response.json["request_id"] == quoted
        assert response.json["advice"]


def test_a_refused_method_is_answered_with_the_allowed_methods(browser: webtest.TestApp) -> None:
    assert browser.delete("/login", status=405).headers["Allow"] == "GET, HEAD, POST"
    assert browser.get("/logout", status=405).headers["Allow"] == "POST"


@pytest.mark.parametrize("body", [b"email=%FF", b"email=a%00b", b"%00=a"])
def test_a_form_that_is_not_valid_text_is_refused(browser: webtest.TestApp, body: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    browser.request("/login", method="POST", body=body, headers=headers, status=400)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the Content-Types of the bodies that WebOb parses as forms."""
    content_types: list[str] = []
    parse = webob.request.cgi_FieldStorage

    def spy(*arguments: Any, environ: dict[str, str], **options: Any) -> Any:
        content_types.append(environ["CONTENT_TYPE"])
        return parse(*arguments, environ=environ, **options)

    monkeypatch.setattr("webob.request.cgi_FieldStorage", spy)
    return content_types


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        'multipart/form-data; a="' + ";" * 15_000,
        'application/x-www-form-urlencoded; a="' + ";" * 15_000,
        "application/x-www-form-urlencoded; charset=iso-8859-1",
        "application/x-www-form-urlencoded; charset=foo",
    ],
)
def test_a_body_of_another_content_type_is_refused_and_not_parsed(
    browser: webtest.TestApp, parsed: list[str], method: str, content_type: str
) -> None:
    headers = {"Content-Type": content_type}
    body = b'--x\r\nContent-Disposition: form-data; name="' + b";" * 1000
    page = browser.request("/login", method=method, body=body, headers=headers, status=415)
    assert page.html.h1.get_text() == "We can't read this kind of content"
    assert parsed == []


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_a_post_of_another_content_type_is_refused(
    browser: webtest.TestApp, parsed: list[str], content_type: str
) -> None:
    headers = {"Content-Type": content_type}
    browser.request("/login", method="POST", body=b"{}", headers=headers, status=415)
    assert parsed == []


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded;charset=UTF-8",
        "application/x-www-form-urlencoded; charset=utf-8",
    ],
)
def test_a_form_is_parsed_once(
    browser: webtest.TestApp, parsed: list[str], content_type: str
) -> None:
    headers = {"Content-Type": content_type}
    page = browser.request("/login", method="POST", body=b"email=a", headers=headers, status=400)
    assert page.html.h1.get_text() == "This form has expired"
    assert parsed == [content_type]


def test_a_content_type_without_a_body_is_accepted(
    browser: webtest.TestApp,
) -> None:
    browser.get("/", headers={"Content-Type": "application/json"}, status=200)


def test_more_than_100_fields_are_refused_and_not_parsed(
    browser: webtest.TestApp, parsed: list[str]
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    many = "&".join(["a"] * 101)
    page = browser.post("/login", many, headers, status=400)
    assert page.html.h1.get_text() == "We can't read what was sent"
    assert parsed == []
    browser.get(f"/login?{many}", status=400)
    browser.get(f"/login?{many[2:]}", status=200)


@pytest.mark.parametrize("header", ["Origin", "Referer"])
def test_an_origin_that_is_not_a_url_is_refused(
    open_browser: OpenBrowser, production_app: Any, header: str
) -> None:
    browser = open_browser(production_app, **{"wsgi.url_scheme": "https"})
    browser.post("/login", headers={header: "https://["}, status=400)


def test_a_cookie_that_is_not_ascii_is_ignored(browser: webtest.TestApp) -> None:
    browser.set_cookie("session", "\xff")
    browser.get("/account", status=303)


def test_the_redirect_to_login_drops_a_target_too_long_for_a_proxy(
    browser: webtest.TestApp,
) -> None:
    for length, kept in ((1900, True), (2000, False), (4000, False)):
        location = browser.get(f"/account?{'a' * length}", status=303).location
        assert ("next=" in location) is kept
        assert len(location) < 2100


def test_a_page_that_needs_a_login_redirects_to_the_login_and_back(
    browser: webtest.TestApp,
) -> None:
    response = browser.get("/account?tab=1", status=303)
    assert response.location == "http://localhost/login?next=%2Faccount%3Ftab%3D1"
    assert response.headers["Vary"] == "Accept"


def test_a_json_request_for_a_page_that_needs_a_login_gets_a_403(open_browser: OpenBrowser) -> None:
    response = open_browser(HTTP_ACCEPT="application/json").get("/account", status=403)
    assert response.json["error"] == "You don't have access to this page"


def test_a_logged_in_user_is_not_redirected_to_the_login(
    browser: webtest.TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(browser)
    monkeypatch.setattr("hello_login.web.security.AuthTktSecurityPolicy.permits", lambda *_: False)
    page = browser.get("/account", status=403).html
    assert page.h1.get_text() == "You don't have access to this page"


@pytest.mark.parametrize("accept", ACCEPTED)
def test_an_unexpected_error_is_described_only_in_the_log(
    open_browser: OpenBrowser,
    accept: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delattr(greeting, "GREETING")
    response = open_browser(HTTP_ACCEPT=accept).get("/", status=500)
    assert response.content_type == ACCEPTED[accept]
    assert "Something went wrong here" in response
    assert "GREETING" not in response
    assert "Traceback" not in response
    assert "NameError: name 'GREETING' is not defined" in caplog.text


def test_an_unexpected_error_of_the_database_is_logged_without_what_was_typed(
    browser: webtest.TestApp, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    execute(db, "ALTER TABLE users ADD CONSTRAINT no_queens CHECK (name <> 'Augusta King')")
    register(browser, name="Augusta King", status=500)
    assert 'CheckViolation: new row for relation "users" violates check' in caplog.text
    assert '"no_queens"' in caplog.text
    assert "in insert" in caplog.text  # the traceback
    for typed in ("Augusta", EMAIL, "argon2"):
        assert typed not in caplog.text


VISITOR, ACCOUNT = ["/", "/login", "/register"], ["/", "/account"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("POST", "/", 405)]
)
def test_the_error_page_of_a_visitor_links_to_the_login_and_the_registration(
    browser: webtest.TestApp, method: str, path: str, status: int
) -> None:
    for cookie, links in ((None, VISITOR), ("forged", VISITOR)):
        if cookie:
            browser.set_cookie("session", cookie)
        page = browser.request(path, method=method, status=status)
        assert [link["href"] for link in page.html.header("a")] == links
        assert page.html.script is None
    register(browser)
    page = browser.request(path, method=method, status=status)
    assert [link["href"] for link in page.html.header("a")] == ACCOUNT


def test_the_error_page_of_a_closed_site_offers_no_registration(
    open_browser: OpenBrowser, ini: MakeIni
) -> None:
    browser = open_browser(hello_login.main({}, **ini(registration="closed")))
    page = browser.get("/nowhere", status=404)
    assert [link["href"] for link in page.html.header("a")] == ["/", "/login"]


@pytest.mark.parametrize(("path", "status"), [("/%FF", 400), ("/", 500)])
def test_an_error_that_a_cookie_may_have_caused_has_the_same_links_for_everybody(
    browser: webtest.TestApp, monkeypatch: pytest.MonkeyPatch, path: str, status: int
) -> None:
    monkeypatch.delattr(greeting, "GREETING")
    page = browser.get(path, status=status)
    assert [link["href"] for link in page.html.header("a")] == ACCOUNT


@pytest.mark.parametrize(
    "path",
    ["/logout", "/account/confirm-address", "/account/passkeys/decline", "/password-check"],
)
def test_the_error_page_of_a_url_that_takes_only_post_has_no_link_to_it(
    browser: webtest.TestApp, path: str
) -> None:
    register(browser)
    page = browser.post(path, status=400)
    assert [link["href"] for link in page.html.main("a")] == ["/"]


def test_a_url_that_takes_only_post_offers_no_retry_while_the_database_is_down(
    browser: webtest.TestApp, db: Connection
) -> None:
    register(browser)
    token = browser.get("/account").forms[0]["csrf_token"].value
    db.close()
    page = browser.post("/account/confirm-address", {"csrf_token": token}, status=503)
    assert {link["href"]: link.get_text() for link in page.html.main("a")} == {"/": "Home page"}


def test_an_error_page_has_links_and_does_not_query_the_database(
    browser: webtest.TestApp, db: Connection
) -> None:
    register(browser)
    db.close()
    page = browser.get("/nowhere", status=404)
    assert [link["href"] for link in page.html.header("a")] == ["/", "/account"]


@pytest.mark.parametrize(
    ("method", "path", "status", "links"),
    [
        ("GET", "/", 500, {"": "Try again", "/": "Home page"}),
        ("POST", "/login", 400, {"": "Open the form again", "/": "Home page"}),
        ("POST", "/nowhere", 404, {"/": "Home page"}),
        ("GET", "/nowhere", 404, {"/": "Home page"}),
    ],
)
def test_an_error_page_links_to_a_retry_only_if_it_may_succeed(
    browser: webtest.TestApp,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    status: int,
    links: dict[str, str],
) -> None:
    monkeypatch.delattr(greeting, "GREETING")
    page = browser.request(path, method=method, status=status)
    assert {link["href"]: link.get_text() for link in page.html.main("a")} == links
