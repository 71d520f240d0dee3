"""Connections, and those that are kept."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from hello_login.db import connections
from hello_login.db.connections import ConnectionPool
from tests.conftest import NewDatabase


@pytest.fixture(scope="module")
def superuser(server_url: str) -> Iterator[Connection]:
    """A connection that may do everything."""
    with closing(psycopg2.connect(server_url)) as connection:
        connection.autocommit = True
        yield connection


def do(db: Connection, statement: str) -> list[tuple[str, ...]]:
    with db.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


Locate = Callable[..., str]


@pytest.fixture(scope="module")
def locate(superuser: Connection, server_url: str) -> Iterator[Locate]:
    """Makes URLs of a server where ada needs a password, and others may do little."""
    do(
        superuser,
        """
        CREATE ROLE ada LOGIN PASSWORD 'right';
        CREATE ROLE grace LOGIN;
        CREATE ROLE katherine;
        CREATE ROLE mary LOGIN CONNECTION LIMIT 0;
        """,
    )
    do(superuser, "CREATE DATABASE closed")
    do(superuser, "REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
    hba = Path(do(superuser, "SHOW hba_file")[0][0])
    rules = hba.read_text()
    hba.write_text(f"local all ada scram-sha-256\nlocal nowhere_else,closed grace trust\n{rules}")

    def make(user: str, password: str = "", name: str = "postgres") -> str:
        url = server_url.replace("postgres@", f"{user}:{password}@")
        return url.replace("/postgres?", f"/{name}?")

    do(superuser, "SELECT pg_reload_conf()")
    for _ in range(200):  # until the rules hold
        try:
            psycopg2.connect(make("ada", "wrong")).close()
        except psycopg2.OperationalError:
            break
        time.sleep(0.05)
    yield make
    hba.write_text(rules)
    do(superuser, "SELECT pg_reload_conf()")
    do(superuser, "DROP DATABASE closed")
    do(superuser, "DROP ROLE ada, grace, katherine, mary")


def test_another_thread_may_take_the_last_connection_first(database_url: str) -> None:
    pool = ConnectionPool(database_url)

    class Emptied(list[Connection]):
        """An idle list that looks full and is empty, as it is to the slower of two threads."""

        def __bool__(self) -> bool:
            return True

    pool._idle = Emptied()  # type: ignore[assignment]
    connection = pool.acquire()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    connection.close()


def test_waiting_ends_when_postgresql_answers(database_url: str) -> None:
    connections.wait(database_url, 0)


def test_waiting_in_vain_ends_in_a_sentence_after_the_time_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(SystemExit, match=r"^PostgreSQL does not answer: .*: start it, or correct"):
        connections.wait(f"postgresql://ada:pa55@127.0.0.1:{port}/app", 0.5)
    assert time.monotonic() - started >= 0.5


@pytest.mark.parametrize(
    ("user", "password", "name", "remedy"),
    [
        ("ada", "wr0ng", "postgres", "correct the user and the password in DATABASE_URL."),
        ("ada", "", "postgres", "correct the user and the password in DATABASE_URL."),
        ("nobody_here", "wr0ng", "postgres", "correct the user and the password in DATABASE_URL."),
        ("ada", "right", "nowhere", "create the database, or correct its name in DATABASE_URL."),
        ("grace", "wr0ng", "closed", "allow it in PostgreSQL, or correct DATABASE_URL."),
        ("katherine", "wr0ng", "postgres", "allow it in PostgreSQL, or correct DATABASE_URL."),
    ],
)
def test_waiting_ends_at_once_when_postgresql_refuses_the_url_and_says_what_to_correct(
    locate: Locate,
    monkeypatch: pytest.MonkeyPatch,
    user: str,
    password: str,
    name: str,
    remedy: str,
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(SystemExit, match=r"^PostgreSQL refuses DATABASE_URL: ") as end:
        connections.wait(locate(user, password, name), 60)
    assert str(end.value).endswith(f": {remedy}")
    assert "wr0ng" not in str(end.value)
    assert "\n" not in str(end.value)


def test_waiting_goes_on_while_postgresql_lets_nobody_else_in(
    locate: Locate, superuser: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"^PostgreSQL is not ready: .*: wait, or correct"):
        connections.wait(locate("mary"), 0)

    def admit(_: float) -> None:
        do(superuser, "ALTER ROLE mary CONNECTION LIMIT -1")

    monkeypatch.setattr(time, "sleep", admit)
    connections.wait(locate("mary"), 60)


def test_a_server_that_takes_no_writes_is_refused_unless_the_url_asks_for_any(
    new_database: NewDatabase, superuser: Connection
) -> None:
    url = new_database()
    name = re.findall(r"/(\w+)\?", url)[0]
    do(superuser, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(connections.ReadOnly, match="name the primary in DATABASE_URL, or promote"):
        connections.connect(url)
    connections.connect(f"{url}&target_session_attrs=any").close()


def test_a_connection_that_breaks_when_it_is_checked_is_told_in_a_sentence(
    database_url: str, superuser: Connection
) -> None:
    """A pooler accepts connections though PostgreSQL is away."""
    with closing(connections.connect(database_url)) as connection:
        do(superuser, f"SELECT pg_terminate_backend({connection.info.backend_pid}, 5000)")
        with pytest.raises(
            psycopg2.OperationalError, match=r"^PostgreSQL does not answer: .*: start it, or corr"
        ):
            connections.check_writable(connection)


def test_threads_do_not_queue_for_what_does_not_answer_at_all(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def time_out(*_: object) -> None:
        asked.append(clock[0])
        clock[0] += 2
        raise psycopg2.OperationalError("timeout expired")

    clock = [100.0]
    pool = ConnectionPool(database_url)
    with monkeypatch.context() as patch:
        patch.setattr(connections, "connect", time_out)
        patch.setattr(time, "monotonic", lambda: clock[0])
        for later in (0, 0.9, 0.2):
            clock[0] += later
            with pytest.raises(psycopg2.OperationalError):
                pool.acquire()
        assert asked == pytest.approx([100, 103.1])
    pool.acquire().close()


def test_a_refused_connection_is_tried_again_by_the_next_request(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ConnectionPool(database_url)

    def refuse(*_: object) -> None:
        raise psycopg2.OperationalError("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(connections, "connect", refuse)
        with pytest.raises(psycopg2.OperationalError):
            pool.acquire()
    pool.acquire().close()


def test_a_connection_has_the_urls_options_and_the_settings(database_url: str) -> None:
    url = f"{database_url}&options=-c%20work_mem%3D5MB"
    connection = connections.connect(url, "-c statement_timeout=7s")
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('work_mem'), current_setting('statement_timeout')")
        assert cursor.fetchone() == ("5MB", "7s")
    connection.close()


@pytest.mark.parametrize(
    ("url_options", "options", "sent"),
    [("", "", False), ("", "-c work_mem=5MB", True), ("&options=-cwork_mem%3D5MB", "", True)],
)
def test_options_are_sent_only_where_there_are_some(
    url_options: str, options: str, *, sent: bool
) -> None:
    """PgBouncer refuses them, blank or not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"postgresql://ada@127.0.0.1:{listener.getsockname()[1]}/app"
        url += f"?sslmode=disable&gssencmode=disable{url_options}"
        startup = []

        def listen() -> None:
            with listener.accept()[0] as accepted:
                startup.append(accepted.recv(4096))

        listening = threading.Thread(target=listen)
        listening.start()
        with pytest.raises(psycopg2.OperationalError):
            connections.connect(url, options)
        listening.join()
    assert b"\0user\0ada\0" in startup[0]
    assert (b"\0options\0" in startup[0]) is sent
