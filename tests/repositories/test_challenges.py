"""The table used_challenges."""

import threading
from contextlib import closing
from datetime import timedelta

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from hello_login.repositories import challenges, expired
from tests.rows import NESTED_LOOP, execute

ONE, TWO = b"1" * 32, b"2" * 32
HOUR = timedelta(hours=1)


def test_a_challenge_is_used_once(db: Connection) -> None:
    assert [challenges.insert(db, ONE, HOUR) for _ in range(2)] == [True, False]
    assert challenges.insert(db, TWO, HOUR)


@pytest.mark.parametrize(("committed", "usable"), [(True, False), (False, True)])
def test_the_second_of_two_simultaneous_uses_of_a_challenge_waits_for_the_first(
    url: str, committed: bool, usable: bool
) -> None:
    results = []
    with closing(psycopg2.connect(url)) as first, closing(psycopg2.connect(url)) as second:
        assert challenges.insert(first, ONE, HOUR)
        racing = threading.Thread(
            target=lambda: results.append(challenges.insert(second, ONE, HOUR))
        )
        racing.start()
        racing.join(0.2)
        assert results == []
        (first.commit if committed else first.rollback)()
        racing.join()
    assert results == [usable]


def test_the_id_of_a_challenge_must_be_a_hash(db: Connection) -> None:
    with pytest.raises(psycopg2.errors.CheckViolation):
        challenges.insert(db, b"short", HOUR)


@pytest.mark.parametrize("plan", ["SELECT", NESTED_LOOP])
def test_expired_challenges_are_deleted_ten_at_a_time(db: Connection, plan: str) -> None:
    execute(db, plan)
    for number in range(12):
        challenges.insert(db, bytes([number]) * 32, timedelta(minutes=-1))
    challenges.insert(db, ONE, HOUR)
    left = []
    for _ in range(3):
        expired.delete(db, "used_challenges")
        left.append(len(execute(db, "SELECT FROM used_challenges")))
    assert left == [3, 1, 1]
    assert not challenges.insert(db, ONE, HOUR)
