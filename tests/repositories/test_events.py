"""The table account_events."""

from datetime import timedelta

import pytest
from psycopg2.extensions import connection as Connection

from hello_login.repositories import events, users
from hello_login.repositories.events import Event
from tests.rows import execute


@pytest.fixture
def user_id(db: Connection) -> int:
    """Register Ada, and return the id of her account."""
    user_id = users.insert(db, email="ada@example.com", name="Ada", password_hash="a hash")
    assert user_id is not None
    return user_id


def test_events_are_listed_newest_first_up_to_the_given_number(
    db: Connection, user_id: int
) -> None:
    for event in ("registered", "logged_in", "name_changed"):
        events.insert(db, Event(event, user_id, "000102030405", "192.0.2.1", "a request", "curl"))
    listed = events.list_with_failures(db, user_id, 2)
    assert [each.event for each in listed] == ["name_changed", "logged_in"]
    assert listed == events.list_of_user(db, user_id, 2)
    assert listed[0][1:6] == (user_id, "000102030405", "192.0.2.1", "a request", "curl")
    assert events.list_with_failures(db, user_id + 1, 2) == []


def test_failed_attempts_and_other_events_do_not_push_each_other_out(
    db: Connection, user_id: int
) -> None:
    failures = ["login_failed", "check_failed", "login_throttled", "check_throttled"]
    others = ["logged_in", "logged_out", "session_ended_by_limit"]
    for event in [*others, *failures * 10]:
        events.insert(db, Event(event, user_id))
    listed = events.list_with_failures(db, user_id, 5)
    last = [*reversed(others), *reversed(failures), failures[-1]]
    assert [each.event for each in listed] == last


def names_on_page(db: Connection, user_id: int, before: int = events.NEWEST) -> list[str]:
    page = events.list_page(db, user_id, before=before, age=timedelta(days=90), number=2)
    return [each.event for each in page]


def test_a_page_goes_on_after_the_event_that_the_page_before_ended_with(
    db: Connection, user_id: int
) -> None:
    for event in ("registered", "logged_in", "name_changed"):
        events.insert(db, Event(event, user_id, device="curl"))  # all at one time
    assert names_on_page(db, user_id) == ["name_changed", "logged_in"]
    ids = {each.event: each.id for each in events.list_of_user(db, user_id, 3)}
    assert names_on_page(db, user_id, ids["logged_in"] or 0) == ["registered"]
    assert names_on_page(db, user_id, ids["registered"] or 0) == []


def test_an_event_that_committed_later_than_a_newer_one_has_its_place_in_the_order_of_time(
    db: Connection, user_id: int
) -> None:
    for event in ("logged_in", "name_changed", "registered"):
        events.insert(db, Event(event, user_id))
    execute(db, "UPDATE account_events SET happened_at = 'yesterday' WHERE event = 'registered'")
    ids = {each.event: each.id for each in events.list_of_user(db, user_id, 3)}
    assert names_on_page(db, user_id) == ["name_changed", "logged_in"]
    assert names_on_page(db, user_id, ids["logged_in"] or 0) == ["registered"]


def test_the_version_before_can_still_add_events(db: Connection, user_id: int) -> None:
    execute(db, "INSERT INTO account_events (event, user_id) VALUES ('logged_in', %s)", user_id)
    assert [each.device for each in events.list_of_user(db, user_id, 1)] == [None]
