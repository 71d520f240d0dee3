"""Connections to PostgreSQL, and those that are kept between requests."""

import re
import select
import time
from collections import deque
from contextlib import closing
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
"""Give a lost connection up after some ten seconds (libpq's documentation)."""

REFUSALS = {
    "authentication failed|no password supplied|role .* does not exist": (
        "correct the user and the password in DATABASE_URL"
    ),
    "database .* does not exist|no such database": (
        "create the database, or correct its name in DATABASE_URL"
    ),
    r"no pg_hba\.conf entry|permission denied|not permitted to log in": (
        "allow it in PostgreSQL, or correct DATABASE_URL"
    ),
    "unsupported startup parameter": (
        "let the pooler pass it on, or ignore it (PgBouncer's ignore_startup_parameters)"
    ),
}
"""What PostgreSQL and PgBouncer say when waiting can't help, each with its remedy.

psycopg2 has no SQLSTATE for a connection that failed, so their messages have to tell.  Messages in
another language than English (lc_messages) are not recognized: they count as temporary.
"""

READ_ONLY = "session is read-only|server is in hot standby mode"
"""libpq's words for a server that does not satisfy target_session_attrs."""


class Refused(psycopg2.OperationalError):
    """PostgreSQL answers, and refuses DATABASE_URL, as it will the next time."""


class ReadOnly(psycopg2.OperationalError):
    """PostgreSQL answers, and takes no writes: a standby, or a primary that was demoted."""


def parameters(url: str) -> dict[str, str]:
    """Return libpq's parameters of a URL, which asks for a server that takes writes by default."""
    return {"target_session_attrs": "read-write", **parse_dsn(url)}


def connect(url: str, options: str = "") -> Connection:
    """Open a connection.

    options: settings of its session, as on PostgreSQL's command line; the URL may have more.
    Raises psycopg2.OperationalError, or its subclasses Refused and ReadOnly, with a sentence that
    says what is wrong and what to do.
    """
    given: dict[str, Any] = parameters(url)
    # PgBouncer refuses blank ones, too.
    options = f"{given.pop('options', '')} {options}".strip()
    if options:
        given["options"] = options
    given |= {
        "connect_timeout": CONNECT_TIMEOUT,
        "fallback_application_name": "hello_login",
        **KEEPALIVE,
    }
    try:
        connection: Connection = psycopg2.connect(**given)
    except psycopg2.OperationalError as error:
        raise _explain(str(error)) from None
    return connection


def _explain(message: str) -> psycopg2.OperationalError:
    """Return the error to raise for libpq's message, which has a line for each address it tried."""
    for line in message.strip().splitlines():
        for words, remedy in REFUSALS.items():
            if re.search(words, line):
                return Refused(f"PostgreSQL refuses DATABASE_URL: {line}: {remedy}.")
        if re.search(READ_ONLY, line):
            return ReadOnly(
                f"PostgreSQL takes no writes: {line}: name the primary in DATABASE_URL, or "
                "promote this server."
            )
    reason = message.strip().partition("\n")[0]
    # libpq puts two blanks after the severity of what a server says, in whatever language.
    if ":  " in reason:
        sentence = f"PostgreSQL is not ready: {reason}: wait, or correct DATABASE_URL."
    else:
        sentence = f"PostgreSQL does not answer: {reason}: start it, or correct DATABASE_URL."
    return psycopg2.OperationalError(sentence)


def check_writable(connection: Connection) -> None:
    """Return if the server takes writes; otherwise raise as connect() does.

    libpq may not know: PgBouncer reports the state in which it found the server when it connected.
    A connection to a server that takes none is closed.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_read_only")
            read_only = cursor.fetchone() == ("on",)
    except psycopg2.OperationalError as error:
        raise _explain(str(error)) from None
    if read_only:
        connection.close()
        raise _explain("session is read-only")


def wait(url: str, seconds: float) -> None:
    """Return when PostgreSQL takes writes.

    Raises SystemExit with a sentence when it does not within these seconds, or refuses the URL.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            with closing(connect(url)) as connection:
                check_writable(connection)
        except psycopg2.OperationalError as error:
            if isinstance(error, Refused) or time.monotonic() >= deadline:
                raise SystemExit(str(error)) from None
            time.sleep(0.2)
        else:
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
