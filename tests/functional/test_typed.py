"""A form that could not be processed is filled in again with the typed text."""

import json
from typing import Any

import pytest
import webtest
from cryptography.fernet import Fernet
from psycopg2.extensions import connection as Connection

import hello_login
from hello_login.auth import totp
from hello_login.auth.totp import SecretBox
from tests.conftest import SECRET_KEY, MakeIni, OpenBrowser
from tests.functional.mail_site import MailSite, fill_in, last_form
from tests.functional.software_key import SoftwareKey, add_passkey
from tests.people import (
    EMAIL,
    PASSWORD,
    confirm,
    end,
    error_of,
    log_in,
    log_out,
    register,
)
from tests.rows import execute

OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
TYPED = {"name": "Augusta King", "email": "augusta@example.com"}
SECRETS = {
    "password": "a typed password",
    "confirm": "a typed repetition",
    "current": "a typed current password",
    "code": "123456",
    "credential": "a typed credential",
    "setup": "a typed setup",
    "next": "/a-typed-next",
}


def expire(form: Any, typed: dict[str, str] = TYPED, headers: dict[str, str] = OWN_PAGE) -> Any:
    """Fill in a form of this site, send it with a wrong CSRF token, and return the error page."""
    for name, value in typed.items():
        form[name] = value
    form["csrf_token"] = "from before the last login"
    return form.submit(headers=headers, status=400)


def values(page: Any, *names: str) -> list[str]:
    """Return the values of these fields of the page's last form."""
    form = last_form(page)
    return [form[name].value for name in names]


def kept(browser: webtest.TestApp) -> Any:
    """Return what the typed cookie keeps: a hash and the fields."""
    value = browser.cookies["typed"].strip('"').encode()
    return json.loads(SecretBox([SECRET_KEY], "typed").decrypt(0, value))


def keep(browser: webtest.TestApp) -> None:
    """Let the browser keep what was typed into the form of the registration."""
    expire(browser.get("/register").forms[0])
    assert "typed" in browser.cookies


@pytest.mark.parametrize("path", ["/register", "/login"])
def test_an_expired_form_is_filled_again(browser: webtest.TestApp, path: str) -> None:
    form = browser.get(path).forms[0]
    typed = {name: TYPED[name] for name in TYPED if name in form.fields}
    page = expire(form, {**typed, "password": PASSWORD})
    (link, _home) = page.html.main("a")
    assert (link["href"], link.get_text()) == ("", "Open the form again")
    again = browser.get(path)
    assert values(again, *typed) == list(typed.values())
    assert PASSWORD not in again


def test_a_choice_is_kept_as_well(browser: webtest.TestApp) -> None:
    for chosen in (True, False):
        form = browser.get("/login").forms[0]
        form["email"], form["remember"] = EMAIL, chosen
        expire(form, {})
        assert browser.get("/login").forms[0]["remember"].checked is chosen


def test_the_next_page_is_kept_beside_what_was_typed(browser: webtest.TestApp) -> None:
    page = "/login?next=/readyz"
    expire(browser.get(page).forms[0], {"email": EMAIL})
    assert values(browser.get(page), "email", "next") == [EMAIL, "/readyz"]


def test_the_form_of_an_ended_session_is_filled_after_the_login(open_browser: OpenBrowser) -> None:
    browser, other = open_browser(), open_browser()
    register(browser)
    log_in(other)
    form = browser.get("/account/profile").forms[1]
    end(other, "End all other sessions")
    for name, value in TYPED.items():
        form[name] = value
    to_login = form.submit(headers=OWN_PAGE, status=303).location
    assert to_login == "http://localhost/login?next=%2Faccount%2Fprofile"
    login_page = browser.get(to_login)
    assert login_page.html.find(role="status").get_text().startswith("You had been logged out")
    assert "Log in to continue." not in login_page
    assert values(browser.get("/login"), "email") == [""]
    page = log_in(browser, page=to_login).follow()
    assert values(page, *TYPED) == list(TYPED.values())
    again = "This is what you typed before. Save it now."
    assert again in page
    assert again not in browser.get("/account/profile")


def test_the_form_of_an_old_login_is_filled_after_the_confirmation(
    browser: webtest.TestApp, db: Connection
) -> None:
    register(browser)
    form = browser.get("/account/profile").forms[1]
    execute(db, "UPDATE sessions SET authenticated_at = now() - interval '15 minutes'")
    for name, value in TYPED.items():
        form[name] = value
    to_confirm = form.submit(headers=OWN_PAGE, status=303).location
    page = confirm(browser, page=to_confirm).follow()
    assert values(page, *TYPED) == list(TYPED.values())


def test_a_form_is_filled_again_after_an_outage(browser: webtest.TestApp, db: Connection) -> None:
    form = browser.get("/register").forms[0]
    for name, value in {**TYPED, "password": PASSWORD, "confirm": PASSWORD}.items():
        form[name] = value
    execute(db, "SAVEPOINT available; ALTER TABLE users RENAME TO missing_users")
    page = form.submit(headers=OWN_PAGE, status=503)
    execute(db, "ROLLBACK TO available")
    assert page.html.h1.get_text() == "We can't answer just now"
    assert "Nothing has changed." in page
    assert page.html.main.a.get_text() == "Open the form again"
    assert values(browser.get("/register"), *TYPED) == list(TYPED.values())


def test_the_form_for_another_password_is_filled_again(site: MailSite) -> None:
    browser = site.open_browser()
    expire(browser.get("/forgot").forms[0], {"email": EMAIL})
    assert values(browser.get("/forgot"), "email") == [EMAIL]


def test_the_form_of_a_link_is_filled_again_and_its_token_is_kept_nowhere(
    site: MailSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    browser = site.open_browser()
    site.ask("/register")
    link = site.deliver_link()
    token = link.rpartition("/")[2]
    page = expire(fill_in(browser, link, name="Augusta", password=PASSWORD), {})
    assert token not in page
    assert not any(token in header for header in page.headers.values())
    page_hash, fields = kept(browser)
    assert fields == {"name": "Augusta"}
    assert token not in page_hash
    assert not any(token in f"{each.getMessage()} {vars(each)}" for each in caplog.records)
    assert values(browser.get(link), "name", "password", "confirm") == ["Augusta", "", ""]


def test_the_new_name_of_a_passkey_is_filled_again(browser: webtest.TestApp) -> None:
    register(browser)
    add_passkey(browser, SoftwareKey(), status=200)
    path = browser.get("/account/passkeys").html.select_one("li a[href$='/name']")["href"]
    expire(last_form(browser.get(path)), {"name": "The blue key"})
    assert values(browser.get(path), "name") == ["The blue key"]


@pytest.mark.parametrize("path", ["/register", "/login", "/account/password", "/login/second"])
def test_no_secret_is_kept(browser: webtest.TestApp, path: str) -> None:
    browser.post(path, {**TYPED, **SECRETS, "csrf_token": "wrong"}, headers=OWN_PAGE, status=400)
    assert kept(browser)[1] == TYPED
    assert not any(secret in browser.get("/register") for secret in SECRETS.values())


def test_the_typed_cookie_fills_only_the_page_that_was_typed_on(browser: webtest.TestApp) -> None:
    keep(browser)
    assert values(browser.get("/login"), "email") == [""]
    assert values(browser.get("/register"), *TYPED) == list(TYPED.values())


def test_a_form_is_filled_once(browser: webtest.TestApp) -> None:
    keep(browser)
    browser.get("/register")
    assert "typed" not in browser.cookies
    assert values(browser.get("/register"), *TYPED) == ["", ""]


def test_a_form_that_is_sent_has_its_own_values_and_not_the_kept_ones(
    browser: webtest.TestApp,
) -> None:
    form = browser.get("/register").forms[0]
    keep(browser)
    form["name"] = "Grace"
    assert values(form.submit(status=422), *TYPED) == ["Grace", ""]


@pytest.mark.parametrize(("seconds", "filled"), [(599, True), (602, False)])
def test_typed_text_is_kept_for_ten_minutes(
    browser: webtest.TestApp, monkeypatch: pytest.MonkeyPatch, seconds: int, filled: bool
) -> None:
    keep(browser)
    fernet = Fernet(totp._derive(SECRET_KEY, "typed"))
    value = browser.cookies["typed"]
    sent_at = fernet.extract_timestamp(value.encode())
    monkeypatch.setattr("time.time", lambda: sent_at + seconds)
    browser.reset()
    browser.set_cookie("typed", value)
    assert (values(browser.get("/register"), "name") == [TYPED["name"]]) is filled


@pytest.mark.parametrize(
    ("headers", "is_kept"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "http://localhost"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": ""}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "http://localhost.evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Referer": "http://localhost/register"}, False),
        ({"X-Sent-By": "nobody"}, False),
    ],
    ids=str,
)
def test_another_site_cannot_fill_in_a_form(
    browser: webtest.TestApp, headers: dict[str, str], is_kept: bool
) -> None:
    expire(browser.get("/register").forms[0], headers=headers)
    assert ("typed" in browser.cookies) is is_kept
    assert values(browser.get("/register"), "name") == [TYPED["name"] if is_kept else ""]


@pytest.mark.parametrize("path", ["/account/profile", "/register"])
def test_nothing_is_kept_for_a_client_that_asks_for_json(
    open_browser: OpenBrowser, path: str
) -> None:
    client = open_browser(HTTP_ACCEPT="application/json")
    client.get("/login")
    client.post(path, {**TYPED, "csrf_token": "wrong"}, headers=OWN_PAGE, status=400)
    fields = {**TYPED, "csrf_token": client.cookies["csrf_token"]}
    client.post(path, fields, headers=OWN_PAGE, status=403 if path != "/register" else 422)
    assert "typed" not in client.cookies


@pytest.mark.parametrize("path", ["/logout", "/account/confirm-address", "/nowhere"])
def test_nothing_is_kept_for_a_url_without_a_form(browser: webtest.TestApp, path: str) -> None:
    register(browser)
    page = browser.post(path, {**TYPED, "csrf_token": "x"}, headers=OWN_PAGE, status="4*")
    assert "Open the form again" not in page
    assert "typed" not in browser.cookies


@pytest.mark.parametrize(("length", "names"), [(254, ["email", "name"]), (255, ["email"])])
def test_a_field_that_is_longer_than_any_form_takes_is_not_kept(
    browser: webtest.TestApp, length: int, names: list[str]
) -> None:
    expire(browser.get("/register").forms[0], {**TYPED, "name": "a" * length})
    assert sorted(kept(browser)[1]) == names


def test_a_form_without_text_is_not_kept(browser: webtest.TestApp) -> None:
    expire(browser.get("/register").forms[0], {"name": "", "email": ""})
    assert "typed" not in browser.cookies


@pytest.mark.parametrize(
    ("name", "email", "is_kept"),
    [
        ("\U0001d400" * 100, f"{'a' * 60}@{'b' * 189}.org", True),
        ("\U0001d400" * 254, "\U0001d400" * 254, False),
        ("\x01" * 254, "\x01" * 254, False),  # JSON writes six characters for each
    ],
    ids=["the longest values", "too many bytes", "too many escapes"],
)
def test_an_answer_that_keeps_typed_text_has_headers_that_proxies_accept(
    open_browser: OpenBrowser, production_app: Any, name: str, email: str, is_kept: bool
) -> None:
    browser = open_browser(production_app, **{"wsgi.url_scheme": "https"})
    browser.get("/login")
    headers = {**OWN_PAGE, "Origin": "https://localhost"}
    fields = {"name": name, "email": email, "csrf_token": browser.cookies["__Host-csrf_token"]}
    path = f"/account/profile?{'a' * 1900}"
    answer = browser.post(path, fields, headers=headers, status=303)
    assert len(answer.location) > 1900
    assert ("__Host-typed" in browser.cookies) is is_kept
    assert sum(len(f"{key}: {value}\r\n") for key, value in answer.headerlist) < 4096


def test_the_typed_cookie_is_encrypted_and_only_for_this_site(
    open_browser: OpenBrowser, app: Any, production_app: Any
) -> None:
    for application, prefix in ((app, ""), (production_app, "__Host-")):
        browser = open_browser(application)
        answer = expire(browser.get("/register").forms[0])
        (cookie,) = [
            each
            for each in answer.headers.getall("Set-Cookie")
            if each.startswith(f"{prefix}typed=")
        ]
        value, _, attributes = cookie.partition("; ")
        assert attributes.startswith("Max-Age=600; Path=/; expires=")
        assert ("secure" in attributes) is bool(prefix)
        assert attributes.endswith("HttpOnly; SameSite=Lax")
        assert "Domain" not in attributes
        # Fernet: the version and the time are readable, and the rest is not.
        assert value.startswith(f"{prefix}typed=gAAAAA")
        assert not any(text in cookie or text in answer for text in TYPED.values())


NEWER_KEY = "newer-key-quite-long-enough-as-well"


@pytest.mark.parametrize(
    ("keys", "filled"), [(f"{NEWER_KEY} {SECRET_KEY}", True), (NEWER_KEY, False)]
)
def test_typed_text_survives_a_newer_key(
    browser: webtest.TestApp, open_browser: OpenBrowser, ini: MakeIni, keys: str, filled: bool
) -> None:
    keep(browser)
    other = open_browser(hello_login.main({}, **ini(secret_key=keys)))
    other.set_cookie("typed", browser.cookies["typed"])
    assert (values(other.get("/register"), "name") == [TYPED["name"]]) is filled


FORGED = {
    "no cookie of ours": "garbage",
    "plain fields": '["' + "0" * 64 + '",{"name":"Eve"}]',
    "another key": SecretBox([NEWER_KEY], "typed").encrypt(0, b"[]").decode(),
    "another purpose": SecretBox([SECRET_KEY], "totp").encrypt(0, b"[]").decode(),
    "an account's secret": SecretBox([SECRET_KEY], "typed").encrypt(1, b"[]").decode(),
}


@pytest.mark.parametrize("cookie", FORGED.values(), ids=FORGED)
def test_a_forged_typed_cookie_is_ignored(browser: webtest.TestApp, cookie: str) -> None:
    browser.set_cookie("typed", cookie)
    assert values(browser.get("/register"), *TYPED) == ["", ""]


def test_typed_html_is_shown_as_text(browser: webtest.TestApp) -> None:
    name = "\"><script>alert('1')</script>"
    expire(browser.get("/register").forms[0], {**TYPED, "name": name})
    page = browser.get("/register")
    assert values(page, "name") == [name]
    assert "<script>alert" not in page


def test_a_logout_forgets_what_was_typed(browser: webtest.TestApp) -> None:
    register(browser)
    expire(browser.get("/account/profile").forms[1])
    assert "typed" in browser.cookies
    log_out(browser)
    assert "typed" not in browser.cookies


def test_a_head_request_is_answered_like_the_page(browser: webtest.TestApp) -> None:
    keep(browser)
    assert browser.head("/register", status=200).body == b""


def test_a_taken_address_is_filled_into_the_login_form_without_being_in_a_url(
    browser: webtest.TestApp, open_browser: OpenBrowser
) -> None:
    register(open_browser())
    form = browser.get("/register").forms[0]
    fields = {"name": "Ada", "email": EMAIL, "password": PASSWORD, "confirm": PASSWORD}
    for name, value in fields.items():
        form[name] = value
    refused = form.submit(headers=OWN_PAGE, status=422)
    expected = "You already have an account with this address."
    assert error_of(refused, "email") == f"{expected} Log in"
    assert refused.html.find(id="email-error").a["href"] == "/login"
    # The summary links to the field, and a link can't contain another one.
    (link,) = refused.html.select(".problems a")
    assert (link["href"], link.get_text().strip()) == ("#email", expected)
    page = browser.get("/login")
    assert values(page, "email", "password") == [EMAIL, ""]
    assert page.html.find(autofocus=True)["name"] == "password"


def test_a_taken_address_is_not_carried_over_if_another_site_may_have_typed_it(
    browser: webtest.TestApp, open_browser: OpenBrowser
) -> None:
    register(open_browser())
    refused = register(browser, status=422)  # it says nothing about the page that sent it
    assert "You already have an account" in refused
    assert values(browser.get("/login"), "email") == [""]


def test_a_refused_form_that_shows_its_values_keeps_no_cookie(browser: webtest.TestApp) -> None:
    form = browser.get("/register").forms[0]
    form["name"] = "Ada"
    form.submit(headers=OWN_PAGE, status=422)
    assert "typed" not in browser.cookies


def test_no_log_line_contains_what_was_typed(
    browser: webtest.TestApp, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    token = browser.get("/register").forms[0]["csrf_token"].value
    execute(db, "ALTER TABLE users RENAME TO missing_users")
    fields = {**TYPED, **SECRETS, "confirm": SECRETS["password"], "csrf_token": token}
    browser.post("/register", fields, headers=OWN_PAGE, status=503)
    browser.post("/register", {**fields, "csrf_token": "x"}, headers=OWN_PAGE, status=400)
    logged = [f"{each.getMessage()} {vars(each)}" for each in caplog.records]
    assert logged
    for text in (*TYPED.values(), *SECRETS.values(), browser.cookies["typed"]):
        assert not any(text in line for line in logged)
