"""Statements that wait, and are sent in one round trip with the next one."""

import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg2.errors
import pytest
from psycopg2.extensions import (
    TRANSACTION_STATUS_IDLE,
    TRANSACTION_STATUS_INERROR,
    TRANSACTION_STATUS_INTRANS,
)
from psycopg2.extensions import connection as Connection

from hello_login import repositories
from hello_login.db import connections
from hello_login.db.batching import BatchingConnection
from tests.conftest import NewDatabase
from tests.rows import execute

ADD = "INSERT INTO notes VALUES (%s)"
ALL = "SELECT text FROM notes ORDER BY id"


@pytest.fixture
def url(new_database: NewDatabase) -> str:
    """Return the URL of a database with one empty table: notes."""
    url = new_database()
    with closing(psycopg2.connect(url)) as connection:
        columns = "text text UNIQUE, id integer GENERATED ALWAYS AS IDENTITY"
        execute(connection, f"CREATE TABLE notes ({columns})")
        connection.commit()
    return url


@pytest.fixture
def db(url: str) -> Iterator[BatchingConnection]:
    """Yield a connection of the pool."""
    with closing(connections.ConnectionPool(url).acquire()) as connection:
        yield connection


@pytest.fixture
def other(url: str) -> Iterator[Connection]:
    """Yield a connection of another client, which sees only committed rows."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        yield connection


def add(db: Connection, *texts: str) -> None:
    for text in texts:
        repositories.execute(db, ADD, [text])


def notes(db: Connection) -> str:
    return "".join(row.text for row in repositories.fetch(db, ALL, []))


def status(db: Connection) -> int:
    return db.info.transaction_status


def next_transaction_id(other: Connection) -> int:
    """Return the id of the next transaction that writes."""
    ((found,),) = execute(other, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
    return int(found)


def test_waiting_statements_are_executed_in_order_with_the_next_one(
    db: BatchingConnection, other: Connection
) -> None:
    add(db, "a", "b")
    assert notes(other) == ""
    assert notes(db) == "ab"
    assert notes(other) == "ab"


def test_a_cursor_sees_the_effects_of_the_waiting_statements(db: BatchingConnection) -> None:
    add(db, "a")
    assert execute(db, "SELECT text FROM notes") == [("a",)]


def test_a_flush_executes_the_waiting_statements_as_one_transaction(
    db: BatchingConnection, other: Connection
) -> None:
    add(db, "a")  # prepares the statement
    db.flush()
    before = next_transaction_id(other)
    add(db, "b", "c")
    db.flush()
    assert notes(other) == "abc"
    assert next_transaction_id(other) - before == 1


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_an_error_discards_all_statements_that_were_sent_together(
    db: BatchingConnection, other: Connection, wrong: int
) -> None:
    add(other, "taken")
    texts = ["a", "b", "c"]
    texts[wrong] = "taken"
    add(db, *texts)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        notes(db)
    assert (db.waiting, status(db)) == ([], TRANSACTION_STATUS_IDLE)
    assert notes(db) == "taken"


def test_a_transaction_ends_with_its_commit(db: BatchingConnection, other: Connection) -> None:
    db.begin()
    add(db, "a")
    assert notes(db) == "a"
    assert status(db) == TRANSACTION_STATUS_INTRANS
    add(db, "b")
    assert notes(other) == ""
    db.commit()
    assert notes(other) == "ab"
    assert status(db) == TRANSACTION_STATUS_IDLE
    add(db, "c")
    db.flush()
    assert notes(other) == "abc"


@pytest.mark.parametrize("flushed", [True, False])
def test_a_rollback_discards_what_was_executed_and_what_waits(
    db: BatchingConnection, other: Connection, *, flushed: bool
) -> None:
    db.begin()
    add(db, "a")
    if flushed:
        db.flush()
    add(db, "b")
    db.rollback()
    assert (db.waiting, status(db)) == ([], TRANSACTION_STATUS_IDLE)
    add(db, "c")
    db.flush()
    assert notes(other) == "c"


def test_a_rollback_ends_a_transaction_that_failed(
    db: BatchingConnection, other: Connection
) -> None:
    db.begin()
    add(db, "a", "a")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        db.flush()
    assert status(db) == TRANSACTION_STATUS_INERROR
    db.rollback()
    assert status(db) == TRANSACTION_STATUS_IDLE
    assert notes(other) == ""


def test_a_statement_after_a_lock_in_the_same_message_sees_what_was_committed_during_the_wait(
    db: BatchingConnection, url: str
) -> None:
    # Otherwise a login would not see a second factor that was added meanwhile.
    add(db, "a")
    db.flush()
    with closing(psycopg2.connect(url)) as holder:
        execute(holder, "UPDATE notes SET text = 'b'")
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        with closing(psycopg2.connect(url)) as watcher:
            watcher.autocommit = True

            def commit_when_it_waits() -> None:
                while execute(watcher, waiting) != [(1,)]:
                    pass
                add(holder, "c")
                holder.commit()

            thread = threading.Thread(target=commit_when_it_waits)
            thread.start()
            db.begin()
            repositories.execute(db, "SELECT FROM notes FOR UPDATE")
            assert notes(db) == "bc"
            thread.join()
    db.rollback()


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_an_empty_transaction_sends_nothing(db: BatchingConnection, end: str) -> None:
    db.begin()
    db.flush()
    # The server is gone, so sending would raise an error.
    with closing(psycopg2.connect(db.dsn)) as operator:
        execute(operator, "SELECT pg_terminate_backend(%s, 5000)", db.info.backend_pid)
    getattr(db, end)()
    assert db.waiting == []


@pytest.mark.parametrize("sent_by", ["fetch", "cursor", "flush", "commit"])
def test_every_way_to_send_raises_the_errors_of_the_waiting_statements(
    db: BatchingConnection, sent_by: str
) -> None:
    def fetch() -> str:
        return notes(db)

    db.begin()
    add(db, "a", "a")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        (fetch if sent_by == "fetch" else getattr(db, sent_by))()
    db.rollback()
    assert notes(db) == ""


def test_a_failed_prepare_is_tried_again(db: BatchingConnection, other: Connection) -> None:
    db.begin()
    add(db, "a")
    for _ in range(2):
        with pytest.raises(psycopg2.errors.UndefinedTable):
            repositories.fetch(db, "SELECT text FROM later", [])
    db.rollback()
    execute(other, "CREATE TABLE later (text text)")
    assert repositories.fetch(db, "SELECT text FROM later", []) == []
    assert notes(other) == ""


def test_a_statement_that_a_rolled_back_transaction_prepared_can_be_executed(
    db: BatchingConnection, other: Connection
) -> None:
    db.begin()
    assert notes(db) == ""
    add(db, "a")
    db.flush()
    db.rollback()
    add(db, "b")
    assert notes(db) == "b"
    assert notes(other) == "b"


def test_a_connection_is_closed_after_an_error_that_only_a_new_connection_avoids(
    db: BatchingConnection, other: Connection
) -> None:
    assert notes(db) == ""
    execute(other, "ALTER TABLE notes ALTER COLUMN text TYPE varchar(100)")
    with pytest.raises(psycopg2.errors.FeatureNotSupported):
        notes(db)
    assert db.closed


def test_a_connection_to_a_read_only_server_is_closed(db: BatchingConnection) -> None:
    execute(db, "SET default_transaction_read_only = on")
    add(db, "a")
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        db.flush()
    assert db.closed
    with pytest.raises(psycopg2.InterfaceError):
        db.rollback()
