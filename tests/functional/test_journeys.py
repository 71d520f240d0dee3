"""Journeys through registration, login and logout."""

import re

import pytest
import webtest
from psycopg2.extensions import connection as Connection

from tests.conftest import OpenBrowser
from tests.functional.software_key import without_challenge
from tests.people import EMAIL, PASSWORD, error_of, log_in, log_out, register


def test_register_be_greeted_log_out_and_log_in_again(browser: webtest.TestApp) -> None:
    assert register(browser).location == "http://localhost/account"
    assert "Ada Lovelace" in browser.get("/account").html.dl.get_text()
    assert "Good to see you, Ada Lovelace" in browser.get("/").html.main.get_text()
    assert log_out(browser).location == "http://localhost/"
    assert "Ada" not in browser.get("/")
    assert log_in(browser).location == "http://localhost/account"
    assert "Good to see you, Ada Lovelace" in browser.get("/").html.main.get_text()


def test_the_account_page_shows_name_address_and_dates(browser: webtest.TestApp) -> None:
    register(browser)
    shown = [each.get_text() for each in browser.get("/account").html.dl("dd")]
    assert shown[:2] == ["Ada Lovelace", EMAIL]
    registered, last_login = shown[2:]
    assert re.fullmatch(r"\d\d? \w+ \d{4}, \d\d:\d\d UTC", registered)
    assert last_login == "none in the last 90 days"


def test_a_login_redirects_to_the_requested_page(browser: webtest.TestApp) -> None:
    register(browser)
    log_out(browser)
    to_login = browser.get("/account?tab=1", status=303).location
    answer = log_in(browser, page=to_login)
    assert answer.location == "http://localhost/account?tab=1"


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "javascript:alert(1)"]
)
def test_a_login_never_redirects_to_another_site(browser: webtest.TestApp, target: str) -> None:
    register(browser)
    log_out(browser)
    page = f"/login?next={target}"
    assert log_in(browser, page=page).location == "http://localhost/account"


def test_the_requested_page_is_kept_after_a_wrong_password(browser: webtest.TestApp) -> None:
    register(browser)
    log_out(browser)
    refused = log_in(browser, page="/login?next=/readyz", password="a wrong one", status=422)
    form = refused.forms[0]
    form["password"] = PASSWORD
    assert form.submit(status=303).location == "http://localhost/readyz"


def test_a_registration_redirects_to_the_requested_page(browser: webtest.TestApp) -> None:
    to_login = browser.get("/account/profile", status=303).location
    (link,) = browser.get(to_login).html.main.find_all("a")
    assert link["href"] == "/register?next=%2Faccount%2Fprofile"
    form = browser.get(link["href"]).forms[0]
    for name, value in (("name", "Ada"), ("email", EMAIL), ("password", PASSWORD)):
        form[name] = value
    form["confirm"] = "another one"
    form = form.submit(status=422).forms[0]
    form["password"] = form["confirm"] = PASSWORD
    assert form.submit(status=303).location == "http://localhost/account/profile"


def test_a_registration_never_redirects_to_another_site(browser: webtest.TestApp) -> None:
    form = browser.get("/register?next=//evil.example").forms[0]
    for name, value in (("name", "Ada"), ("email", EMAIL), ("password", PASSWORD)):
        form[name] = value
    form["confirm"] = PASSWORD
    assert form.submit(status=303).location == "http://localhost/account"


@pytest.mark.parametrize("page", ["/login", "/register"])
def test_login_and_registration_pages_redirect_a_logged_in_browser(
    browser: webtest.TestApp, page: str
) -> None:
    register(browser)
    assert browser.get(page, status=303).location == "http://localhost/account"


def test_the_login_page_redirects_a_logged_in_browser_to_the_requested_page(
    browser: webtest.TestApp,
) -> None:
    register(browser)
    assert browser.get("/login?next=/readyz", status=303).location == "http://localhost/readyz"


def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(
    browser: webtest.TestApp, open_browser: OpenBrowser
) -> None:
    register(open_browser())
    wrong = log_in(browser, password="a wrong password", status=422)
    unknown = log_in(browser, email="ann@example.com", password="a wrong password", status=422)
    assert "That address and password do not match" in wrong
    texts = [without_challenge(each.text) for each in (wrong, unknown)]
    assert texts[0].replace(EMAIL, "ann@example.com") == texts[1]


@pytest.mark.parametrize("address", ["nobody", "@", "a" * 254, "ada@example.com, x@example.com"])
def test_an_invalid_address_is_refused_like_an_unknown_one(
    browser: webtest.TestApp, address: str
) -> None:
    refused = log_in(browser, email=address, status=422)
    assert "That address and password do not match" in refused


def test_an_empty_login_says_what_to_type(browser: webtest.TestApp) -> None:
    refused = log_in(browser, email="", password="", status=422)
    assert error_of(refused, "email") == "Type your email address."
    assert error_of(refused, "password") == "Type your password."


@pytest.mark.parametrize("typed", ["ADA@example.com", "ada@EXAMPLE.com", "  ada@example.com "])
def test_the_case_of_an_address_and_blanks_around_it_do_not_matter(
    browser: webtest.TestApp, typed: str
) -> None:
    register(browser)
    log_out(browser)
    log_in(browser, email=typed)
    log_out(browser)
    refused = register(browser, email=typed, status=422)
    assert "You already have an account" in error_of(refused, "email")


def test_an_address_keeps_its_local_part_and_gets_a_lower_case_domain(
    browser: webtest.TestApp,
) -> None:
    register(browser, email="Ada@B\xdcCHER.example.com")
    assert "Ada@b\xfccher.example.com" in browser.get("/account")


def test_a_refused_registration_keeps_the_typed_values_except_passwords(
    browser: webtest.TestApp,
) -> None:
    refused = register(
        browser, name="Ada", email="ada@", password="tooshort", confirm="different", status=422
    )
    form = refused.forms[0]
    assert (form["name"].value, form["email"].value) == ("Ada", "ada@")
    assert (form["password"].value, form["confirm"].value) == ("", "")
    assert "tooshort" not in refused
    error = "There must be something after the @-sign. An address looks like name@example.org."
    assert error_of(refused, "email") == error
    assert error_of(refused, "password").startswith("This password is too short")
    assert error_of(refused, "confirm").startswith("The two passwords differ")
    field = refused.html.find(id="password")
    assert field["aria-invalid"] == "true"
    assert field["aria-describedby"] == "password-error password-hint"


def test_an_empty_registration_says_what_to_type(browser: webtest.TestApp) -> None:
    refused = register(browser, name=" ", email="", password="", confirm="", status=422)
    assert error_of(refused, "name") == "Type your name."
    assert error_of(refused, "email") == "Type your email address."
    assert error_of(refused, "password") == "Choose a password."
    # The two fields are equal, so the second one needs no message of its own.
    assert refused.html.find(id="confirm-error") is None
    assert len(refused.html.select(".problems li")) == 3


def test_an_empty_repetition_says_only_that_the_passwords_differ(
    browser: webtest.TestApp,
) -> None:
    refused = register(browser, confirm="", status=422)
    message = "The two passwords differ. Type the same one in both fields."
    assert error_of(refused, "confirm") == message
    (link,) = refused.html.select(".problems a")
    assert (link["href"], link.get_text()) == ("#confirm", message)
    # The password was right, and is not sent back.
    assert refused.html.find(id="password-hint").get_text().endswith(" Type it again.")
    assert refused.html.find(id="confirm").has_attr("required")


@pytest.mark.parametrize(
    ("name", "reason"), [("Ada\rLovelace", "control characters"), ("A" * 101, "no more than 100")]
)
def test_a_name_is_one_line_of_at_most_100_characters(
    browser: webtest.TestApp, name: str, reason: str
) -> None:
    assert reason in error_of(register(browser, name=name, status=422), "name")


@pytest.mark.parametrize(
    "name",
    [
        "<b>Ada</b>",
        "Ada \N{ZERO WIDTH JOINER}\N{GRINNING FACE}",
        '\u0622\u062f\u0627 O\'Neil "x" & {{ y }}',
    ],
)
def test_a_name_is_shown_as_it_was_typed(browser: webtest.TestApp, name: str) -> None:
    register(browser, name=name)
    assert browser.get("/account").html.dd.get_text() == name


def test_a_name_is_refused_as_a_password(browser: webtest.TestApp) -> None:
    refused = register(browser, name="Ada Lovelace", password="ada lovelace", status=422)
    assert "your name or address" in error_of(refused, "password")


def test_unknown_form_fields_are_ignored(browser: webtest.TestApp) -> None:
    page = browser.get("/register")
    values = {"name": "Ada", "email": EMAIL, "password": PASSWORD, "confirm": PASSWORD}
    token = page.forms[0]["csrf_token"].value
    extra = {"id": "1", "is_admin": "true", "password_hash": "x", "csrf_token": token}
    browser.post("/register", {**values, **extra}, status=303)
    log_out(browser)
    log_in(browser)


def test_a_login_updates_the_date_of_the_last_login(
    browser: webtest.TestApp, db: Connection
) -> None:
    register(browser)
    log_out(browser)
    with db.cursor() as cursor:
        cursor.execute("UPDATE users SET last_login_at = '2001-02-03 04:05Z'")
    log_in(browser)
    with db.cursor() as cursor:
        cursor.execute("SELECT last_login_at = now() FROM users")
        assert cursor.fetchall() == [(True,)]


def test_form_fields_have_their_type_and_autocomplete_value(browser: webtest.TestApp) -> None:
    fields = {}
    for path in ("/login", "/register"):
        for field in browser.get(path).html.find_all("input", autocomplete=True):
            fields[path, field["name"]] = (field["type"], field["autocomplete"])
    assert fields == {
        ("/login", "email"): ("email", "username webauthn"),
        ("/login", "password"): ("password", "current-password"),
        ("/register", "name"): ("text", "name"),
        ("/register", "email"): ("email", "email"),
        ("/register", "password"): ("password", "new-password"),
        ("/register", "confirm"): ("password", "new-password"),
    }
