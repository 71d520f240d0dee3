"""request.db: a connection with the request's transaction; request.autocommit(): one without.

pyramid_tm begins a transaction for each request, commits it when the view returns, and aborts it
when the view raises.  request.db takes a connection from the pool at its first use, and joins that
transaction.  For GET and HEAD it is in autocommit mode.
request.autocommit() lends a connection for writes that are committed before the transaction begins:
the use of a session, and the counts of rate limits.
If a request fails before its commit for a temporary reason, pyramid_retry runs it once more.
"""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, cast

import psycopg2
import transaction
from psycopg2.extensions import TransactionRollbackError
from psycopg2.extensions import connection as Connection
from pyramid_retry import mark_error_retryable

from ..settings import Settings
from . import connections, migrations
from .connections import ConnectionPool
from .standbys import NoAnswer, is_broken

log = logging.getLogger(__name__)

ENVIRON_KEY = "hello_login.db"
"""Tests set it, so that all requests of a test share its transaction.  A WSGI server never does."""

STATEMENT_TIMEOUT_SECONDS, LOCK_TIMEOUT_SECONDS = 5, 2
"""PostgreSQL cancels a statement that runs, or waits for a lock, for longer: a 503."""

GENERIC_PLANS = "-c plan_cache_mode=force_generic_plan"
"""A prepared statement is planned once, as tests/repositories/test_plans.py checks it."""


class CommitUnknown(Exception):
    """The connection broke or was given up during the commit, so its outcome is unknown."""


def includeme(config: Any) -> None:
    """Add registry.pool, request.tm, request.db and request.autocommit().

    A request never holds two connections: autocommit() raises RuntimeError after request.db is
    used.
    """
    checked = config.registry.hello_login
    pool = ConnectionPool(
        config.registry.database_url, _options(checked), prepares=not checked.shares_sessions
    )

    def db(request: Any) -> Connection:
        if ENVIRON_KEY in request.environ:
            return cast(Connection, request.environ[ENVIRON_KEY])
        safe = request.method in ("GET", "HEAD")
        manager = ConnectionDataManager(request.tm, pool, autocommit=safe)
        request.tm.get().join(manager)
        return manager.connection

    @contextmanager
    def autocommit(request: Any) -> Iterator[Connection]:
        if "db" in vars(request):
            raise RuntimeError("The request's transaction has begun: it has a connection already")
        if ENVIRON_KEY in request.environ:
            yield request.environ[ENVIRON_KEY]
            return
        with pool.autocommit() as connection:
            try:
                yield connection
                connection.flush()
            except psycopg2.Error as error:
                if is_temporary(error, connection):
                    mark_error_retryable(error)
                raise

    config.registry.pool = pool
    config.add_settings(
        {
            "tm.manager_hook": "pyramid_tm.explicit_manager",
            "tm.annotate_user": False,
            "retry.attempts": 3,
        }
    )
    config.include("pyramid_tm")
    config.include("pyramid_retry")
    config.add_request_method(db, reify=True)
    config.add_request_method(autocommit)


def check_at_start(settings: Settings, config_uri: str) -> None:
    """Log each fault of the database of DATABASE_URL.

    config_uri: the .ini file, for the command that applies the missing migrations.
    Raises SystemExit with a sentence when PostgreSQL refuses DATABASE_URL.
    """
    if settings.database_url is None:
        return
    try:
        # With the options of requests: a pooler may refuse them.
        connection = connections.connect(settings.database_url, _options(settings))
        with closing(connection):
            # PgBouncer ends the session of a client that leaves in a transaction.
            connection.autocommit = True
            connections.check_writable(connection)
            statements = migrations.role_statements(connection, session_settings())
            missing = migrations.missing(connection, migrations.names(*settings.migrations))
    except connections.Refused as error:
        raise SystemExit(str(error)) from None
    except psycopg2.OperationalError as error:
        log.warning("%s", str(error).strip())
    except psycopg2.Error as error:
        log.error("The schema can't be read: %s: let this user read it", str(error).strip())
    else:
        if statements:
            log.warning(
                "The pooler's sessions lack settings that requests rely on: run %s and let the "
                "pooler connect anew (RECONNECT in PgBouncer's console)",
                statements,
            )
        if missing:
            log.error("The schema is out of date: run initialize_db %s", config_uri)


def session_settings() -> dict[str, str]:
    """Return the settings of PostgreSQL that requests rely on, times in milliseconds."""
    return {
        # A statement after a lock must see all commits before it: with the snapshot of an earlier
        # statement, a login would not see a second factor that was added meanwhile.
        "default_transaction_isolation": "read committed",
        "statement_timeout": str(1000 * STATEMENT_TIMEOUT_SECONDS),
        "lock_timeout": str(1000 * LOCK_TIMEOUT_SECONDS),
    }


def _options(settings: Settings) -> str:
    """Return the options of each connection; a pooler that shares sessions takes none."""
    if settings.shares_sessions:
        return ""
    wanted = [f"{name}={value}".replace(" ", r"\ ") for name, value in session_settings().items()]
    return " ".join([*(f"-c {each}" for each in wanted), GENERIC_PLANS])


def is_temporary(error: Exception, connection: Connection) -> bool:
    """Return whether the error is a deadlock or serialization failure, or the connection broke.

    A connection that was given up is no such reason: its statement may be committed.
    """
    lost = isinstance(error, psycopg2.Error) and not isinstance(error, NoAnswer)
    return (lost and is_broken(connection)) or isinstance(error, TransactionRollbackError)


class ConnectionDataManager:
    """Makes a pooled connection part of a transaction (transaction.interfaces.IDataManager).

    It commits in tpc_vote, where a failure still aborts everything; tpc_finish must not fail.
    autocommit: the statements of each round trip are a transaction of their own.
    """

    def __init__(
        self, manager: transaction.TransactionManager, pool: ConnectionPool, *, autocommit: bool
    ) -> None:
        self.transaction_manager = manager
        self.connection = pool.acquire()
        if not autocommit:
            self.connection.begin()
        self._pool = pool
        self._released = False

    def tpc_begin(self, _: object) -> None:
        """Do nothing: the transaction begins with the first statement."""

    def commit(self, _: object) -> None:
        """Execute the waiting statements.  Raises psycopg2.Error."""
        try:
            self.connection.flush()
        except psycopg2.Error as error:
            if is_temporary(error, self.connection):
                mark_error_retryable(error)
            raise

    def tpc_vote(self, _: object) -> None:
        """Commit.  Raises psycopg2.Error if PostgreSQL refuses, or CommitUnknown."""
        try:
            self.connection.commit()
        except psycopg2.Error as error:
            if isinstance(error, TransactionRollbackError):
                mark_error_retryable(error)
            elif is_broken(self.connection):
                raise CommitUnknown from error
            raise

    def should_retry(self, error: Exception) -> bool:
        """Return whether a request that failed before its commit may succeed when it is retried."""
        return is_temporary(error, self.connection)

    def tpc_finish(self, _: object) -> None:
        """Return the connection to the pool."""
        self._release()

    def abort(self, _: object) -> None:
        """Roll back, and return the connection to the pool; may be called more than once."""
        if not self._released:
            try:
                self.connection.rollback()
            except psycopg2.Error:  # it is broken: PostgreSQL rolls back by itself
                self.connection.close()
            self._release()

    tpc_abort = abort

    def sortKey(self) -> str:  # noqa: N802 - the interface's name
        """Return the place among other data managers: there are none."""
        return "hello_login.db.transactions"

    def _release(self) -> None:
        self._released = True
        self._pool.release(self.connection)
