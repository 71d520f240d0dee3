"""request.db: a psycopg2 connection whose transaction is the request's own.

pyramid_tm begins a transaction for each request, commits it when the view returns, and aborts it
when the view raises.  request.db takes a connection from the pool at its first use and joins it.
"""

import logging
import select
import time
from collections import deque
from pathlib import Path
from typing import Any, cast

import psycopg2
import transaction
from psycopg2.extensions import connection as Connection

from . import migrations
from .embedded import EmbeddedPostgres
from .settings import Settings

log = logging.getLogger(__name__)

ENVIRON_KEY = "hello_login.db"
"""A WSGI server never sets it: tests do, so that all requests of a test share its transaction."""

CONNECT_TIMEOUT = 2
"""Seconds; as little as libpq allows."""


def includeme(config: Any) -> None:
    """Add request.tm and request.db, and start the development database where it is asked for."""
    settings: Settings = config.registry.hello_login
    pool = ConnectionPool(locate(settings))
    if settings.database_url is None:
        applied = migrations.migrate(pool.url, settings.migrations)
        log.info("Migrated the development database: %s migrations applied", len(list(applied)))

    def db(request: Any) -> Connection:
        if ENVIRON_KEY in request.environ:
            return cast(Connection, request.environ[ENVIRON_KEY])
        manager = ConnectionDataManager(request.tm, pool)
        request.tm.get().join(manager)
        return manager.connection

    config.add_settings(
        {
            "tm.manager_hook": "pyramid_tm.explicit_manager",
            "tm.annotate_user": False,
            "tm.activate_hook": "hello_login.database.uses_database",
        }
    )
    config.include("pyramid_tm")
    config.add_request_method(db, reify=True)


def locate(settings: Settings) -> str:
    """The database's URL; with none in the settings, start the embedded PostgreSQL."""
    if settings.database_url is not None:
        return settings.database_url
    # settings.load() lets no settings pass that have neither.
    server = EmbeddedPostgres(cast(Path, settings.embedded_postgres))
    url = server.start()
    log.info("DATABASE_URL is unset: embedded PostgreSQL, its data in %s", server.data)
    return url


def uses_database(request: Any) -> bool:
    """False for what touches no data, and so needs no transaction."""
    return not request.environ["PATH_INFO"].startswith(("/static/", "/healthz"))


def connect(url: str) -> Connection:
    """Open a connection; raises psycopg2.OperationalError when PostgreSQL does not answer."""
    return psycopg2.connect(
        url, connect_timeout=CONNECT_TIMEOUT, fallback_application_name="hello_login"
    )


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

    def __init__(self, url: str) -> None:
        self.url = url
        self._idle: deque[Connection] = deque()

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
        return connect(self.url)

    def release(self, connection: Connection) -> None:
        """Take back a connection in no transaction."""
        if not connection.closed:
            self._idle.append(connection)


def _is_alive(connection: Connection) -> bool:
    """Whether the server still holds its end.

    PostgreSQL speaks first only to end a connection: so there is something to read, or an end of
    file, only when it has gone.
    """
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return not poll.poll(0)


class ConnectionDataManager:
    """Makes a pooled connection part of a transaction (transaction.interfaces.IDataManager).

    It commits in tpc_vote, where a failure still aborts everything; tpc_finish must not fail.
    """

    def __init__(self, manager: transaction.TransactionManager, pool: ConnectionPool) -> None:
        self.transaction_manager = manager
        self.connection = pool.acquire()
        self._pool = pool
        self._released = False

    def tpc_begin(self, _: object) -> None:
        """Nothing to do: psycopg2 begins at the first statement."""

    def commit(self, _: object) -> None:
        """Nothing to do before the vote."""

    def tpc_vote(self, _: object) -> None:
        """Commit; raises psycopg2.Error when PostgreSQL does not."""
        self.connection.commit()

    def tpc_finish(self, _: object) -> None:
        """Give the connection back."""
        self._release()

    def abort(self, _: object) -> None:
        """Roll back, and give the connection back; transaction may call this more than once."""
        if not self._released:
            try:
                self.connection.rollback()
            except psycopg2.Error:  # it is broken: PostgreSQL rolls back by itself
                self.connection.close()
            self._release()

    tpc_abort = abort

    def sortKey(self) -> str:  # noqa: N802 - the interface's name
        """Where to stand among other data managers: there are none."""
        return "hello_login.database"

    def _release(self) -> None:
        self._released = True
        self._pool.release(self.connection)
