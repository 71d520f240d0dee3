"""The check of a new password while it is typed."""

import time
from typing import Any

import pytest
import webtest
from psycopg2.extensions import connection as Connection

from tests.people import EMAIL, PASSWORD, change_password, csrf_token, error_of, register
from tests.rows import execute

CHECK = "/password-check"


def fields_of(token: str, password: str, *personal: str) -> list[tuple[str, str]]:
    """Return the fields that the script sends."""
    texts = [("personal", text) for text in personal]
    return [("csrf_token", token), ("password", password), *texts]


@pytest.fixture
def token(browser: webtest.TestApp) -> str:
    """Return the CSRF token of a browser without a session."""
    return str(browser.get("/register").forms[0]["csrf_token"].value)


def problem_with(browser: webtest.TestApp, token: str, password: str, *personal: str) -> Any:
    """Return why the password is refused, or None."""
    answer = browser.post(CHECK, fields_of(token, password, *personal), status=200)
    assert answer.content_type == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert list(answer.json) == ["problem"]
    return answer.json["problem"]


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("short", "This password is too short"),
        ("a" * 1025, "This password is too long"),
        ("a" * 4_500, "This password is too long"),
        ("e" + "\u0301" * 31, "This password has more than 30 accents on one letter"),
        ("password1234", "Many people use this password"),
        ("Ada Lovelace", "your name or address"),
        ("ada@example.com", "your name or address"),
        ("Ada@Example.com!", "your name or address"),
        ("hello login 1", "This password is easy to guess"),
    ],
)
def test_the_reason_is_that_of_the_form(
    browser: webtest.TestApp, token: str, password: str, reason: str
) -> None:
    problem = problem_with(browser, token, password, "Ada Lovelace", EMAIL)
    assert reason in problem
    refused = register(browser, password=password, status=422)
    assert error_of(refused, "password") == problem


@pytest.mark.parametrize(
    "password", [PASSWORD, "Pferd Batterie Heftklammer", "\U0001f40e" * 5 + "x8#kQ!zp"]
)
def test_a_password_that_the_form_accepts_has_no_problem(
    browser: webtest.TestApp, token: str, password: str
) -> None:
    assert problem_with(browser, token, password, "Ada Lovelace", EMAIL) is None
    register(browser, password=password)


def test_the_name_and_address_count_that_are_sent_with_the_password(
    browser: webtest.TestApp, token: str
) -> None:
    assert problem_with(browser, token, "augusta-king-2") is None
    assert "your name or address" in problem_with(browser, token, "augusta-king-2", "Augusta King")


def test_the_name_and_address_of_the_sessions_owner_count_as_well(browser: webtest.TestApp) -> None:
    register(browser, name="Augusta King", email="lovelace.byron@example.com")
    token = csrf_token(browser)
    for password in ("augusta-king-2", "lovelace.byron"):
        problem = problem_with(browser, token, password)
        assert "your name or address" in problem
        assert error_of(change_password(browser, password=password, status=422), "password") == (
            problem
        )


@pytest.mark.parametrize("token", ["", "wrong"])
def test_the_check_needs_the_csrf_token(browser: webtest.TestApp, token: str) -> None:
    answer = browser.post(CHECK, fields_of(token, PASSWORD), status=400)
    assert "problem" not in answer


def test_the_check_is_refused_to_another_site(browser: webtest.TestApp, token: str) -> None:
    fields = fields_of(token, PASSWORD)
    browser.post(CHECK, fields, headers={"Sec-Fetch-Site": "cross-site"}, status=400)


def test_the_check_takes_only_post(browser: webtest.TestApp) -> None:
    # A password in a URL would be written to logs and histories.
    for method in ("GET", "HEAD", "PUT"):
        answer = browser.request(f"{CHECK}?password={PASSWORD}", method=method, status=405)
        assert answer.headers["Allow"] == "POST"


def test_an_error_of_the_check_is_json_for_the_script(browser: webtest.TestApp) -> None:
    answer = browser.post(CHECK, headers={"Accept": "*/*"}, status=400)
    assert answer.json["error"] == "This form has expired"


def test_a_check_without_a_password_is_refused_as_too_short(
    browser: webtest.TestApp, token: str
) -> None:
    answer = browser.post(CHECK, {"csrf_token": token}, status=200)
    assert "This password is too short" in answer.json["problem"]


def test_a_long_input_costs_little(browser: webtest.TestApp, token: str) -> None:
    personal = ["ab" * 1_200, "ba" * 1_200]
    password = ("abcdefgh1234" * 100)[:1024]
    problem_with(browser, token, password)  # loads the common passwords
    started = time.thread_time()
    problem_with(browser, token, password, *personal)
    assert time.thread_time() - started < 0.1


def test_at_most_two_texts_of_254_characters_count(browser: webtest.TestApp, token: str) -> None:
    others = ["x", "y"]
    assert problem_with(browser, token, "augusta-king-2", *others, "Augusta King") is None
    far = f"{' ' * 254}Augusta King"
    assert problem_with(browser, token, "augusta-king-2", far) is None
    assert problem_with(browser, token, "augusta-king-2", far[12:]) is not None


def test_the_password_is_neither_logged_nor_stored(
    browser: webtest.TestApp, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    token = browser.get("/register").forms[0]["csrf_token"].value
    typed = "Augusta's horse battery"
    for personal in ("Augusta", "nobody"):
        answer = browser.post(CHECK, fields_of(token, typed, personal), status=200)
        assert "Set-Cookie" not in answer.headers
    browser.post(CHECK, fields_of("wrong", typed), status=400)
    assert caplog.records
    assert not any("horse" in f"{each.getMessage()} {vars(each)}" for each in caplog.records)
    for table in ("users", "sessions", "throttles", "account_events", "mails", "tokens"):
        rows = execute(db, f"SELECT t::text FROM {table} AS t")  # noqa: S608
        assert rows == []


def test_the_page_tells_the_script_where_to_check(browser: webtest.TestApp) -> None:
    field = browser.get("/register").html.find(id="password")
    assert (field["data-check"], field["minlength"]) == (CHECK, "12")
    register(browser)
    page = browser.get("/account/password").html
    assert page.find(id="password")["data-check"] == CHECK
    assert "data-check" not in page.find(id="current").attrs
