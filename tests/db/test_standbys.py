"""Commits that wait for a synchronous standby."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg2
import pytest
from psycopg2.extras import PhysicalReplicationConnection

from hello_login.db import standbys
from hello_login.db.batching import BatchingConnection
from hello_login.db.connections import ConnectionPool
from tests.functional.commands import eventually
from tests.rows import execute, query
from tests.standbys import list_waiting, require_standbys

Write = Callable[[BatchingConnection], None]


def write_in_autocommit(db: BatchingConnection) -> None:
    with db.open_cursor() as cursor:
        db.send(cursor, b"INSERT INTO throttles (key) VALUES (sha256(''))")


def write_in_a_transaction(db: BatchingConnection) -> None:
    db.begin()
    write_in_autocommit(db)
    db.commit()


@pytest.fixture
def stopped_commits(url: str) -> Iterator[str]:
    """Yield the URL of a database whose commits wait for a standby that does not exist.

    The role of the URL is a superuser.  Another role, stranger, may also write.
    """
    query(url, "CREATE ROLE stranger LOGIN IN ROLE pg_write_all_data")
    require_standbys(url, "gone")
    yield url
    require_standbys(url, "")
    query(url, "DROP ROLE stranger")


@pytest.mark.parametrize("write", [write_in_autocommit, write_in_a_transaction])
def test_a_commit_that_waits_too_long_is_given_up_and_its_backend_ends(
    stopped_commits: str, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    monkeypatch.setattr(standbys, "COMMIT_TIMEOUT_SECONDS", 1)
    pool = ConnectionPool(stopped_commits)
    with (
        pytest.raises(standbys.NoAnswer, match=r"No answer for 1 s: .* look at the standbys"),
        pool.autocommit() as db,
    ):
        write(db)
    assert eventually(lambda: list_waiting(stopped_commits) == [])
    # The row stays committed here, and the pool has dropped the connection.
    assert query(stopped_commits, "SELECT count(*) FROM throttles") == [(1,)]
    with pool.autocommit() as another:
        assert another is not db
    another.close()


def test_a_server_that_does_not_answer_is_given_up(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standbys, "COMMIT_TIMEOUT_SECONDS", 1)
    with closing(ConnectionPool(url).acquire()) as db:
        backend = db.info.backend_pid
        # If the wait has no limit, the test fails when this wakes the backend.
        rescue = threading.Timer(60, os.kill, (backend, signal.SIGCONT))
        rescue.start()
        os.kill(backend, signal.SIGSTOP)
        try:
            with pytest.raises(standbys.NoAnswer):
                write_in_autocommit(db)
        finally:
            os.kill(backend, signal.SIGCONT)
            rescue.cancel()


def test_commits_of_other_roles_are_not_ended(
    stopped_commits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standbys, "COMMIT_TIMEOUT_SECONDS", 0)
    with (
        closing(psycopg2.connect(stopped_commits.replace("postgres@", "stranger@"))) as stranger,
        closing(psycopg2.connect(stopped_commits)) as superuser,
    ):
        execute(stranger, "INSERT INTO throttles (key) VALUES (sha256(''))")
        thread = threading.Thread(target=stranger.commit)
        thread.start()
        assert eventually(lambda: list_waiting(stopped_commits) != [])
        standbys.end_waiting_commits(superuser)
        assert list_waiting(stopped_commits) == [(stranger.info.backend_pid,)]
        require_standbys(stopped_commits, "")
        thread.join()


def test_commits_wait_while_a_standby_is_required_and_none_is_connected(url: str) -> None:
    with closing(psycopg2.connect(url)) as connection, closing(psycopg2.connect(url)) as other:
        connection.autocommit = True
        assert not standbys.commits_wait(connection)
        require_standbys(url, "gone")
        try:
            assert eventually(lambda: standbys.commits_wait(connection))
            # An operator may let commits go on without a standby.
            execute(connection, "SET synchronous_commit = local")
            assert not standbys.commits_wait(connection)
            execute(connection, "SET synchronous_commit = on")
            with closing(psycopg2.connect(url, connection_factory=PhysicalReplicationConnection)):
                assert eventually(lambda: not standbys.commits_wait(connection))
                # The standby is connected, but does not answer.
                execute(other, "INSERT INTO throttles (key) VALUES (sha256(''))")
                thread = threading.Thread(target=other.commit)
                thread.start()
                assert eventually(lambda: standbys.commits_wait(connection))
        finally:
            require_standbys(url, "")
        thread.join()
        assert not standbys.commits_wait(connection)
