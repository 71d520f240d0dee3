"""Commits that wait for a synchronous standby, which may be gone.

PostgreSQL lets such a commit wait without end, and statement_timeout does not apply to it.  So a
thread of each process gives up a connection that waits too long, and ends its backend.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import psycopg2
from psycopg2.extensions import connection as Connection

COMMIT_TIMEOUT_SECONDS = 10
"""A statement with its commit takes less: this is twice statement_timeout, and the time in which a
lost server is noticed."""

USUAL_SECONDS = 2
"""A commit that waits for longer is a failure: it makes others exceed lock_timeout."""

CONNECTION_OK = 0
"""From libpq's ConnStatusType, which psycopg2 has no name for."""


class NoAnswer(psycopg2.OperationalError):
    """The connection was given up, so it is unknown whether its statement was committed."""

    def __init__(self) -> None:
        super().__init__(
            f"No answer for {COMMIT_TIMEOUT_SECONDS} s: if synchronous_standby_names is set, look "
            "at the standbys"
        )


class Watch:
    """Gives up the connections that have executed a command for too long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[Connection, tuple[float, str]] = {}
        self._thread = threading.Thread()

    def start(self) -> None:
        """Start the thread, unless it runs in this process: a fork has no threads."""
        with self._lock:
            if not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="standbys", daemon=True)
                self._thread.start()

    @contextmanager
    def limited(self, connection: Connection, dsn: str) -> Iterator[None]:
        """Give up the connection if the block takes longer than COMMIT_TIMEOUT_SECONDS.

        dsn: how to connect in order to end the backend of this connection.
        Raises NoAnswer in place of a psycopg2.Error that breaks the connection after this time.
        """
        begun = time.monotonic()
        with self._lock:
            self._begun[connection] = begun, dsn
        try:
            yield
        except psycopg2.Error as error:
            if time.monotonic() - begun >= COMMIT_TIMEOUT_SECONDS and is_broken(connection):
                raise NoAnswer from error
            raise
        finally:
            with self._lock:
                del self._begun[connection]

    def _run(self) -> None:
        while True:
            time.sleep(1)
            for dsn in self._give_up():
                with suppress(psycopg2.Error), closing(psycopg2.connect(dsn)) as connection:
                    end_waiting_commits(connection)

    def _give_up(self) -> set[str]:
        """Break the connections whose time is over, and return their DSNs."""
        # PostgreSQL has begun a little later.  After a second more, the time is over there, too.
        latest = time.monotonic() - COMMIT_TIMEOUT_SECONDS - 1
        with self._lock:  # so that no connection is closed, or used again, meanwhile
            overdue = {each: dsn for each, (begun, dsn) in self._begun.items() if begun <= latest}
            for each in overdue:
                # Not cancel(): it may wait, and psycopg2 keeps all threads waiting with it.
                with suppress(OSError, ValueError, psycopg2.Error):
                    _break(each)
        return set(overdue.values())


watch = Watch()
"""The watch of this process."""


def is_broken(connection: Connection) -> bool:
    """Return whether libpq knows that the server is gone; psycopg2 does not always notice."""
    return bool(connection.closed) or connection.info.status != CONNECTION_OK


def _break(connection: Connection) -> None:
    """Let the thread that waits for an answer see the end of the connection."""
    # libpq may have seen it already: then there is no descriptor, which is a ValueError.
    borrowed = socket.socket(fileno=connection.fileno())
    try:
        borrowed.shutdown(socket.SHUT_RDWR)
    finally:
        borrowed.detach()


def end_waiting_commits(connection: Connection) -> None:
    """End this role's backends that wait for a standby, and that their clients have given up.

    Their commits stay on this server; a standby may lack them.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT pg_terminate_backend(pid)
              FROM pg_stat_activity
             WHERE wait_event = 'SyncRep'
               AND state_change <= now() - make_interval(secs => %s)
               AND usename = current_user
            """,
            [COMMIT_TIMEOUT_SECONDS],
        )


def commits_wait(connection: Connection) -> bool:
    """Return whether commits wait for a standby: one of this role does, or no standby is there.

    It needs no privilege.  So it sees whether standbys are connected, and not which ones.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT EXISTS (SELECT
                             FROM pg_stat_activity
                            WHERE wait_event = 'SyncRep'
                              AND state_change <= now() - make_interval(secs => %s))
                OR (current_setting('synchronous_standby_names') <> ''
                    AND current_setting('synchronous_commit') NOT IN ('off', 'local')
                    AND NOT EXISTS (SELECT FROM pg_stat_replication))
            """,
            [USUAL_SECONDS],
        )
        return cursor.fetchone() == (True,)
