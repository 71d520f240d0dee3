"""Connections, and those that are kept."""

import socket
import time

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from hello_login import connections
from hello_login.connections import ConnectionPool


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
