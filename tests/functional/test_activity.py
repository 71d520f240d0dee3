"""The page of an account's activity."""

import re
from typing import Any

import pytest
import webtest
from psycopg2.extensions import connection as Connection

from tests.conftest import OpenBrowser
from tests.people import csrf_token, log_in, log_out, register
from tests.rows import execute

PATH = "/account/activity"
PAGE = 50
LOGIN_FAILED = "Failed attempt: Somebody tried to log in with a wrong password or passkey"


def entries_on(page: Any) -> list[tuple[str, str]]:
    """Return the two lines of each entry: what happened; and when and where."""
    paragraphs = [entry("p") for entry in page.html.main("li") if entry.p]
    texts = [[" ".join(each.get_text().split()) for each in lines] for lines in paragraphs]
    return [(what, where) for what, where in texts]


def events_on(page: Any) -> list[str]:
    return [what for what, _ in entries_on(page)]


def links_on(page: Any) -> list[str]:
    return [link.get_text() for link in page.html.main("a")]


def add_different_events(db: Connection, number: int) -> None:
    """Add events of Ada's account, one for each of the last minutes and from an address each."""
    execute(
        db,
        """
        INSERT INTO account_events (event, user_id, address, device, happened_at)
        SELECT 'logged_in', users.id, '10.0.0.0'::inet + n, 'curl', now() - n * interval '1 minute'
          FROM users, generate_series(1, %s) AS n
        """,
        number,
    )


def addresses_on(page: Any) -> list[str]:
    """Return the addresses of the events that add_different_events() has added."""
    return re.findall(r"10\.0\.\d+\.\d+", page.html.main.get_text())


@pytest.fixture
def ada(browser: webtest.TestApp) -> webtest.TestApp:
    """Return a browser in which Ada has just registered."""
    register(browser)
    return browser


def test_the_account_page_leads_to_all_activity_with_failed_attempts_in_the_order_of_time(
    ada: webtest.TestApp, open_browser: OpenBrowser
) -> None:
    log_out(ada)
    guesser = open_browser(HTTP_USER_AGENT="curl/8.5.0", REMOTE_ADDR="2001:db8::1")
    for _ in range(3):
        log_in(guesser, password="a wrong one", status=422)
    log_in(ada)
    page = ada.get("/account").click("All activity of the last 90 days")
    assert page.request.path == PATH
    assert page.html.h1.get_text() == "Activity of the last 90 days"
    assert events_on(page) == [
        "You logged in",
        f"{LOGIN_FAILED}, 3 times",
        "You logged out",
        "You logged in",
        "You registered",
    ]
    moment = r"\d\d? \w+ \d{4}, \d\d:\d\d UTC"
    assert re.fullmatch(f"{moment}, curl, 2001:db8::1", entries_on(page)[1][1])
    assert links_on(page) == ["Back to your account"]


def test_failed_attempts_that_were_refused_by_a_limit_of_an_earlier_version_are_marked_too(
    ada: webtest.TestApp, db: Connection
) -> None:
    execute(db, "UPDATE account_events SET event = 'login_throttled'")
    assert events_on(ada.get(PATH)) == [
        "Failed attempt: A login was refused after too many attempts, 2 times"
    ]


@pytest.mark.parametrize("more", [0, 1])
def test_a_page_has_fifty_events_and_leads_to_older_ones_if_there_are_any(
    ada: webtest.TestApp, db: Connection, more: int
) -> None:
    add_different_events(db, PAGE - 2 + more)  # Ada has registered and logged in, too
    page = ada.get(PATH)
    assert len(events_on(page)) == PAGE
    assert ("Older" in links_on(page)) == (more == 1)


def test_the_pages_show_each_event_once_the_newest_first(
    ada: webtest.TestApp, db: Connection
) -> None:
    execute(db, "UPDATE account_events SET happened_at = now() - interval '2 days'")
    add_different_events(db, 2 * PAGE)
    page = ada.get(PATH)
    seen = [*addresses_on(page)]
    assert links_on(page) == ["Older", "Back to your account"]
    add_different_events(db, 1)  # what happens meanwhile does not move the pages
    page = page.click("Older")
    seen += addresses_on(page)
    assert links_on(page) == ["Older", "Back to the newest", "Back to your account"]
    last = page.click("Older")
    assert events_on(last) == ["You logged in", "You registered"]
    assert links_on(last) == ["Back to the newest", "Back to your account"]
    assert seen == [f"10.0.0.{n}" for n in range(1, 2 * PAGE + 1)]
    assert events_on(last.click("Back to the newest"))[0] == "You logged in, 2 times"


def test_events_of_one_time_are_neither_lost_nor_shown_twice_between_pages(
    ada: webtest.TestApp, db: Connection
) -> None:
    add_different_events(db, 2 * PAGE)
    execute(db, "UPDATE account_events SET happened_at = now()")
    page = ada.get(PATH)
    seen = [*addresses_on(page)]
    while "Older" in links_on(page):
        page = page.click("Older")
        seen += addresses_on(page)
    assert sorted(seen) == sorted(f"10.0.0.{n}" for n in range(1, 2 * PAGE + 1))


@pytest.mark.parametrize("before", ["", "0", "-1", "x", "1e3", "²", "9" * 18, "9" * 19, "9" * 999])
def test_a_page_before_an_unknown_event_shows_the_newest_events(
    ada: webtest.TestApp, before: str
) -> None:
    page = ada.get(PATH, {"before": before})
    assert events_on(page) == ["You logged in", "You registered"]


def test_another_persons_events_are_not_shown_and_their_ids_tell_nothing(
    ada: webtest.TestApp, open_browser: OpenBrowser, db: Connection
) -> None:
    grace = open_browser()
    register(grace, name="Grace", email="grace@example.com")
    hers = execute(
        db,
        """
        UPDATE account_events
           SET happened_at = now() - interval '2 days'
          FROM users
         WHERE users.id = user_id
           AND email = 'grace@example.com'
     RETURNING account_events.id
        """,
    )
    assert len(hers) == 2
    for before in ("", *(str(event) for (event,) in hers)):
        page = ada.get(PATH, {"before": before})
        assert events_on(page) == ["You logged in", "You registered"]


def test_events_older_than_90_days_are_not_shown_even_if_they_are_not_deleted_yet(
    ada: webtest.TestApp, db: Connection
) -> None:
    age = "UPDATE account_events SET happened_at = now() - %s * interval '1 day' WHERE event = %s"
    execute(db, age, 89.9, "logged_in")
    execute(db, age, 90.1, "registered")
    assert events_on(ada.get(PATH)) == ["You logged in"]


def test_a_page_without_events_says_so(ada: webtest.TestApp, db: Connection) -> None:
    ((oldest,),) = execute(db, "SELECT min(id) FROM account_events")
    page = ada.get(f"{PATH}?before={oldest}")
    assert entries_on(page) == []
    assert "Nothing happened before that." in page
    assert links_on(page) == ["Back to the newest", "Back to your account"]


def test_the_page_changes_nothing_and_needs_a_login(
    ada: webtest.TestApp, browser: webtest.TestApp
) -> None:
    ada.post(PATH, {"csrf_token": csrf_token(ada)}, status=405)
    log_out(browser)
    assert browser.get(PATH, status=303).location.startswith("http://localhost/login?next=")


def test_a_time_is_shown_in_utc_with_its_seconds_in_the_title(
    ada: webtest.TestApp, db: Connection
) -> None:
    execute(db, "UPDATE account_events SET happened_at = now() - interval '1 day'")
    execute(db, "SET LOCAL TIME ZONE 'Asia/Kolkata'")
    (utc,) = execute(
        db,
        """
        SELECT to_char(happened_at AT TIME ZONE 'UTC', 'FMDD FMMonth YYYY, HH24:MI UTC'),
               to_char(happened_at AT TIME ZONE 'UTC', 'FMDD FMMonth YYYY, HH24:MI:SS UTC'),
               to_char(happened_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"')
          FROM account_events
         LIMIT 1
        """,
    )
    shown = ada.get(PATH).html.find("time")
    assert (shown.get_text(), shown["title"], shown["datetime"]) == utc
