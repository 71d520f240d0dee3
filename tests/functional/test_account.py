"""The account pages: sessions, events, and changes of an account."""

import re
from typing import Any
from urllib.parse import urlencode

import pytest
import webtest
from psycopg2.extensions import connection as Connection

from hello_login.auth import login, rate_limits
from hello_login.auth.audit import Actor
from hello_login.auth.clients import Client
from hello_login.auth.rate_limits import RateLimiter
from hello_login.repositories.events import Event
from hello_login.repositories.sessions import Session
from tests.conftest import OpenBrowser
from tests.people import (
    EMAIL,
    NEW_PASSWORD,
    PASSWORD,
    change_password,
    confirm,
    csrf_token,
    end,
    error_of,
    form_error_of,
    log_in,
    log_out,
    register,
    send,
)
from tests.rows import execute

CONFIRM = "http://localhost/account/confirm"
FRESH_PAGES = [
    "/account/profile",
    "/account/password",
    "/account/sessions/end?session=others",
    "/account/delete",
    "/account/totp",
    "/account/totp/remove",
    "/account/recovery-codes",
    "/account/passkeys/add",
    f"/account/passkeys/{'0' * 12}/remove",
]
"""The pages that need a login within the last ten minutes.  Their forms need one within fifteen."""

MOMENT = r"\d\d? \w+ \d{4}, \d\d:\d\d UTC"
LOGIN_FAILED = "Somebody tried to log in with a wrong password or passkey"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; rv:143.0) Gecko/20100101 Firefox/143.0"


def is_logged_in(browser: webtest.TestApp) -> bool:
    return bool(browser.get("/account", status="*").status_int == 200)


def age_logins(db: Connection, minutes: int) -> None:
    with db.cursor() as cursor:
        cursor.execute(
            "UPDATE sessions SET authenticated_at = now() - make_interval(mins => %s)", (minutes,)
        )


def fingerprint_of(browser: webtest.TestApp) -> str:
    """Return the fingerprint of the first session on the account page that can be ended."""
    form = browser.get("/account").html.find("form", action=re.compile(r"\?session=\w{12}$"))
    return str(form["action"].partition("=")[2])


def sessions_of(browser: webtest.TestApp) -> list[str]:
    shown = browser.get("/account").html.find("ul", "list").find_all("li")
    return [" ".join(each.get_text(" ").split()) for each in shown]


def listed_under(browser: webtest.TestApp, heading: str) -> list[str]:
    found = browser.get("/account").html.find("h2", string=heading)
    return [each.p.get_text() for each in found.find_next("ul").find_all("li")] if found else []


def events_of(browser: webtest.TestApp) -> list[str]:
    return listed_under(browser, "Recent activity")


def failures_of(browser: webtest.TestApp) -> list[str]:
    return listed_under(browser, "Failed attempts")


def places_under(browser: webtest.TestApp, heading: str) -> list[str]:
    """Return the second line of each entry: when and where it happened."""
    shown = browser.get("/account").html.find("h2", string=heading).find_next("ul")
    return [" ".join(each.get_text().split()) for each in shown.find_all("p", "hint")]


def name_of(page: Any, element: Any) -> str:
    """Return the name that assistive technology gets: the texts that aria-labelledby lists."""
    named_by = [page.find(id=each) for each in element["aria-labelledby"].split()]
    return " ".join(" ".join(each.get_text().split()) for each in named_by)


def add_events(db: Connection, event: str, devices: list[str]) -> None:
    """Add an event of Ada's account on each day from 1 March 2030 at noon, on these devices."""
    execute(
        db,
        """
        INSERT INTO account_events (event, user_id, address, device, happened_at)
        SELECT %s, users.id, '192.0.2.7', device,
               timestamptz '2030-02-28 12:00Z' + day * interval '1 day'
          FROM users, unnest(%s) WITH ORDINALITY AS days (device, day)
        """,
        event,
        devices,
    )


@pytest.fixture
def ada(open_browser: OpenBrowser) -> list[webtest.TestApp]:
    """Return three browsers in which Ada is logged in, in different networks."""
    browsers = [open_browser(REMOTE_ADDR=f"192.0.2.{number}") for number in (1, 2, 3)]
    register(browsers[0])
    for browser in browsers[1:]:
        log_in(browser)
    return browsers


def test_the_account_page_shows_each_session_and_marks_the_current_one(
    open_browser: OpenBrowser,
) -> None:
    register(open_browser(HTTP_USER_AGENT=FIREFOX))
    other = open_browser(HTTP_USER_AGENT="curl/8.5.0", REMOTE_ADDR="2001:db8::1")
    log_in(other)
    this, one = sessions_of(other)
    assert re.fullmatch(rf"curl this device 2001:db8::1, logged in since {MOMENT}", this)
    seen = rf"192\.0\.2\.1, logged in since {MOMENT} , last seen just now End this session"
    assert re.fullmatch(f"Firefox on Windows {seen}", one)


def test_the_name_of_each_button_tells_which_session_it_ends(
    open_browser: OpenBrowser, db: Connection
) -> None:
    ada = open_browser()
    register(ada)
    for address in ("192.0.2.7", "2001:db8::7"):
        log_in(open_browser(HTTP_USER_AGENT=FIREFOX, REMOTE_ADDR=address))
    execute(db, "UPDATE sessions SET created_at = '2026-03-03 14:05:09Z'")
    page = ada.get("/account").html
    assert {name_of(page, button) for button in page("button", string="End this session")} == {
        f"End this session Firefox on Windows {address}, logged in since 3 March 2026, 14:05 UTC"
        for address in ("192.0.2.7", "2001:db8::7")
    }


def test_a_session_without_a_known_network_address_shows_none(
    open_browser: OpenBrowser, db: Connection
) -> None:
    ada = open_browser()
    register(ada)
    log_in(open_browser())
    execute(db, "UPDATE sessions SET address = NULL")
    assert re.fullmatch(f"Unknown device logged in since {MOMENT} .*", sessions_of(ada)[1])
    page = ada.get(f"/account/sessions/end?session={fingerprint_of(ada)}")
    assert re.search(f"Unknown device, logged in since {MOMENT}", page.html.main.get_text())


def test_a_remembered_session_is_marked(browser: webtest.TestApp) -> None:
    register(browser)
    assert "remembered" not in sessions_of(browser)[0]
    log_out(browser)
    log_in(browser, remember=True)
    assert sessions_of(browser)[0].endswith("UTC , remembered")


def test_a_session_ended_from_another_device_is_void_at_its_next_request(
    ada: list[webtest.TestApp],
) -> None:
    assert end(ada[2], "End this session").location == "http://localhost/account"
    assert sorted(map(is_logged_in, ada)) == [False, True, True]
    assert is_logged_in(ada[2])


def test_a_form_of_an_ended_session_leads_to_a_login_page_that_says_why(
    ada: list[webtest.TestApp],
) -> None:
    form = ada[0].get("/account/profile").forms[1]
    end(ada[1], "End all other sessions")
    form["name"] = "Grace"
    page = form.submit(status=303).follow()
    assert page.html.h1.get_text() == "Log in"
    assert "You had been logged out" in page.html.find(role="status").get_text()
    assert "Grace" not in ada[1].get("/account")


def test_all_other_sessions_are_ended_at_once(ada: list[webtest.TestApp]) -> None:
    end(ada[1], "End all other sessions")
    assert [is_logged_in(browser) for browser in ada] == [False, True, False]


def test_another_persons_session_can_neither_be_seen_nor_ended(
    ada: list[webtest.TestApp], open_browser: OpenBrowser
) -> None:
    fingerprint = fingerprint_of(ada[0])
    grace = open_browser()
    register(grace, name="Grace", email="grace@example.com")
    assert fingerprint not in grace.get("/account")
    for which in (fingerprint, "others", "", "0" * 12):
        path = f"/account/sessions/end?session={which}"
        grace.post(path, {"csrf_token": csrf_token(grace)}, status=303)
    ada[0].post(
        "/account/sessions/end",
        {"session": "é" * 99, "csrf_token": csrf_token(ada[0])},
        status=303,
    )
    assert all(map(is_logged_in, [*ada, grace]))


def test_ending_a_session_asks_for_the_password_when_the_login_is_old(
    ada: list[webtest.TestApp], db: Connection
) -> None:
    age_logins(db, 15)
    page = end(ada[0], "End all other sessions").location
    assert page == f"{CONFIRM}?next=%2Faccount%2Fsessions%2Fend%3Fsession%3Dothers"
    refused = confirm(ada[0], page=page, password="a wrong one", status=422)
    assert "This is not your password" in error_of(refused, "current")
    assert end(ada[0], "End all other sessions").location == page
    assert all(map(is_logged_in, ada))
    page = confirm(ada[0], page=page).follow()
    assert page.html.h1.get_text() == "End all other sessions"
    assert all(map(is_logged_in, ada))
    page.forms[1].submit(status=303)
    assert [is_logged_in(browser) for browser in ada] == [True, False, False]


def test_ending_a_session_does_not_ask_for_the_password_when_the_login_is_new(
    ada: list[webtest.TestApp], db: Connection
) -> None:
    age_logins(db, 9)
    assert "password" not in ada[0].get("/account/sessions/end?session=others").forms[1].text
    age_logins(db, 14)
    end(ada[0], "End all other sessions")
    assert [is_logged_in(browser) for browser in ada] == [True, False, False]


def test_reauthentication_renews_the_session_and_voids_the_old_cookie(
    ada: list[webtest.TestApp], open_browser: OpenBrowser, db: Connection
) -> None:
    age_logins(db, 60)
    thief = open_browser()
    thief.set_cookie("session", ada[0].cookies["session"])
    assert is_logged_in(thief)
    token = csrf_token(ada[0])
    confirm(ada[0])
    assert not is_logged_in(thief)
    assert all(map(is_logged_in, ada))
    assert csrf_token(ada[0]) != token
    end(ada[0], "End all other sessions")
    assert [is_logged_in(browser) for browser in ada] == [True, False, False]


@pytest.mark.parametrize("page", FRESH_PAGES)
def test_a_page_that_changes_an_account_asks_for_the_password_when_the_login_is_old(
    browser: webtest.TestApp, db: Connection, page: str
) -> None:
    register(browser)
    asked = f"{CONFIRM}?{urlencode({'next': page})}"
    age_logins(db, 9)
    assert browser.get(page, status="*").location != asked
    age_logins(db, 10)
    answer = browser.get(page, status=303)
    assert answer.location == asked
    assert answer.follow().html.h1.get_text() == "Confirm that it is you"
    assert confirm(browser, page=asked).location == f"http://localhost{page}"
    assert browser.get(page, status="*").location != asked


@pytest.mark.parametrize("page", FRESH_PAGES)
def test_a_form_that_changes_an_account_is_taken_five_minutes_longer_than_its_page_is_shown(
    browser: webtest.TestApp, db: Connection, page: str
) -> None:
    register(browser)
    asked = f"{CONFIRM}?{urlencode({'next': page})}"
    form = {"csrf_token": csrf_token(browser)}
    age_logins(db, 15)
    answer = browser.post(page, {**form, "current": PASSWORD}, status=303)
    assert answer.location == asked
    assert "Nothing was changed. Confirm that it is you" in answer.follow()
    age_logins(db, 14)
    assert browser.post(page, form, status="*").location != asked


@pytest.mark.parametrize("page", FRESH_PAGES)
def test_the_page_that_asks_for_the_password_is_reached_with_the_longest_url(
    browser: webtest.TestApp, db: Connection, page: str
) -> None:
    register(browser)
    age_logins(db, 15)
    path, _, query = page.partition("?")
    answer = browser.get(f"{path}?{query}&x={'a' * 5000}", status=303)
    assert answer.location == CONFIRM
    assert confirm(browser, page=answer.location).location == "http://localhost/account"


@pytest.mark.parametrize(
    "target", ["", "//evil.example", "https://evil.example/", "/\\evil.example", "account"]
)
def test_reauthentication_leads_to_no_other_site(browser: webtest.TestApp, target: str) -> None:
    register(browser)
    page = f"{CONFIRM}?{urlencode({'next': target})}"
    assert confirm(browser, page=page).location == "http://localhost/account"
    form = browser.get(CONFIRM).forms[1]
    form["current"], form["next"] = PASSWORD, target
    assert form.submit(status=303).location == "http://localhost/account"


@pytest.mark.parametrize(
    ("typed", "error"), [("a wrong one", "This is not your password"), ("", "Type your password")]
)
def test_a_refused_reauthentication_keeps_the_session_and_the_next_page(
    browser: webtest.TestApp, db: Connection, typed: str, error: str
) -> None:
    register(browser)
    age_logins(db, 15)
    token, session = csrf_token(browser), browser.cookies["session"]
    page = browser.get("/account/password").location
    refused = confirm(browser, page=page, password=typed, status=422)
    assert error in error_of(refused, "current")
    assert browser.get("/account/password", status=303).location == page
    assert (csrf_token(browser), browser.cookies["session"]) == (token, session)
    form = refused.forms[1]
    form["current"] = PASSWORD
    assert form.submit(status=303).location == "http://localhost/account/password"


def test_a_wrong_password_at_reauthentication_is_shown_on_the_account_page(
    browser: webtest.TestApp,
) -> None:
    register(browser)
    confirm(browser, password="a wrong one", status=422)
    assert failures_of(browser) == [
        "A change of the account was tried with a wrong password, code or passkey"
    ]


def test_reauthentications_are_rate_limited(browser: webtest.TestApp) -> None:
    register(browser)
    for _ in range(5):
        confirm(browser, password="a wrong one", status=422)
    answer = confirm(browser, status=429)
    assert answer.headers["Retry-After"] == "60"
    assert "For 1 minute even the right" in form_error_of(answer)
    # It is one limit, whichever page asks for the password.
    change_password(browser, status=429)


def test_a_remembered_session_stays_remembered_after_reauthentication(
    browser: webtest.TestApp,
) -> None:
    register(browser)
    log_out(browser)
    log_in(browser, remember=True)
    headers = confirm(browser).headers.getall("Set-Cookie")
    assert any("session=" in each and "Max-Age=2592000" in each for each in headers)


def test_reauthentication_in_an_ended_session_leads_to_the_login_page(
    ada: list[webtest.TestApp],
) -> None:
    form = ada[0].get(CONFIRM).forms[1]
    end(ada[1], "End all other sessions")
    form["current"] = PASSWORD
    answer = form.submit(status=303)
    assert answer.location.startswith("http://localhost/login?next=")
    assert "You had been logged out" in answer.follow().html.find(role="status").get_text()
    assert not is_logged_in(ada[0])


def test_a_password_change_ends_all_other_sessions(
    ada: list[webtest.TestApp], open_browser: OpenBrowser
) -> None:
    thief = open_browser()
    thief.set_cookie("session", ada[1].cookies["session"])
    change_password(ada[1])
    assert [is_logged_in(browser) for browser in [*ada, thief]] == [False, True, False, False]
    log_in(ada[0], password=PASSWORD, status=422)
    log_in(ada[0], password=NEW_PASSWORD)


def test_a_remembered_session_stays_remembered_when_the_password_changes(
    browser: webtest.TestApp,
) -> None:
    register(browser)
    log_out(browser)
    log_in(browser, remember=True)
    headers = change_password(browser).headers.getall("Set-Cookie")
    assert any("session=" in each and "Max-Age=2592000" in each for each in headers)


@pytest.mark.parametrize(
    ("typed", "field", "error"),
    [
        ({"current": "a wrong one"}, "current", "This is not your password"),
        ({"current": ""}, "current", "Type your password"),
        ({"password": "short"}, "password", "too short"),
        ({"password": "password1234"}, "password", "Many people use"),
        ({"password": EMAIL}, "password", "your name or address"),
        ({"password": "Ada Lovelace"}, "password", "your name or address"),
    ],
)
def test_a_refused_password_change_changes_nothing(
    ada: list[webtest.TestApp], typed: dict[str, str], field: str, error: str
) -> None:
    assert error in error_of(change_password(ada[0], **typed, status=422), field)
    assert all(map(is_logged_in, ada))
    log_out(ada[0])
    log_in(ada[0])


def test_wrong_passwords_in_a_password_change_are_rate_limited(browser: webtest.TestApp) -> None:
    register(browser)
    for _ in range(5):
        change_password(browser, current="a wrong one", status=422)
    answer = change_password(browser, status=429)
    assert answer.headers["Retry-After"] == "60"
    assert "For 1 minute even the right" in form_error_of(answer)


def test_a_name_change_does_not_ask_for_the_password_when_the_login_is_new(
    browser: webtest.TestApp, db: Connection
) -> None:
    register(browser)
    age_logins(db, 9)
    form = browser.get("/account/profile").forms[1]
    form["name"] = "Augusta King"
    age_logins(db, 14)
    form.submit(status=303)
    assert "Good to see you, Augusta King" in browser.get("/").html.main.get_text()


def test_an_address_change_asks_for_the_password_when_the_login_is_old(
    browser: webtest.TestApp, db: Connection
) -> None:
    register(browser)
    new = "augusta@example.com"
    form = browser.get("/account/profile").forms[1]
    form["email"] = new
    age_logins(db, 15)
    page = form.submit(status=303).location
    assert page == f"{CONFIRM}?next=%2Faccount%2Fprofile"
    for current, error in (("", "Type your password"), ("a wrong one", "This is not your")):
        answer = confirm(browser, page=page, password=current, status=422)
        assert error in error_of(answer, "current")
        assert form.submit(status=303).location == page
    assert new not in browser.get("/account")
    confirm(browser, page=page)
    send(browser, "/account/profile", email=new)
    log_out(browser)
    log_in(browser, status=422)
    log_in(browser, email=new)


def test_a_stolen_old_session_cannot_change_the_address_and_ends_when_the_owner_changes_it(
    browser: webtest.TestApp, open_browser: OpenBrowser, db: Connection
) -> None:
    register(browser)
    age_logins(db, 15)
    thief = open_browser()
    thief.set_cookie("session", browser.cookies["session"])
    token = csrf_token(thief)
    typed = {"csrf_token": token, "name": "Eve", "email": "eve@example.com", "current": PASSWORD}
    answer = thief.post("/account/profile", typed, status=303)
    assert answer.location == f"{CONFIRM}?next=%2Faccount%2Fprofile"
    assert EMAIL in browser.get("/account")
    confirm(browser)
    send(browser, "/account/profile", email="augusta@example.com")
    assert not is_logged_in(thief)
    assert is_logged_in(browser)
    assert csrf_token(browser) != token


@pytest.mark.parametrize(
    ("typed", "field", "error"),
    [
        ({"email": "grace@EXAMPLE.com"}, "email", "belongs to another account"),
        ({"email": "nothing"}, "email", "@-sign"),
        ({"name": " "}, "name", "Type your name"),
    ],
)
def test_a_refused_profile_change_changes_nothing(
    ada: list[webtest.TestApp],
    open_browser: OpenBrowser,
    typed: dict[str, str],
    field: str,
    error: str,
) -> None:
    register(open_browser(), name="Grace", email="grace@example.com")
    answer = send(ada[0], "/account/profile", **typed, status=422)
    assert error in error_of(answer, field)
    shown = ada[0].get("/account").html("dd")
    assert [each.get_text() for each in shown[:2]] == ["Ada Lovelace", EMAIL]


def test_probing_for_registered_addresses_in_the_profile_is_rate_limited(
    browser: webtest.TestApp, open_browser: OpenBrowser
) -> None:
    register(open_browser(), email="grace@example.com")
    register(browser)
    for _ in range(18):
        send(browser, "/account/profile", email="grace@example.com", status=422)
    answer = send(browser, "/account/profile", email="grace@example.com", status=429)
    assert answer.headers["Retry-After"] == "60"


def test_a_new_password_must_differ_from_the_current_one(browser: webtest.TestApp) -> None:
    register(browser)
    answer = change_password(browser, password=PASSWORD, status=422)
    assert "This is your current password" in error_of(answer, "password")


def test_the_page_for_ending_a_session_says_where_and_when_it_began(
    ada: list[webtest.TestApp], db: Connection
) -> None:
    execute(db, "UPDATE sessions SET created_at = '2026-03-03 14:05:09Z', address = '192.0.2.7'")
    page = ada[0].get(f"/account/sessions/end?session={fingerprint_of(ada[0])}")
    assert page.html.h1.get_text() == "End the session of Unknown device"
    which = "Unknown device, 192.0.2.7, logged in since 3 March 2026, 14:05 UTC"
    assert page.html.main.p.get_text() == which
    for unknown in ("", "?session=", "?session=0123456789ab"):
        ada[0].get(f"/account/sessions/end{unknown}", status=303)


def test_a_device_keeps_its_id_until_the_password_changes(browser: webtest.TestApp) -> None:
    register(browser)
    devices = set()
    for _ in range(3):
        log_out(browser)
        log_in(browser)
        devices.add(browser.cookies["device"][136:].partition("!")[0])
    assert len(devices) == 1
    change_password(browser)
    devices.add(browser.cookies["device"][136:].partition("!")[0])
    assert len(devices) == 2


def test_session_and_device_cookies_are_not_interchangeable(browser: webtest.TestApp) -> None:
    register(browser)
    session, device = browser.cookies["session"], browser.cookies["device"]
    browser.set_cookie("session", device)
    browser.set_cookie("device", session)
    assert not is_logged_in(browser)
    log_in(browser)


def test_deleting_an_account_needs_the_password_and_ends_all_its_sessions(
    ada: list[webtest.TestApp],
) -> None:
    answer = send(ada[0], "/account/delete", current="a wrong one", status=422)
    assert "This is not your password" in error_of(answer, "current")
    assert all(map(is_logged_in, ada))
    answer = send(ada[0], "/account/delete", current=PASSWORD)
    assert answer.headers["Clear-Site-Data"] == '"cache", "storage"'
    assert not any(map(is_logged_in, ada))
    log_in(ada[0], status=422)
    register(ada[0])
    assert events_of(ada[0]) == ["You logged in", "You registered"]


def test_the_account_page_shows_the_latest_events(open_browser: OpenBrowser) -> None:
    browser = open_browser()
    register(browser)
    log_out(browser)
    for _ in range(5):
        log_in(open_browser(REMOTE_ADDR="192.0.2.2"), password="a wrong one", status=422)
    log_in(open_browser(REMOTE_ADDR="192.0.2.2"), status=429)
    log_in(browser)
    send(browser, "/account/profile", name="Ada King", email="king@example.com")
    assert events_of(browser) == [
        "The email address was changed",
        "The name was changed",
        "You logged in",
        "You logged out",
        "You logged in",
        "You registered",
    ]
    assert failures_of(browser) == [f"{LOGIN_FAILED}, 5 times"]
    assert places_under(browser, "Failed attempts")[0].endswith("UTC, Unknown device, 192.0.2.2")


def test_only_similar_events_in_a_row_share_an_entry_which_shows_their_span(
    open_browser: OpenBrowser, db: Connection
) -> None:
    ada = open_browser()
    register(ada)
    add_events(db, "logged_in", ["Firefox on Windows"] * 3 + ["curl", "Firefox on Windows"])
    assert events_of(ada)[:3] == ["You logged in", "You logged in", "You logged in, 3 times"]
    assert places_under(ada, "Recent activity")[:3] == [
        "5 March 2030, 12:00 UTC, Firefox on Windows, 192.0.2.7",
        "4 March 2030, 12:00 UTC, curl, 192.0.2.7",
        "from 1 March 2030, 12:00 UTC to 3 March 2030, 12:00 UTC, Firefox on Windows, 192.0.2.7",
    ]
    execute(db, "UPDATE account_events SET happened_at = '2030-03-01' WHERE device <> 'curl'")
    execute(db, "UPDATE account_events SET happened_at = '2030-03-01 00:00:59' WHERE id % 2 = 0")
    listed = places_under(ada, "Recent activity")
    assert "1 March 2030, 00:00 UTC, Firefox on Windows, 192.0.2.7" in listed
    assert not any("from" in each for each in listed)


def test_failed_attempts_of_one_kind_address_and_device_share_an_entry_which_shows_their_span(
    open_browser: OpenBrowser, db: Connection
) -> None:
    ada = open_browser()
    register(ada)
    add_events(db, "login_failed", ["curl", "Firefox on Windows", "curl"])
    assert failures_of(ada) == [f"{LOGIN_FAILED}, 2 times", LOGIN_FAILED]
    assert places_under(ada, "Failed attempts") == [
        "from 1 March 2030, 12:00 UTC to 3 March 2030, 12:00 UTC, curl, 192.0.2.7",
        "2 March 2030, 12:00 UTC, Firefox on Windows, 192.0.2.7",
    ]


def test_an_event_that_the_previous_version_recorded_has_no_device(
    browser: webtest.TestApp, db: Connection
) -> None:
    register(browser)
    execute(db, "UPDATE account_events SET device = NULL")
    for place in places_under(browser, "Recent activity"):
        assert re.fullmatch(rf"{MOMENT}, 192\.0\.2\.1", place)


def test_an_event_of_an_operator_says_so(browser: webtest.TestApp, db: Connection) -> None:
    register(browser)
    (user_id,) = execute(db, "SELECT id FROM users")[0]
    Actor(db, Client(), list[Event]().append).record("reset_link_made", user_id)
    assert events_of(browser)[0] == "An operator made a link to set a new password"
    place = places_under(browser, "Recent activity")[0]
    assert re.fullmatch(f"{MOMENT}, by an operator of this site", place)


def last_login_of(browser: webtest.TestApp) -> str:
    term = browser.get("/account").html.find("dt", string="Last login before this one")
    return str(term.find_next("dd").get_text())


def let_time_pass(db: Connection, days: int) -> None:
    """Let every login be longer ago."""
    execute(db, "UPDATE sessions SET created_at = created_at - make_interval(days => %s)", days)
    execute(
        db, "UPDATE account_events SET happened_at = happened_at - make_interval(days => %s)", days
    )


def test_the_last_login_is_the_one_before_that_of_this_session(
    open_browser: OpenBrowser, db: Connection
) -> None:
    first = open_browser(HTTP_USER_AGENT=FIREFOX)
    second = open_browser(HTTP_USER_AGENT="curl/8.5.0", REMOTE_ADDR="192.0.2.2")
    third = open_browser()
    register(first)
    assert last_login_of(first) == "none in the last 90 days"
    let_time_pass(db, days=1)
    log_in(second)
    let_time_pass(db, days=1)
    log_in(third)
    confirm(second)  # its session gets another id, but began at its login
    assert last_login_of(first) == "none in the last 90 days"
    assert re.fullmatch(rf"{MOMENT}, Firefox on Windows, 192\.0\.2\.1", last_login_of(second))
    assert re.fullmatch(rf"{MOMENT}, curl, 192\.0\.2\.2", last_login_of(third))
    let_time_pass(db, days=89)
    assert last_login_of(second) == last_login_of(third) == "none in the last 90 days"


@pytest.mark.slow
def test_failed_logins_do_not_push_logins_off_the_account_page(open_browser: OpenBrowser) -> None:
    ada, thief = open_browser(), open_browser(REMOTE_ADDR="203.0.113.1")
    register(ada)
    log_in(thief)
    for number in range(100):
        other = open_browser(REMOTE_ADDR=f"198.51.100.{number % 50}")
        log_in(other, password="a wrong one", status=422)
    page = ada.get("/account").html
    assert [each.get_text() for each in page("h2")] == [
        "How you log in",
        "Where you are logged in",
        "Recent activity",
        "Failed attempts",
    ]
    assert events_of(ada) == ["You logged in", "You logged in", "You registered"]
    assert failures_of(ada) == [f"{LOGIN_FAILED}, 2 times"] * 5


def test_wrong_passwords_from_two_places_in_turn_are_two_entries(open_browser: OpenBrowser) -> None:
    ada = open_browser()
    register(ada)
    for number in range(8):
        guesser = open_browser(REMOTE_ADDR=f"198.51.100.{number % 2}")
        log_in(guesser, password="a wrong one", status=422)
    assert failures_of(ada) == [f"{LOGIN_FAILED}, 4 times"] * 2


def test_the_account_page_shows_twenty_sessions_and_how_many_more_there_are(
    open_browser: OpenBrowser,
) -> None:
    browsers = [open_browser() for _ in range(23)]
    register(browsers[0])
    for browser in browsers[1:20]:
        log_in(browser)
    assert len(sessions_of(browsers[0])) == 20
    assert "more, which were used longer ago" not in browsers[0].get("/account")
    for browser in browsers[20:]:
        log_in(browser)
    assert len(sessions_of(browsers[0])) == 20
    assert "this device" in sessions_of(browsers[0])[0]
    assert "And 3 more, which were used longer ago." in browsers[0].get("/account")
    end(browsers[0], "End all other sessions")
    assert [is_logged_in(browser) for browser in browsers] == [True] + [False] * 22


def test_profile_changes_are_rate_limited(browser: webtest.TestApp) -> None:
    register(browser)
    for number in range(20):
        send(browser, "/account/profile", name=f"Ada {number}")
    answer = send(browser, "/account/profile", name="Augusta", status=429)
    assert answer.headers["Retry-After"] == "60"
    assert answer.forms[1]["name"].value == "Augusta"
    assert "Ada 19" in browser.get("/account")
    assert events_of(browser)[0] == "The name was changed, 20 times"


def log_in_locked(browser: webtest.TestApp, email: str) -> Any:
    """Log in to a locked account, and return the text of the page."""
    page = log_in(browser, email=email, status=429)
    assert "Retry-After" not in page.headers
    assert "no password is accepted here any more" in form_error_of(page)
    return page.html.main.get_text()


def test_a_locked_account_looks_like_an_unknown_address_and_is_unlocked_on_a_known_device(
    open_browser: OpenBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "LOCK_AFTER", 3)
    ada = open_browser()
    register(ada)
    log_out(ada)
    for email in (EMAIL, "nobody@example.com"):
        for number in range(3):
            guesser = open_browser(REMOTE_ADDR=f"198.51.100.{number}")
            log_in(guesser, email=email, password="a wrong one", status=422)
    stranger = open_browser(REMOTE_ADDR="203.0.113.1")
    assert log_in_locked(stranger, EMAIL) == log_in_locked(stranger, "nobody@example.com")
    log_in(ada)
    log_in(stranger)
    log_in_locked(open_browser(), "nobody@example.com")


def test_a_guesser_is_rate_limited_and_the_owners_device_is_not(
    ada: list[webtest.TestApp], open_browser: OpenBrowser
) -> None:
    log_out(ada[0])
    guesser = open_browser()
    for _ in range(5):
        log_in(guesser, password="a wrong one", status=422)
    answer = log_in(guesser, status=429)
    assert answer.headers["Retry-After"] == "60"
    assert "For 1 minute even the right" in form_error_of(answer)
    assert answer.forms[0]["email"].value == EMAIL
    log_in(ada[0])


def test_registrations_are_rate_limited_and_the_form_keeps_its_values(
    open_browser: OpenBrowser,
) -> None:
    for number in range(20):
        register(open_browser(), email=f"{number}@example.com")
    answer = register(open_browser(), status=429)
    assert answer.headers["Retry-After"] == "60"
    assert answer.forms[0]["email"].value == EMAIL


@pytest.mark.parametrize("page", ["/account/confirm", *FRESH_PAGES])
def test_account_pages_redirect_to_the_login_page(browser: webtest.TestApp, page: str) -> None:
    answer = browser.get(page, status=303)
    assert answer.location.startswith("http://localhost/login?next=%2Faccount%2F")


def test_an_unknown_account_page_is_not_found(browser: webtest.TestApp) -> None:
    register(browser)
    browser.get("/account/style.css", status=404)


def test_every_page_of_an_account_has_the_logout_button(browser: webtest.TestApp) -> None:
    register(browser)
    pages = ["profile", "password", "delete", "confirm", "totp", "totp/remove"]
    pages += ["passkeys", "passkeys/add"]
    for path in ("/", "/account", *(f"/account/{page}" for page in pages)):
        assert browser.get(path).forms[0].action == "/logout"


@pytest.mark.parametrize(
    ("path", "typed"),
    [
        ("/account/password", {"password": NEW_PASSWORD, "confirm": NEW_PASSWORD}),
        ("/account/delete", {}),
        ("/account/confirm", {}),
    ],
)
def test_a_change_is_dropped_if_the_session_ends_during_the_password_check(
    browser: webtest.TestApp, monkeypatch: pytest.MonkeyPatch, path: str, typed: dict[str, Any]
) -> None:
    register(browser)
    reauthenticate = login.reauthenticate

    def end_sessions_during_it(actor: Actor, *arguments: Any, **more: Any) -> None:
        reauthenticate(actor, *arguments, **more)
        with actor.db.cursor() as cursor:
            cursor.execute("DELETE FROM sessions")

    monkeypatch.setattr(login, "reauthenticate", end_sessions_during_it)
    answer = send(browser, path, current=PASSWORD, **typed)
    assert answer.location == "http://localhost/account"
    log_in(browser)


def test_a_name_change_is_dropped_if_the_session_ends_during_the_rate_limit_check(
    browser: webtest.TestApp, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(browser)
    admit = RateLimiter.admit_profile_change

    def end_sessions_during_it(limiter: RateLimiter, session: Session) -> None:
        admit(limiter, session)
        with db.cursor() as cursor:
            cursor.execute("DELETE FROM sessions")

    monkeypatch.setattr(RateLimiter, "admit_profile_change", end_sessions_during_it)
    answer = send(browser, "/account/profile", name="Grace")
    assert answer.location == "http://localhost/account"
    log_in(browser)
    assert "Grace" not in browser.get("/account")


def test_a_logout_without_a_session_is_not_an_error(browser: webtest.TestApp) -> None:
    token = browser.get("/login").forms[0]["csrf_token"].value
    browser.post("/logout", {"csrf_token": token}, status=303)
