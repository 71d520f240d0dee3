"""request.db: connections, and the request's transaction."""

from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import transaction
import webtest
from psycopg2.extensions import STATUS_READY
from psycopg2.extensions import connection as Connection
from pyramid.request import apply_request_extensions

import hello_login
from hello_login import settings
from hello_login.db import connections, transactions
from tests.conftest import MakeIni, NewDatabase
from tests.people import register
from tests.rows import execute


@pytest.fixture
def pool(new_database: NewDatabase) -> connections.ConnectionPool:
    """Return the pool of a new database with one empty table: notes."""
    pool = connections.ConnectionPool(new_database())
    connection = pool.acquire()
    execute(connection, "CREATE TABLE notes (text text)")
    connection.commit()
    pool.release(connection)
    return pool


@pytest.fixture
def manager() -> transaction.TransactionManager:
    """Return a transaction manager like the one that pyramid_tm makes for each request."""
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    return manager


def join(manager: transaction.TransactionManager, pool: connections.ConnectionPool) -> Connection:
    joined = transactions.ConnectionDataManager(manager, pool, autocommit=False)
    manager.get().join(joined)
    return joined.connection


def test_transactions_are_read_committed_even_if_the_database_has_another_default(
    ini: MakeIni, new_database: NewDatabase
) -> None:
    url = new_database()
    with closing(psycopg2.connect(url)) as connection:
        name = connection.info.dbname
        execute(
            connection,
            f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'",
        )
        connection.commit()
    options = transactions._options(settings.load({}, ini(), {}))
    connection = connections.ConnectionPool(url, options).acquire()
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        assert cursor.fetchone() == ("read committed",)


def notes(pool: connections.ConnectionPool) -> list[Any]:
    connection = psycopg2.connect(pool.url)
    try:
        return execute(connection, "SELECT text FROM notes")
    finally:
        connection.close()


def terminate(connection: Connection) -> None:
    """Terminate the connection on the server, as a restart does."""
    other = psycopg2.connect(connection.dsn)
    pid = connection.info.backend_pid
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    other.close()


def test_a_commit_keeps_what_the_request_wrote(
    pool: connections.ConnectionPool, manager: transaction.TransactionManager
) -> None:
    execute(join(manager, pool), "INSERT INTO notes VALUES ('hello')")
    assert notes(pool) == []
    manager.commit()
    assert notes(pool) == [("hello",)]


def test_an_abort_discards_what_the_request_wrote(
    pool: connections.ConnectionPool, manager: transaction.TransactionManager
) -> None:
    execute(join(manager, pool), "INSERT INTO notes VALUES ('hello')")
    manager.abort()
    assert notes(pool) == []


def test_a_commit_that_postgresql_refuses_raises_an_error_and_writes_nothing(
    pool: connections.ConnectionPool, manager: transaction.TransactionManager
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
def test_the_next_request_reuses_the_connection(
    pool: connections.ConnectionPool, manager: transaction.TransactionManager, finish: str
) -> None:
    first = join(manager, pool)
    getattr(manager, finish)()
    manager.begin()
    second = join(manager, pool)
    manager.abort()
    assert second is first


def test_concurrent_requests_have_separate_connections(
    pool: connections.ConnectionPool,
) -> None:
    assert pool.acquire() is not pool.acquire()


def test_a_connection_that_the_server_ended_while_idle_is_replaced(
    pool: connections.ConnectionPool,
) -> None:
    connection = pool.acquire()
    pool.release(connection)
    terminate(connection)
    replaced = pool.acquire()
    assert replaced is not connection
    assert execute(replaced, "SELECT 1") == [(1,)]
    assert connection.closed


def test_a_connection_that_the_server_ended_in_use_is_not_reused(
    pool: connections.ConnectionPool, manager: transaction.TransactionManager
) -> None:
    connection = join(manager, pool)
    terminate(connection)
    with pytest.raises(psycopg2.OperationalError):
        execute(connection, "SELECT 1")
    manager.abort()
    assert pool.acquire() is not connection


def test_a_connection_that_broke_unnoticed_does_not_break_the_abort(
    pool: connections.ConnectionPool, manager: transaction.TransactionManager
) -> None:
    connection = join(manager, pool)
    execute(connection, "SELECT 1")
    terminate(connection)
    manager.abort()
    assert connection.closed


def test_a_usable_database_is_not_reported_at_start(
    ini: MakeIni, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    transactions.check_at_start(settings.load({}, ini(), {}), "my.ini")
    assert caplog.messages == []


def test_a_database_without_tables_is_reported_at_start_with_the_remedy(
    ini: MakeIni, new_database: NewDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    transactions.check_at_start(settings.load({}, ini(database_url=new_database()), {}), "my.ini")
    assert [(each.levelname, each.message) for each in caplog.records] == [
        ("ERROR", "The schema is out of date: run initialize_db my.ini")
    ]


@pytest.mark.parametrize("attributes", ["read-write", "any"])
def test_a_read_only_database_is_reported_at_start(
    ini: MakeIni, url: str, caplog: pytest.LogCaptureFixture, attributes: str
) -> None:
    with closing(psycopg2.connect(url)) as operator:
        operator.autocommit = True
        execute(
            operator,
            f"ALTER DATABASE {operator.info.dbname} SET default_transaction_read_only = on",
        )
    database_url = f"{url}&target_session_attrs={attributes}"
    transactions.check_at_start(settings.load({}, ini(database_url=database_url), {}), "my.ini")
    ((level, message),) = [(each.levelname, each.message) for each in caplog.records]
    assert level == "WARNING"
    assert message.startswith("PostgreSQL takes no writes: ")


def test_a_schema_without_read_permission_is_reported_at_start(
    ini: MakeIni, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(psycopg2.connect(url)) as operator:
        operator.autocommit = True
        execute(operator, "CREATE ROLE linus LOGIN")
        try:
            database_url = url.replace("postgres@", "linus@")
            transactions.check_at_start(
                settings.load({}, ini(database_url=database_url), {}), "my.ini"
            )
        finally:
            execute(operator, "DROP ROLE linus")
    (message,) = caplog.messages
    assert message.startswith("The schema can't be read: permission denied for table ")
    assert message.endswith(": let this user read it")


def test_the_development_database_is_not_checked_before_it_is_started(
    ini: MakeIni, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    development = ini(embedded_postgres=str(folder / ".postgres"))
    del development["hello_login.database_url"]
    transactions.check_at_start(settings.load({}, development, {}), "development.ini")
    assert caplog.messages == []
    assert not (folder / ".postgres").exists()


def test_a_request_never_holds_two_connections(app: Any, db: Connection) -> None:
    request = app.request_factory.blank("/", {transactions.ENVIRON_KEY: db})
    request.registry = app.registry
    apply_request_extensions(request)
    with request.autocommit() as before:
        assert before is request.db
    with pytest.raises(RuntimeError, match="has begun"), request.autocommit():
        pass


def test_a_role_without_the_timeouts_is_reported_at_start_where_sessions_are_shared(
    ini: MakeIni, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    checked = settings.load({}, ini(database_url=url, database_pooler="transaction"), {})
    transactions.check_at_start(checked, "my.ini")
    ((level, message),) = [(each.levelname, each.message) for each in caplog.records]
    assert level == "WARNING"
    place = f'ALTER ROLE "postgres" IN DATABASE "{psycopg2.extensions.parse_dsn(url)["dbname"]}"'
    timeouts = f"{place} SET statement_timeout TO '5000'; {place} SET lock_timeout TO '2000';"
    assert f": run {timeouts} and let the pooler connect anew" in message
    with closing(psycopg2.connect(url)) as operator:
        execute(operator, timeouts)
        operator.commit()
    caplog.clear()
    transactions.check_at_start(checked, "my.ini")
    assert caplog.messages == []


def test_a_site_whose_connections_share_sessions_prepares_no_statement(
    ini: MakeIni, url: str
) -> None:
    site: Any = hello_login.main({}, **ini(database_url=url, database_pooler="transaction"))
    register(webtest.TestApp(site, {"HTTP_HOST": "localhost", "HTTP_ACCEPT": "text/html"}))
    with closing(site.registry.pool.acquire()) as connection:
        assert execute(connection, "SELECT name FROM pg_prepared_statements") == []
