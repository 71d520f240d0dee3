"""The table account_events."""

from datetime import datetime, timedelta, timezone

import pytest
from psycopg2.extensions import connection as Connection

from hello_login.repositories import events, users
from hello_login.repositories.events import Event
from tests.rows import execute

AGE = timedelta(days=90)


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
    listed = events.list_with_failures(db, user_id, 2, AGE)
    assert [each.event for each in listed] == ["name_changed", "logged_in"]
    assert listed == events.list_of_user(db, user_id, 2, AGE)
    assert listed[0][1:6] == (user_id, "000102030405", "192.0.2.1", "a request", "curl")
    assert events.list_with_failures(db, user_id + 1, 2, AGE) == []


def test_failed_attempts_and_other_events_do_not_push_each_other_out(
    db: Connection, user_id: int
) -> None:
    failures = ["login_failed", "check_failed", "login_throttled", "check_throttled"]
    others = ["logged_in", "logged_out", "session_ended_by_limit"]
    for event in [*others, *failures * 10]:
        events.insert(db, Event(event, user_id))
    listed = events.list_with_failures(db, user_id, 5, AGE)
    last = [*reversed(others), *reversed(failures), failures[-1]]
    assert [each.event for each in listed] == last


def names_on_page(db: Connection, user_id: int, before: int = events.NEWEST) -> list[str]:
    page = events.list_of_user(db, user_id, 2, AGE, before=before)
    return [each.event for each in page]


def test_a_page_goes_on_after_the_event_that_the_page_before_ended_with(
    db: Connection, user_id: int
) -> None:
    for event in ("registered", "logged_in", "name_changed"):
        events.insert(db, Event(event, user_id, device="curl"))  # all at one time
    assert names_on_page(db, user_id) == ["name_changed", "logged_in"]
    ids = {each.event: each.id for each in events.list_of_user(db, user_id, 3, AGE)}
    assert names_on_page(db, user_id, ids["logged_in"] or 0) == ["registered"]
    assert names_on_page(db, user_id, ids["registered"] or 0) == []


def test_an_event_that_committed_later_than_a_newer_one_has_its_place_in_the_order_of_time(
    db: Connection, user_id: int
) -> None:
    for event in ("logged_in", "name_changed", "registered"):
        events.insert(db, Event(event, user_id))
    execute(db, "UPDATE account_events SET happened_at = 'yesterday' WHERE event = 'registered'")
    ids = {each.event: each.id for each in events.list_of_user(db, user_id, 3, AGE)}
    assert names_on_page(db, user_id) == ["name_changed", "logged_in"]
    assert names_on_page(db, user_id, ids["logged_in"] or 0) == ["registered"]


def test_the_previous_version_can_still_add_events(db: Connection, user_id: int) -> None:
    execute(db, "INSERT INTO account_events (event, user_id) VALUES ('logged_in', %s)", user_id)
    assert [each.device for each in events.list_of_user(db, user_id, 1, AGE)] == [None]


def test_events_beyond_the_given_age_are_not_listed(db: Connection, user_id: int) -> None:
    for event in ("registered", "logged_in", "login_failed", "check_failed"):
        events.insert(db, Event(event, user_id))
    expire = "UPDATE account_events SET happened_at = now() - interval '91 days' WHERE event IN %s"
    execute(db, expire, ("registered", "login_failed"))
    for listed in (events.list_of_user, events.list_with_failures):
        assert {each.event for each in listed(db, user_id, 9, AGE)} == {"logged_in", "check_failed"}


def months(db: Connection) -> list[str]:
    """Return the partitions of account_events, the default one last."""
    statement = """
        SELECT relname
          FROM pg_inherits
          JOIN pg_class ON pg_class.oid = inhrelid
         WHERE inhparent = 'account_events'::regclass
         ORDER BY relname
    """
    return [name for (name,) in execute(db, statement)]


def first_of_month(months_ahead: int) -> datetime:
    """Return the beginning of a month, in UTC: 0 is this one."""
    now = datetime.now(timezone.utc)
    month = now.year * 12 + now.month - 1 + months_ahead
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=timezone.utc)


def test_there_are_partitions_for_this_month_and_the_next_two(db: Connection) -> None:
    ahead = [f"{first_of_month(number):account_events_%Y_%m}" for number in range(3)]
    assert months(db) == [*ahead, "account_events_default"]
    assert events.has_next_month(db)
    execute(db, f"DROP TABLE {ahead[1]}")
    assert not events.has_next_month(db)
    events.prepare_months(db, AGE)
    assert months(db) == [*ahead, "account_events_default"]


def test_an_event_of_a_month_without_a_partition_is_kept_and_moves_into_it(
    db: Connection, user_id: int
) -> None:
    _, _, last, _ = months(db)
    execute(db, f"DROP TABLE {last}")
    events.insert(db, Event("logged_in", user_id))
    for moment in (first_of_month(2), first_of_month(3)):
        statement = """
            INSERT INTO account_events (event, user_id, happened_at, device)
            VALUES ('registered', %s, %s, 'curl')
        """
        execute(db, statement, user_id, moment)
    before = events.list_of_user(db, user_id, 9, AGE)
    assert execute(db, "SELECT count(*) FROM account_events_default") == [(2,)]
    events.prepare_months(db, AGE)
    assert execute(db, f"SELECT happened_at FROM {last}") == [(first_of_month(2),)]  # noqa: S608
    assert execute(db, "SELECT count(*) FROM account_events_default") == [(1,)]
    assert len(before) == 3
    assert events.list_of_user(db, user_id, 9, AGE) == before


def test_a_month_is_dropped_when_all_of_its_events_are_older(db: Connection) -> None:
    this, following, _, _ = months(db)
    end = first_of_month(1) - datetime.now(timezone.utc)
    # A negative age is a time in the future.
    events.prepare_months(db, -(end - timedelta(hours=1)))
    assert months(db)[:2] == [this, following]
    events.prepare_months(db, -(end + timedelta(hours=1)))
    assert months(db)[0] == following


def test_the_events_of_an_account_are_deleted_in_every_month(db: Connection, user_id: int) -> None:
    for number in range(4):
        statement = "INSERT INTO account_events (event, user_id, happened_at) VALUES ('a', %s, %s)"
        execute(db, statement, user_id, first_of_month(number))
    users.delete(db, user_id)
    assert execute(db, "SELECT FROM account_events") == []
