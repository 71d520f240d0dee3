"""Connections to PostgreSQL, and a pool that keeps them open between requests."""

import re
import select
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, cast

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import parse_dsn

from .batching import BatchingConnection
from .standbys import is_broken

COMMON_PARAMETERS: dict[str, Any] = {
    "fallback_application_name": "hello_login",
    "connect_timeout": 2,  # seconds; libpq allows no less
    # These detect a lost connection after about ten seconds.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""libpq's parameters of every connection."""

PERMANENT_ERRORS = {
    "authentication failed|no password supplied|role .* does not exist": (
        "correct the user and the password in DATABASE_URL"
    ),
    "database .* does not exist|no such database": (
        "create the database, or correct its name in DATABASE_URL"
    ),
    r"no pg_hba\.conf entry|permission denied|not permitted to log in": (
        "allow it in PostgreSQL, or correct DATABASE_URL"
    ),
    "^invalid ": "correct this value in DATABASE_URL",
    "unsupported startup parameter": (
        "let the pooler pass it on or ignore it (PgBouncer's ignore_startup_parameters), or set "
        "DATABASE_POOLER=transaction"
    ),
}
"""Patterns of messages about a lasting refusal, each with its remedy.

The messages are those of PostgreSQL, of PgBouncer, and of libpq about a value before it connects.
psycopg2 has no SQLSTATE for a connection that failed.  Messages in another language than English
(lc_messages) are not recognized, and count as temporary.
"""

READ_ONLY_MESSAGES = "session is read-only|server is in hot standby mode"
"""Pattern of libpq's messages about a server that does not satisfy target_session_attrs."""


class Refused(psycopg2.OperationalError):
    """PostgreSQL answers but refuses DATABASE_URL; a retry would not help."""


class ReadOnly(psycopg2.OperationalError):
    """PostgreSQL answers but takes no writes: it is a standby or a demoted primary."""


def parameters(url: str) -> dict[str, str]:
    """Return libpq's parameters of a URL; by default they ask for a server that takes writes."""
    return {"target_session_attrs": "read-write", **parse_dsn(url)}


def connect(url: str, options: str = "", factory: type[Connection] = Connection) -> Connection:
    """Open a connection.

    options: options of PostgreSQL's command line, added to those of the URL.
    factory: the class of the connection.
    Raises psycopg2.OperationalError, or its subclasses Refused and ReadOnly, with a sentence that
    names the failure and its remedy.
    """
    arguments = parameters(url) | COMMON_PARAMETERS
    # PgBouncer refuses even empty options.  psycopg2 leaves None out.
    arguments["options"] = f"{arguments.get('options', '')} {options}".strip() or None
    try:
        return psycopg2.connect(**arguments, connection_factory=factory)
    except psycopg2.OperationalError as error:
        raise _make_error(str(error)) from None


def _make_error(message: str) -> psycopg2.OperationalError:
    """Return the error to raise for libpq's message, which has a line for each address it tried."""
    for line in message.strip().splitlines():
        for pattern, remedy in PERMANENT_ERRORS.items():
            if re.search(pattern, line):
                return Refused(f"PostgreSQL refuses DATABASE_URL: {line}: {remedy}.")
        if re.search(READ_ONLY_MESSAGES, line):
            return ReadOnly(
                f"PostgreSQL takes no writes: {line}: name the primary in DATABASE_URL, or "
                "promote this server."
            )
    reason = message.strip().partition("\n")[0]
    # In every language, libpq puts two blanks after the severity of a server's message.
    if ":  " in reason:
        sentence = f"PostgreSQL is not ready: {reason}: wait, or correct DATABASE_URL."
    else:
        sentence = f"PostgreSQL does not answer: {reason}: start it, or correct DATABASE_URL."
    return psycopg2.OperationalError(sentence)


def check_writable(connection: Connection) -> None:
    """Raise ReadOnly and close the connection if the server takes no writes.

    libpq may not notice it: PgBouncer reports the state that the server had when it connected.
    Raises psycopg2.OperationalError if the connection is lost.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_read_only")
            read_only = cursor.fetchone() == ("on",)
    except psycopg2.OperationalError as error:
        raise _make_error(str(error)) from None
    if read_only:
        connection.close()
        raise _make_error("session is read-only")


def wait(url: str, seconds: float, variable: str = "DATABASE_URL") -> None:
    """Wait until PostgreSQL takes writes.

    variable: where the URL comes from.
    Raises SystemExit with a sentence when the time is over, or when PostgreSQL refuses the URL.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            with closing(connect(url)) as connection:
                check_writable(connection)
                return
        except psycopg2.OperationalError as error:
            if isinstance(error, Refused) or time.monotonic() >= deadline:
                raise SystemExit(str(error).replace("DATABASE_URL", variable)) from None
            time.sleep(0.2)


class ConnectionPool:
    """Keeps connections open between requests.

    It grows to the number that was in use at once, at most the number of the server's threads.
    prepares: whether its connections prepare statements.
    """

    def __init__(self, url: str, options: str = "", *, prepares: bool = True) -> None:
        self.url = url
        self._options = options
        self._prepares = prepares
        self._idle: deque[BatchingConnection] = deque()
        self._lent: set[BatchingConnection] = set()
        self._next_try = 0.0

    def count_lent(self) -> int:
        """Return the number of connections in use."""
        return len(self._lent)

    def acquire(self) -> BatchingConnection:
        """Return a connection in autocommit mode.

        Raises psycopg2.OperationalError if PostgreSQL is unavailable.
        """
        connection = self._find_or_open()
        self._lent.add(connection)
        return connection

    def _find_or_open(self) -> BatchingConnection:
        """Return an idle connection, or a new one.  Raises psycopg2.OperationalError."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # Another thread was faster.
                break
            if _is_alive(connection):
                return connection
            connection.close()
        started = time.monotonic()
        if started < self._next_try:
            raise psycopg2.OperationalError("PostgreSQL did not answer a moment ago")
        try:
            new = cast(BatchingConnection, connect(self.url, self._options, BatchingConnection))
            new.autocommit = True
            if not self._prepares:
                new.prepared = None
            return new
        except psycopg2.OperationalError:
            # Only one thread should wait for a server that does not answer.
            if time.monotonic() - started >= 1:
                self._next_try = time.monotonic() + 1
            raise

    @contextmanager
    def autocommit(self) -> Iterator[BatchingConnection]:
        """Lend a connection without a transaction."""
        connection = self.acquire()
        try:
            yield connection
            connection.flush()
        finally:
            self.release(connection)

    def release(self, connection: BatchingConnection) -> None:
        """Take back a connection, which must be outside a transaction; drop waiting statements."""
        connection.waiting = []
        self._lent.discard(connection)
        if not is_broken(connection):
            self._idle.append(connection)


def _is_alive(connection: Connection) -> bool:
    """Return whether the server still holds an idle connection.

    PostgreSQL sends on an idle connection only to end it.  So there is something to read, or an end
    of file, only if the server is gone.
    """
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return not poll.poll(0)
