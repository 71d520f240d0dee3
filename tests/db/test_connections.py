"""Database connections and their pool."""

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
from tests.conftest import NewDatabase, replace_time
from tests.rows import execute


@pytest.fixture(scope="module")
def superuser(server_url: str) -> Iterator[Connection]:
    """Yield a connection of the superuser."""
    with closing(psycopg2.connect(server_url)) as connection:
        connection.autocommit = True
        yield connection


MakeUrl = Callable[..., str]


@pytest.fixture(scope="module")
def make_url(superuser: Connection, server_url: str) -> Iterator[MakeUrl]:
    """Return a function that makes URLs: ada needs a password, the other roles lack a privilege."""
    execute(
        superuser,
        """
        CREATE ROLE ada LOGIN PASSWORD 'right';
        CREATE ROLE grace LOGIN;
        CREATE ROLE katherine;
        CREATE ROLE mary LOGIN CONNECTION LIMIT 0;
        """,
    )
    execute(superuser, "CREATE DATABASE closed")
    execute(superuser, "REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
    hba = Path(execute(superuser, "SHOW hba_file")[0][0])
    rules = hba.read_text()
    hba.write_text(f"local all ada scram-sha-256\nlocal nowhere_else,closed grace trust\n{rules}")

    def make(user: str, password: str = "", name: str = "postgres") -> str:
        url = server_url.replace("postgres@", f"{user}:{password}@")
        return url.replace("/postgres?", f"/{name}?")

    execute(superuser, "SELECT pg_reload_conf()")
    for _ in range(200):  # until the new rules apply
        try:
            psycopg2.connect(make("ada", "wrong")).close()
        except psycopg2.OperationalError:
            break
        time.sleep(0.05)
    yield make
    hba.write_text(rules)
    execute(superuser, "SELECT pg_reload_conf()")
    execute(superuser, "DROP DATABASE closed")
    execute(superuser, "DROP ROLE ada, grace, katherine, mary")


def test_a_pool_that_another_thread_emptied_opens_a_connection(database_url: str) -> None:
    pool = ConnectionPool(database_url)

    class Emptied(list[Connection]):
        """An empty list of idle connections that looks filled, as the slower thread sees it."""

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


def test_waiting_ends_after_the_given_time_with_one_sentence() -> None:
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
def test_waiting_ends_at_once_with_advice_if_postgresql_refuses_the_url(
    make_url: MakeUrl,
    monkeypatch: pytest.MonkeyPatch,
    user: str,
    password: str,
    name: str,
    remedy: str,
) -> None:
    replace_time(monkeypatch, connections, sleep=lambda _: pytest.fail("it waits"))
    with pytest.raises(SystemExit, match=r"^PostgreSQL refuses DATABASE_URL: ") as caught:
        connections.wait(make_url(user, password, name), 60)
    assert str(caught.value).endswith(f": {remedy}")
    assert "wr0ng" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("parameter", "reason"),
    [
        ("sslmode=bogus", 'invalid sslmode value: "bogus"'),
        ("target_session_attrs=bogus", 'invalid target_session_attrs value: "bogus"'),
        ("port=99999", 'invalid port number: "99999"'),
    ],
)
def test_waiting_ends_at_once_with_advice_if_libpq_refuses_the_url(
    parameter: str, reason: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        connections.wait(f"postgresql://ada@127.0.0.1/app?{parameter}", 60)
    expected = f"PostgreSQL refuses DATABASE_URL: {reason}: correct this value in DATABASE_URL."
    assert str(caught.value) == expected


def test_waiting_goes_on_while_all_connections_are_in_use(
    make_url: MakeUrl, superuser: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"^PostgreSQL is not ready: .*: wait, or correct"):
        connections.wait(make_url("mary"), 0)

    def allow_connections(_: float) -> None:
        execute(superuser, "ALTER ROLE mary CONNECTION LIMIT -1")

    replace_time(monkeypatch, connections, sleep=allow_connections)
    connections.wait(make_url("mary"), 60)


def test_a_read_only_server_is_refused_unless_the_url_accepts_any(
    new_database: NewDatabase, superuser: Connection
) -> None:
    url = new_database()
    name = re.findall(r"/(\w+)\?", url)[0]
    execute(superuser, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(connections.ReadOnly, match="name the primary in DATABASE_URL, or promote"):
        connections.connect(url)
    connections.connect(f"{url}&target_session_attrs=any").close()


def test_a_connection_that_breaks_during_its_check_is_reported_in_one_sentence(
    database_url: str, superuser: Connection
) -> None:
    # A pooler accepts connections although PostgreSQL is down.
    with closing(connections.connect(database_url)) as connection:
        execute(superuser, f"SELECT pg_terminate_backend({connection.info.backend_pid}, 5000)")
        with pytest.raises(
            psycopg2.OperationalError, match=r"^PostgreSQL does not answer: .*: start it, or corr"
        ):
            connections.check_writable(connection)


def test_threads_do_not_queue_for_a_server_that_does_not_answer(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def time_out(*_: object) -> None:
        attempts.append(clock[0])
        clock[0] += 2
        raise psycopg2.OperationalError("timeout expired")

    clock = [100.0]
    pool = ConnectionPool(database_url)
    with monkeypatch.context() as patch:
        patch.setattr(connections, "connect", time_out)
        replace_time(patch, connections, monotonic=lambda: clock[0])
        for seconds in (0, 0.9, 0.2):
            clock[0] += seconds
            with pytest.raises(psycopg2.OperationalError):
                pool.acquire()
        assert attempts == pytest.approx([100, 103.1])
    pool.acquire().close()


def test_the_next_request_retries_a_refused_connection(
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


def test_a_connection_has_the_options_of_the_url_and_the_given_ones(database_url: str) -> None:
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
def test_options_are_sent_only_if_there_are_any(
    url_options: str, options: str, *, sent: bool
) -> None:
    # PgBouncer refuses this startup parameter, even if it is empty.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"postgresql://ada@127.0.0.1:{listener.getsockname()[1]}/app"
        url += f"?sslmode=disable&gssencmode=disable{url_options}"
        sent_at_start = []

        def accept() -> None:
            with listener.accept()[0] as accepted:
                sent_at_start.append(accepted.recv(4096))

        accepting = threading.Thread(target=accept)
        accepting.start()
        with pytest.raises(psycopg2.OperationalError):
            connections.connect(url, options)
        accepting.join()
    assert b"\0user\0ada\0" in sent_at_start[0]
    assert (b"\0options\0" in sent_at_start[0]) is sent
