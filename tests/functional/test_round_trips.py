"""The number of round trips to PostgreSQL that each request needs."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import webtest
from psycopg2.extensions import connection as Connection

import hello_login
from tests.conftest import MakeIni
from tests.functional.authenticator import Clock, set_up, type_code
from tests.functional.round_trips import RoundTrips
from tests.people import PASSWORD, STYLESHEET, log_in, log_out, register
from tests.rows import execute

NEXT_TRANSACTION = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"
"""Reads the number of the next transaction that writes or locks a row, without using it up."""


@pytest.fixture
def relay(url: str, through_pooler: Callable[[str], str]) -> Iterator[RoundTrips]:
    """Yield a relay to a database of the test's own."""
    relay = RoundTrips(through_pooler(url))
    yield relay
    relay.close()


@pytest.fixture
def browser(relay: RoundTrips, ini: MakeIni) -> webtest.TestApp:
    """Return a browser of a site that has opened its database connection."""
    app: Any = hello_login.main({}, **ini(database_url=relay.url))
    browser = webtest.TestApp(app, {"HTTP_ACCEPT": "text/html", "REMOTE_ADDR": "192.0.2.1"})
    browser.get("/readyz")
    return browser


@pytest.mark.parametrize("path", ["/", "/login", "/register", "/healthz", STYLESHEET])
def test_a_page_needs_no_round_trip_without_a_login(
    relay: RoundTrips, browser: webtest.TestApp, path: str
) -> None:
    before = relay.count
    browser.get(path)
    assert relay.count - before == 0


@pytest.mark.parametrize(
    ("path", "round_trips"),
    [
        ("/healthz", 0),
        (STYLESHEET, 0),
        ("/", 1),
        # the session, the second factors; the lists of sessions and of events; the login before
        ("/account", 5),
        ("/account/activity", 2),  # the session, the list of events
        ("/account/passkeys", 2),  # the session, the second factors; one more with passkeys
        ("/account/profile", 1),
        ("/account/password", 1),
        ("/account/delete", 1),
    ],
)
def test_a_page_needs_one_round_trip_after_a_login_and_one_more_for_each_list(
    relay: RoundTrips, browser: webtest.TestApp, path: str, round_trips: int
) -> None:
    register(browser)
    browser.get(path)  # each connection prepares a statement before its first use
    before = relay.count
    browser.get(path)
    assert relay.count - before == round_trips


def test_the_json_greeting_needs_no_round_trip(relay: RoundTrips, browser: webtest.TestApp) -> None:
    register(browser)
    before = relay.count
    browser.get("/", headers={"Accept": "application/json"})
    assert relay.count - before == 0


def test_a_refused_login_needs_as_many_round_trips_for_an_unknown_address(
    relay: RoundTrips, browser: webtest.TestApp
) -> None:
    register(browser)
    log_out(browser)
    browser.cookiejar.clear()  # the device must be unknown
    round_trips = {}
    for email in ("ada@example.com", "nobody@example.com"):
        log_in(browser, email=email, password="a wrong one", status=422)
        before = relay.count
        log_in(browser, email=email, password="a wrong one", status=422)
        round_trips[email] = relay.count - before
    assert round_trips["ada@example.com"] == round_trips["nobody@example.com"]


@pytest.mark.parametrize(
    ("address", "round_trips"),
    [
        # the credentials; the rate limits; BEGIN and the account; all writes; COMMIT
        ("192.0.2.1", 5),
        # new rate limits are added, and counted again
        ("192.0.2.2", 6),
        ("2001:db8::1", 6),
    ],
)
def test_a_login_needs_six_round_trips_at_most(
    relay: RoundTrips, browser: webtest.TestApp, address: str, round_trips: int
) -> None:
    for email in ("ada@example.com", "grace@example.com"):
        register(browser, email=email)
        log_out(browser)
    browser.cookiejar.clear()  # the device is unknown
    log_in(browser)  # each connection prepares a statement before its first use
    log_out(browser)
    browser.cookiejar.clear()
    email = "ada@example.com" if round_trips == 5 else "grace@example.com"
    token = browser.get("/login").forms[0]["csrf_token"].value
    before = relay.count
    browser.extra_environ["REMOTE_ADDR"] = address
    form = {"csrf_token": token, "email": email, "password": PASSWORD}
    browser.post("/login", form, status=303)
    assert relay.count - before == round_trips


def count_commits(database: Connection, act: Callable[[str], object]) -> int:
    """Return the number of transactions in one call of act that write or lock a row.

    Other tests on the same PostgreSQL, and its own housekeeping, may write at the same time.  So
    act is called up to 50 times, until a call takes at most 2 transactions.  Its argument is the
    number of the call.
    """
    for number in range(1, 51):
        ((before,),) = execute(database, NEXT_TRANSACTION)
        act(str(number))
        ((after,),) = execute(database, NEXT_TRANSACTION)
        count = int(after) - int(before)
        if count <= 2:
            break
    return count


def test_a_login_and_a_registration_commit_twice(
    browser: webtest.TestApp, database: Connection
) -> None:
    # The first commit stores the counts of the rate limits.
    def log_in_from(address: str) -> None:
        browser.reset()
        browser.extra_environ["REMOTE_ADDR"] = address
        log_in(browser)
        browser.reset()

    register(browser)
    browser.reset()
    assert count_commits(database, lambda _: log_in_from("192.0.2.1")) == 2
    assert count_commits(database, lambda number: log_in_from(f"198.51.100.{number}")) == 2
    assert count_commits(database, lambda number: log_in_from(f"2001:db8:{number}::1")) == 2

    def register_from(number: str) -> None:
        browser.reset()
        browser.extra_environ["REMOTE_ADDR"] = f"203.0.113.{number}"
        register(browser, email=f"grace{number}@example.com")

    assert count_commits(database, register_from) == 2


def test_the_second_step_of_a_login_needs_ten_round_trips(
    relay: RoundTrips, browser: webtest.TestApp, clock: Clock
) -> None:
    register(browser)
    phone, _ = set_up(browser)
    log_out(browser)
    log_in(browser)
    type_code(browser, phone.code())  # each connection prepares a statement before its first use
    log_out(browser)
    clock.tick()
    before = relay.count
    form = browser.get("/login").forms[0]
    form["email"], form["password"] = "ada@example.com", PASSWORD
    before = relay.count
    form.submit(status=303)
    # as many as a login with the password alone
    assert relay.count - before == 5
    form = browser.get("/login/second").forms[0]
    form["code"] = phone.code()
    before = relay.count
    form.submit(status=303)
    # the half login, the second factors; the credentials; the rate limits; BEGIN and again the half
    # login; the secret; its use; the account; all writes, and the number of recovery codes that are
    # left; COMMIT
    assert relay.count - before == 10


def test_a_registration_needs_six_round_trips_at_most(
    relay: RoundTrips, browser: webtest.TestApp
) -> None:
    register(browser, email="grace@example.com")
    log_out(browser)
    round_trips = []
    for number in range(2):
        browser.extra_environ["REMOTE_ADDR"] = "192.0.2.2"
        before = relay.count
        register(browser, email=f"ada{number}@example.com")
        round_trips.append(relay.count - before)
        log_out(browser)
    assert round_trips == [6, 5]
