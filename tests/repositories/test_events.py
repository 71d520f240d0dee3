"""The table account_events."""

import pytest
from psycopg2.extensions import connection as Connection

from hello_login.repositories import events, users
from hello_login.repositories.events import Event


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
        events.insert(db, Event(event, user_id, "000102030405", "192.0.2.1", "a request"))
    listed = events.list_with_failures(db, user_id, 2)
    assert [each.event for each in listed] == ["name_changed", "logged_in"]
    assert listed == events.list_of_user(db, user_id, 2)
    assert listed[0][1:5] == (user_id, "000102030405", "192.0.2.1", "a request")
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
