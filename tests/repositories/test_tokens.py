"""The table tokens."""

from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from hello_login.repositories import expired, mails, tokens, users
from tests.rows import NESTED_LOOP, add_user, execute

ONE, TWO = b"1" * 32, b"2" * 32
HOUR = timedelta(hours=1)


def add(
    db: Connection,
    token_id: bytes = ONE,
    *,
    purpose: str = "reset",
    user_id: int | None = None,
    lifetime: timedelta = HOUR,
) -> None:
    tokens.insert(
        db,
        token_id,
        purpose=purpose,
        user_id=user_id,
        address="ada@example.com",
        lifetime=lifetime,
    )


def count(db: Connection) -> int:
    with db.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tokens")
        ((number,),) = cursor.fetchall()
    return int(number)


def test_a_link_is_found_until_it_expires(db: Connection) -> None:
    user_id = add_user(db)
    add(db, ONE, user_id=user_id)
    add(db, TWO, lifetime=timedelta(0))
    found = tokens.find(db, ONE)
    assert found is not None
    assert found[:3] == ("reset", user_id, "ada@example.com")
    assert timedelta(0) < found.expires_at - datetime.now(timezone.utc) <= HOUR
    assert tokens.find(db, TWO) is None
    assert tokens.find(db, b"3" * 32) is None


def test_a_link_is_taken_once_and_for_its_own_purpose_only(db: Connection) -> None:
    add(db)
    found = tokens.find(db, ONE)
    assert tokens.take(db, ONE, "change") is None
    assert tokens.take(db, ONE, "reset") == found
    assert tokens.take(db, ONE, "reset") is None
    assert tokens.find(db, ONE) is None


def test_an_expired_link_is_not_taken(db: Connection) -> None:
    add(db, lifetime=timedelta(0))
    assert tokens.take(db, ONE, "reset") is None


def test_the_id_of_a_link_must_be_a_hash(db: Connection) -> None:
    add(db, b"short")
    with pytest.raises(psycopg2.errors.CheckViolation):
        db.cursor()  # executes what waits


def test_the_links_of_one_account_are_deleted_except_those_that_undo_a_change(
    db: Connection,
) -> None:
    ada, grace = add_user(db), add_user(db, "grace@example.com")
    add(db, b"a" * 32, user_id=ada)
    add(db, b"b" * 32, user_id=ada, purpose="change")
    add(db, b"c" * 32, user_id=ada, purpose="undo")
    add(db, b"d" * 32, user_id=grace)
    add(db, b"e" * 32, purpose="register")
    tokens.delete_of_user(db, ada)
    assert [tokens.find(db, each * 32) is None for each in (b"a", b"b")] == [True, True]
    assert count(db) == 3


def test_links_that_undo_later_changes_are_deleted_on_request(db: Connection) -> None:
    ada = add_user(db)
    add(db, ONE, user_id=ada, purpose="undo", lifetime=HOUR)
    add(db, TWO, user_id=ada, purpose="undo", lifetime=2 * HOUR)
    first = tokens.find(db, ONE)
    assert first is not None
    tokens.delete_of_user(db, ada, first.expires_at)
    assert tokens.find(db, ONE) == first
    assert tokens.find(db, TWO) is None


def test_a_link_is_deleted_with_its_account(db: Connection) -> None:
    ada = add_user(db)
    add(db, user_id=ada)
    users.delete(db, ada)
    assert count(db) == 0


@pytest.mark.parametrize("plan", ["SELECT", NESTED_LOOP])
def test_ten_expired_links_are_deleted_at_once(db: Connection, plan: str) -> None:
    execute(db, plan)
    for number in range(12):
        add(db, bytes([number]) * 32, lifetime=timedelta(seconds=-1))
    add(db, b"x" * 32)
    expired.delete(db, "tokens")
    assert count(db) == 3
    expired.delete(db, "tokens")
    assert count(db) == 1
    assert tokens.find(db, b"x" * 32) is not None


@pytest.mark.parametrize(("purpose", "age"), [("change", timedelta(0)), ("undo", 2 * HOUR)])
def test_a_link_that_undoes_a_change_expires_after_its_lifetime_since_the_change(
    db: Connection, purpose: str, age: timedelta
) -> None:
    ada = add_user(db)
    mails.insert(db, "a kind", "ada@example.com", user_id=ada)
    with db.cursor() as cursor:
        cursor.execute("UPDATE mails SET created_at = now() - interval '2 hours'")
        cursor.execute("SELECT now()")
        ((now,),) = cursor.fetchall()
    (mail,) = mails.list_all(db, 1)
    values: dict[str, Any] = {"user_id": ada, "address": "ada@example.com"}
    lifetime = timedelta(days=7)
    assert tokens.insert_for_mail(
        db, ONE, mail_id=mail.id, purpose=purpose, lifetime=lifetime, **values
    )
    found = tokens.find(db, ONE)
    assert found == (purpose, ada, "ada@example.com", now - age + lifetime)


def test_no_link_is_added_for_a_mail_that_does_not_wait(db: Connection) -> None:
    assert not tokens.insert_for_mail(
        db,
        ONE,
        mail_id=0,
        purpose="register",
        user_id=None,
        address="ada@example.com",
        lifetime=HOUR,
    )
    assert tokens.find(db, ONE) is None
