"""The table sessions."""

from datetime import timedelta

import pytest
from psycopg2.extensions import connection as Connection

from hello_login.repositories import expired, sessions, totp, users
from tests.rows import add_passkey

IDLE_LIMIT, LIMIT = timedelta(hours=2), timedelta(hours=24)
SESSION_ID = bytes(range(32))


@pytest.fixture
def session_id(db: Connection) -> bytes:
    """Insert a new session of Ada's, and return its id."""
    user_id = users.insert(db, email="ada@example.com", name="Ada", password_hash="a hash")
    assert user_id is not None
    insert(db, user_id, SESSION_ID)
    return SESSION_ID


def insert(db: Connection, user_id: int, session_id: bytes) -> None:
    sessions.insert(
        db,
        session_id=session_id,
        user_id=user_id,
        idle_limit=IDLE_LIMIT,
        limit=LIMIT,
        remembered=False,
        address="2001:db8::1",
        device="Firefox on Linux",
    )


def pass_time(db: Connection, time: timedelta, *, unseen_for: timedelta) -> None:
    """Move the end of all sessions closer by this time, and their last use to `unseen_for` ago."""
    with db.cursor() as cursor:
        cursor.execute(
            "UPDATE sessions SET last_seen_at = now() - %s, expires_at = expires_at - %s",
            (unseen_for, time),
        )


def test_a_session_is_found_with_its_user(db: Connection, session_id: bytes) -> None:
    session = sessions.find(db, session_id)
    assert session is not None
    assert session.id == session_id
    assert (session.user.name, session.user.email) == ("Ada", "ada@example.com")


@pytest.mark.parametrize("factor", [None, "app", "passkey"])
def test_a_session_tells_whether_its_user_has_a_second_factor(
    db: Connection, session_id: bytes, factor: str | None
) -> None:
    session = sessions.find(db, session_id)
    assert session is not None
    if factor == "app":
        totp.insert(db, session.user.id, b"a secret", 0)
    elif factor == "passkey":
        add_passkey(db, session.user.id)
    session = sessions.find(db, session_id)
    assert session is not None
    assert session.has_second_factor is (factor is not None)


def test_an_unknown_session_is_not_found(db: Connection, session_id: bytes) -> None:
    assert sessions.find(db, bytes(reversed(session_id))) is None


def test_a_session_lasts_while_it_is_used(db: Connection, session_id: bytes) -> None:
    pass_time(db, timedelta(hours=23), unseen_for=timedelta(minutes=119))
    assert sessions.find(db, session_id)


def test_an_unused_session_ends_at_its_idle_limit(db: Connection, session_id: bytes) -> None:
    pass_time(db, timedelta(hours=2), unseen_for=timedelta(hours=2))
    assert sessions.find(db, session_id) is None


def test_a_session_in_use_ends_at_its_absolute_limit(db: Connection, session_id: bytes) -> None:
    pass_time(db, timedelta(hours=24), unseen_for=timedelta(0))
    assert sessions.find(db, session_id) is None


def test_a_session_counts_as_seen_recently_for_a_minute(db: Connection, session_id: bytes) -> None:
    pass_time(db, timedelta(0), unseen_for=timedelta(seconds=59))
    session = sessions.find(db, session_id)
    assert session is not None
    assert session.seen_recently
    pass_time(db, timedelta(0), unseen_for=timedelta(seconds=61))
    session = sessions.find(db, session_id)
    assert session is not None
    assert not session.seen_recently


def test_a_touched_session_counts_as_seen_recently(db: Connection, session_id: bytes) -> None:
    pass_time(db, timedelta(0), unseen_for=timedelta(hours=1))
    sessions.touch(db, session_id, "192.0.2.1")
    session = sessions.find(db, session_id)
    assert session is not None
    assert session.seen_recently


def test_a_deleted_session_is_not_found(db: Connection, session_id: bytes) -> None:
    sessions.delete(db, session_id)
    assert sessions.find(db, session_id) is None


def test_deleting_a_user_deletes_the_sessions_of_that_user(
    db: Connection, session_id: bytes
) -> None:
    with db.cursor() as cursor:
        cursor.execute("DELETE FROM users")
    assert sessions.find(db, session_id) is None


def test_a_session_is_listed_with_its_device_and_its_address(
    db: Connection, session_id: bytes
) -> None:
    session = sessions.find(db, session_id)
    assert session is not None
    (listed,) = sessions.list_of_user(db, session.user.id, 10)
    assert listed.fingerprint == session.fingerprint == "000102030405"
    assert (listed.device, listed.address) == ("Firefox on Linux", "2001:db8::1")
    assert sessions.list_of_user(db, session.user.id + 1, 10) == []


def test_sessions_are_listed_up_to_the_given_number(db: Connection, session_id: bytes) -> None:
    session = sessions.find(db, session_id)
    assert session is not None
    for number in range(1, 30):
        insert(db, session.user.id, bytes([number]) * 32)
    assert len(sessions.list_of_user(db, session.user.id, 7)) == 7


@pytest.mark.parametrize(("hours", "idle"), [(24, 0), (2, 2)])
def test_a_session_that_has_ended_is_not_listed(
    db: Connection, session_id: bytes, hours: int, idle: int
) -> None:
    session = sessions.find(db, session_id)
    assert session is not None
    pass_time(db, timedelta(hours=hours), unseen_for=timedelta(hours=idle))
    assert sessions.list_of_user(db, session.user.id, 10) == []


def test_one_all_other_or_all_sessions_of_a_single_user_are_deleted(
    db: Connection, session_id: bytes
) -> None:
    session = sessions.find(db, session_id)
    assert session is not None
    ada = session.user.id
    grace = users.insert(db, email="grace@example.com", name="Grace", password_hash="a hash")
    assert grace is not None
    others = [bytes([number]) * 32 for number in (1, 2, 3)]
    insert(db, grace, b"g" * 32)
    for other in others:
        insert(db, ada, other)
    assert sessions.delete_of_user(db, ada, only=b"g".hex() * 6) == []
    assert sessions.delete_of_user(db, ada, only="01" * 6) == ["01" * 6]
    assert sorted(sessions.delete_of_user(db, ada, keep=session_id)) == ["02" * 6, "03" * 6]
    assert [each.fingerprint for each in sessions.list_of_user(db, ada, 10)] == [
        session.fingerprint
    ]
    assert sessions.delete_of_user(db, ada) == [session.fingerprint]
    assert len(sessions.list_of_user(db, grace, 10)) == 1


def test_the_most_recently_used_sessions_of_a_user_are_kept(
    db: Connection, session_id: bytes
) -> None:
    session = sessions.find(db, session_id)
    assert session is not None
    grace = users.insert(db, email="grace@example.com", name="Grace", password_hash="a hash")
    assert grace is not None
    insert(db, grace, b"g" * 32)
    statement = "UPDATE sessions SET last_seen_at = now() - %s, idle_limit = %s WHERE id = %s"
    for hours in (1, 2, 3):
        other = bytes([hours]) * 32
        insert(db, session.user.id, other)
        idle_limit = timedelta(hours=1 if hours == 1 else 9)
        with db.cursor() as cursor:
            cursor.execute(statement, (timedelta(hours=hours), idle_limit, other))
    # One of the four has reached its idle limit.
    assert sessions.delete_least_recently_used(db, session.user.id, keep=3) == []
    assert sessions.delete_least_recently_used(db, session.user.id, keep=2) == ["03" * 6]
    kept = [each.fingerprint for each in sessions.list_of_user(db, session.user.id, 10)]
    assert kept == [session.fingerprint, "02" * 6]
    assert len(sessions.list_of_user(db, grace, 10)) == 1


def test_only_expired_sessions_are_deleted(db: Connection, session_id: bytes) -> None:
    expired.delete(db, "sessions")
    assert sessions.find(db, session_id)
    pass_time(db, timedelta(hours=25), unseen_for=timedelta(0))
    expired.delete(db, "sessions")
    with db.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM sessions")
        assert cursor.fetchone() == (0,)


def test_the_session_of_a_deactivated_user_is_not_found(db: Connection, session_id: bytes) -> None:
    session = sessions.find(db, session_id)
    assert session is not None
    users.deactivate(db, session.user.id)
    assert sessions.find(db, session_id) is None
