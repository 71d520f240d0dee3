"""Pages that refuse an attempt say how long to wait, and offer other ways."""

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import webtest

import hello_login
from hello_login.auth import rate_limits
from hello_login.web.views import _time_of_day
from tests.conftest import MakeIni, OpenBrowser
from tests.functional.authenticator import type_code
from tests.functional.mail_site import MAIL_FROM
from tests.people import confirm, form_error_of, log_in, register

WRONG = "a wrong one"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def mail_app(ini: MakeIni, tmp_path: Path) -> Any:
    """Return the application with mail."""
    mail = {"mail_url": f"file:{tmp_path}", "mail_from": MAIL_FROM}
    return hello_login.main({}, **ini(site_url="http://localhost", **mail))


def limit_login(browser: webtest.TestApp) -> Any:
    """Log in with wrong passwords until a limit is reached, and return the page."""
    for _ in range(5):
        log_in(browser, password=WRONG, status=422)
    return log_in(browser, status=429)


def links_of_error(page: Any) -> dict[str, str]:
    """Return the text of each link in the error that belongs to no field, by its target."""
    return {link["href"]: link.get_text() for link in page.html.find(id="form-error")("a")}


def check_time(page: Any, asked_at: datetime) -> None:
    """Check that the page's time is the end of Retry-After, rounded up to a minute."""
    wait = timedelta(seconds=int(page.headers["Retry-After"]))
    time = page.html.find(id="form-error").time
    until = datetime.fromisoformat(time["datetime"])
    assert until.utcoffset() == timedelta(0)
    assert (until.second, until.microsecond) == (0, 0)
    # Retry-After is rounded up to a second.
    assert asked_at + wait - timedelta(seconds=1) <= until
    assert until < datetime.now(timezone.utc) + wait + MINUTE
    assert time.get_text() == f"{until:%H:%M} UTC"
    assert time["title"] == f"{until.day} {until:%B %Y, %H:%M:00} UTC"
    assert time.has_attr("data-clock")


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        ("14:31:00.000001", "14:32"),
        ("14:31:59.999999", "14:32"),
        ("14:32:00", "14:32"),
        ("14:32:00.000001", "14:33"),
        ("23:59:30", "00:00"),
    ],
)
def test_the_time_of_a_wait_is_rounded_up_to_a_minute(moment: str, shown: str) -> None:
    html = _time_of_day(datetime.fromisoformat(f"2026-11-28T{moment}+00:00"))
    day = 29 if shown == "00:00" else 28
    assert html == (
        f'<time datetime="2026-11-{day}T{shown}:00+00:00" '
        f'title="{day} November 2026, {shown}:00 UTC" data-clock>{shown} UTC</time>'
    )


def test_a_login_that_must_wait_says_until_when(browser: webtest.TestApp) -> None:
    asked_at = datetime.now(timezone.utc)
    page = limit_login(browser)
    assert re.fullmatch(
        r"Too many wrong passwords\. For 1 minute even the right one is refused; you can log in "
        r"again at \d\d:\d\d UTC\.",
        form_error_of(page),
    )
    check_time(page, asked_at)
    assert links_of_error(page) == {}


def test_a_login_that_must_wait_offers_a_new_password_if_mail_is_sent(
    open_browser: OpenBrowser, mail_app: Any
) -> None:
    asked_at = datetime.now(timezone.utc)
    page = limit_login(open_browser(mail_app))
    assert re.search(r"again at \d\d:\d\d UTC, or get a new password\.$", form_error_of(page))
    assert links_of_error(page) == {"/forgot": "get a new password"}
    check_time(page, asked_at)


def test_wrong_credentials_offer_a_new_password_only_if_mail_is_sent(
    browser: webtest.TestApp, open_browser: OpenBrowser, mail_app: Any
) -> None:
    page = log_in(browser, password=WRONG, status=422)
    expected = "That address and password do not match. Check both"
    assert (form_error_of(page), links_of_error(page)) == (f"{expected}.", {})
    page = log_in(open_browser(mail_app), password=WRONG, status=422)
    assert form_error_of(page) == f"{expected}, or get a new password."
    assert links_of_error(page) == {"/forgot": "get a new password"}


def test_an_error_of_the_login_describes_the_focused_field(browser: webtest.TestApp) -> None:
    refused = log_in(browser, email="nobody@example.com", password=WRONG, status=422)
    pages = [refused, limit_login(browser)]
    for page in pages:
        password = page.html.find(id="password")
        assert password.has_attr("autofocus")
        assert password["aria-describedby"] == "form-error"
        assert page.html.title.get_text() == "Error: Log in · Hello Login"
        assert "Type it again" not in page
        assert "once more" not in page
        assert "aria-describedby" not in page.html.find(id="email").attrs
        assert len(page.html.find_all(id="form-error")) == 1


@pytest.mark.usefixtures("clock", "ada")
def test_a_second_step_that_must_wait_says_until_when(open_browser: OpenBrowser) -> None:
    stranger = open_browser()
    log_in(stranger)
    for _ in range(5):
        type_code(stranger, "000000", status=422)
    asked_at = datetime.now(timezone.utc)
    page = type_code(stranger, "000000", status=429)
    assert re.fullmatch(
        r"Too many wrong codes\. For 1 minute even the right one is refused; you can try again at "
        r"\d\d:\d\d UTC\.",
        form_error_of(page),
    )
    check_time(page, asked_at)


def test_a_confirmation_that_must_wait_says_until_when(browser: webtest.TestApp) -> None:
    register(browser)
    for _ in range(5):
        confirm(browser, password=WRONG, status=422)
    asked_at = datetime.now(timezone.utc)
    page = confirm(browser, status=429)
    assert re.fullmatch(
        r"Too many wrong passwords or codes\. For 1 minute even the right ones are refused; you "
        r"can try again at \d\d:\d\d UTC\.",
        form_error_of(page),
    )
    check_time(page, asked_at)
    assert "Type it again" not in page


def test_a_registration_that_must_wait_says_until_when(open_browser: OpenBrowser) -> None:
    for number in range(20):
        register(open_browser(), email=f"{number}@example.com")
    asked_at = datetime.now(timezone.utc)
    page = register(open_browser(), status=429)
    message = r"Too many attempts\. Wait 1 minute: you can try again at \d\d:\d\d UTC\."
    assert re.fullmatch(message, form_error_of(page))
    check_time(page, asked_at)
    assert "Type it again" not in page


def lock(open_browser: OpenBrowser, monkeypatch: pytest.MonkeyPatch, app: Any) -> Any:
    """Let strangers guess until the account is locked, and return the page of the next one."""
    monkeypatch.setattr(rate_limits, "LOCK_AFTER", 3)
    for number in range(3):
        guesser = open_browser(app, REMOTE_ADDR=f"198.51.100.{number}")
        log_in(guesser, password=WRONG, status=422)
    return log_in(open_browser(app, REMOTE_ADDR="203.0.113.1"), status=429)


LOCKED = (
    "There were too many wrong passwords, so no password is accepted here any more. Use a passkey "
    "if you have one, log in on a device where you have logged in before, or "
)


def test_a_locked_login_has_no_time_and_names_the_ways_out(
    open_browser: OpenBrowser, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = lock(open_browser, monkeypatch, app)
    assert form_error_of(page) == f"{LOCKED}ask the operator of this site for help."
    assert page.html.find(id="form-error")(["time", "a"]) == []
    assert "Retry-After" not in page.headers
    assert "Type it again" not in page


def test_a_locked_login_offers_a_new_password_if_mail_is_sent(
    open_browser: OpenBrowser, mail_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = lock(open_browser, monkeypatch, mail_app)
    assert form_error_of(page) == f"{LOCKED}get a new password."
    assert links_of_error(page) == {"/forgot": "get a new password"}
    assert "Retry-After" not in page.headers


def test_braces_in_a_typed_address_are_not_a_placeholder_of_the_error(
    browser: webtest.TestApp,
) -> None:
    email = "{wait}<b>{until.__class__}@example.com"
    for _ in range(5):
        log_in(browser, email=email, password=WRONG, status=422)
    page = log_in(browser, email=email, status=429)
    assert page.forms[0]["email"].value == email
    assert "<b>" not in page
