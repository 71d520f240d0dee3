"""Connections to PostgreSQL, and those that are kept between requests."""

import select
import time
from collections import deque
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import parse_dsn

CONNECTION_OK = 0
"""libpq's ConnStatusType, for which psycopg2 has no name."""

CONNECT_TIMEOUT = 2
"""Seconds; as little as libpq allows."""

KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Whoever is gone without a word is given up after some ten seconds (libpq's documentation)."""


def connect(url: str, options: str = "") -> Connection:
    """Open a connection; raises psycopg2.OperationalError when PostgreSQL does not answer.

    options: settings of its session, as on PostgreSQL's command line; the URL may have more.
    """
    connection: Connection = psycopg2.connect(
        url,
        connect_timeout=CONNECT_TIMEOUT,
        fallback_application_name="hello_login",
        options=f"{parse_dsn(url).get('options', '')} {options}",
        **KEEPALIVE,
    )
    return connection


def wait(url: str, seconds: float) -> None:
    """Return when PostgreSQL answers a query.

    Raises SystemExit with a sentence when it has not within so many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection = connect(url)
        except psycopg2.OperationalError as error:
            if time.monotonic() >= deadline:
                reason = str(error).strip().splitlines()[0]
                raise SystemExit(
                    f"PostgreSQL does not answer: {reason}: start it, or correct DATABASE_URL."
                ) from None
            time.sleep(0.2)
        else:
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
            finally:
                connection.close()
            return


class ConnectionPool:
    """Connections kept open between requests: as many as were ever in use at once, which is never
    more than the server has threads."""

    def __init__(self, url: str, options: str = "") -> None:
        self.url = url
        self._options = options
        self._idle: deque[Connection] = deque()
        self._next_try = 0.0

    def acquire(self) -> Connection:
        """A connection in no transaction; raises psycopg2.OperationalError when there is none."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if _is_alive(connection):
                return connection
            connection.close()
        started = time.monotonic()
        if started < self._next_try:
            raise psycopg2.OperationalError("PostgreSQL did not answer a moment ago")
        try:
            return connect(self.url, self._options)
        except psycopg2.OperationalError:
            # Not all threads are to wait for what does not answer at all.
            if time.monotonic() - started >= 1:
                self._next_try = time.monotonic() + 1
            raise

    def release(self, connection: Connection) -> None:
        """Take back a connection in no transaction."""
        if not is_broken(connection):
            self._idle.append(connection)


def _is_alive(connection: Connection) -> bool:
    """Whether the server still holds its end.

    PostgreSQL speaks first only to end a connection: so there is something to read, or an end of
    file, only when it has gone.
    """
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return not poll.poll(0)


def is_broken(connection: Connection) -> bool:
    """Whether libpq has found out that the server is gone; psycopg2 does not always note that."""
    return bool(connection.closed) or connection.info.status != CONNECTION_OK
