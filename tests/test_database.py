"""request.db: connections, and the request's transaction."""

import socket
import time
from typing import Any

import psycopg2
import pytest
import transaction
from psycopg2.extensions import STATUS_READY
from psycopg2.extensions import connection as Connection

from hello_login import database
from tests.conftest import NewDatabase


@pytest.fixture
def pool(new_database: NewDatabase) -> database.ConnectionPool:
    """The pool of a database of the test's own, with one empty table: notes."""
    pool = database.ConnectionPool(new_database())
    connection = pool.acquire()
    execute(connection, "CREATE TABLE notes (text text)")
    connection.commit()
    pool.release(connection)
    return pool


@pytest.fixture
def manager() -> transaction.TransactionManager:
    """As pyramid_tm makes one for each request."""
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    return manager


def join(manager: transaction.TransactionManager, pool: database.ConnectionPool) -> Connection:
    joined = database.ConnectionDataManager(manager, pool)
    manager.get().join(joined)
    return joined.connection


def execute(connection: Connection, statement: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def notes(pool: database.ConnectionPool) -> list[Any]:
    connection = psycopg2.connect(pool.url)
    try:
        return execute(connection, "SELECT text FROM notes")
    finally:
        connection.close()


def end_of(connection: Connection) -> None:
    """End a connection from the server's side, as a restart does."""
    other = psycopg2.connect(connection.dsn)
    pid = connection.info.backend_pid
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    other.close()


def test_what_a_request_writes_is_there_when_its_transaction_is_committed(
    pool: database.ConnectionPool, manager: transaction.TransactionManager
) -> None:
    execute(join(manager, pool), "INSERT INTO notes VALUES ('hello')")
    assert notes(pool) == []
    manager.commit()
    assert notes(pool) == [("hello",)]


def test_what_a_request_writes_is_gone_when_its_transaction_is_aborted(
    pool: database.ConnectionPool, manager: transaction.TransactionManager
) -> None:
    execute(join(manager, pool), "INSERT INTO notes VALUES ('hello')")
    manager.abort()
    assert notes(pool) == []


def test_a_commit_that_postgresql_refuses_is_an_error_and_writes_nothing(
    pool: database.ConnectionPool, manager: transaction.TransactionManager
) -> None:
    connection = join(manager, pool)
    execute(
        connection, "CREATE TABLE unique_notes (text text UNIQUE DEFERRABLE INITIALLY DEFERRED)"
    )
    execute(connection, "INSERT INTO unique_notes VALUES ('a'), ('a')")
    execute(connection, "INSERT INTO notes VALUES ('hello')")
    with pytest.raises(psycopg2.IntegrityError):
        manager.commit()
    manager.abort()
    assert notes(pool) == []
    assert pool.acquire().status == STATUS_READY


@pytest.mark.parametrize("finish", ["commit", "abort"])
def test_a_connection_is_used_again_by_the_next_request(
    pool: database.ConnectionPool, manager: transaction.TransactionManager, finish: str
) -> None:
    first = join(manager, pool)
    getattr(manager, finish)()
    manager.begin()
    second = join(manager, pool)
    manager.abort()
    assert second is first


def test_requests_at_the_same_time_have_connections_of_their_own(
    pool: database.ConnectionPool,
) -> None:
    assert pool.acquire() is not pool.acquire()


def test_a_connection_that_the_server_ended_while_idle_is_replaced(
    pool: database.ConnectionPool,
) -> None:
    connection = pool.acquire()
    pool.release(connection)
    end_of(connection)
    replaced = pool.acquire()
    assert replaced is not connection
    assert execute(replaced, "SELECT 1") == [(1,)]
    assert connection.closed


def test_a_connection_that_the_server_ended_in_use_is_not_kept(
    pool: database.ConnectionPool, manager: transaction.TransactionManager
) -> None:
    connection = join(manager, pool)
    end_of(connection)
    with pytest.raises(psycopg2.OperationalError):
        execute(connection, "SELECT 1")
    manager.abort()
    assert pool.acquire() is not connection


def test_a_connection_that_broke_unnoticed_does_not_break_the_abort(
    pool: database.ConnectionPool, manager: transaction.TransactionManager
) -> None:
    connection = join(manager, pool)
    execute(connection, "SELECT 1")
    end_of(connection)
    manager.abort()
    assert connection.closed


def test_another_thread_may_take_the_last_connection_first(pool: database.ConnectionPool) -> None:
    class Emptied(list[Connection]):
        """An idle list that looks full and is empty, as it is to the slower of two threads."""

        def __bool__(self) -> bool:
            return True

    pool._idle = Emptied()  # type: ignore[assignment]
    assert execute(pool.acquire(), "SELECT 1") == [(1,)]


def test_waiting_ends_when_postgresql_answers(database_url: str) -> None:
    database.wait(database_url, 0)


def test_waiting_in_vain_ends_in_a_sentence_after_the_time_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(SystemExit, match=r"^PostgreSQL does not answer: .*: start it, or correct"):
        database.wait(f"postgresql://ada:pa55@127.0.0.1:{port}/app", 0.5)
    assert time.monotonic() - started >= 0.5
