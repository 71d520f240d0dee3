"""The number of round trips to PostgreSQL that each request needs."""

from collections.abc import Iterator
from typing import Any

import pytest
import webtest

import hello_login
from tests.conftest import MakeIni
from tests.functional.round_trips import RoundTrips
from tests.people import STYLESHEET, log_in, log_out, register


@pytest.fixture
def relay(url: str) -> Iterator[RoundTrips]:
    """Yield a relay to a database of the test's own."""
    relay = RoundTrips(url)
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
        # the session, the second factors; the lists of passkeys, of sessions and of events; the
        # login before
        ("/account", 6),
        ("/account/activity", 2),  # the session, the list of events
        ("/account/passkeys", 3),  # the session, the second factors, the list of passkeys
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


def test_a_login_needs_twelve_round_trips(relay: RoundTrips, browser: webtest.TestApp) -> None:
    register(browser)
    log_out(browser)
    log_in(browser)
    log_out(browser)
    before = relay.count
    log_in(browser)
    assert relay.count - before == 12  # one of them ends the session over the limit
