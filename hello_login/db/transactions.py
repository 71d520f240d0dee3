"""request.db: a psycopg2 connection whose transaction is the request's own.

pyramid_tm begins a transaction for each request, commits it when the view returns, and aborts it
when the view raises.  request.db takes a connection from the pool at its first use and joins it;
for GET and HEAD in autocommit mode, for what they write is to last whatever comes of them.
What failed before the commit, for a reason that may be gone, pyramid_retry runs once more.
"""

import logging
from contextlib import closing
from typing import Any, cast

import psycopg2
import transaction
from psycopg2.extensions import TransactionRollbackError
from psycopg2.extensions import connection as Connection
from pyramid_retry import mark_error_retryable

from ..settings import Settings
from . import connections, migrations
from .connections import ConnectionPool, is_broken

log = logging.getLogger(__name__)

ENVIRON_KEY = "hello_login.db"
"""A WSGI server never sets it: tests do, so that all requests of a test share its transaction."""

STATEMENT_TIMEOUT_SECONDS, LOCK_TIMEOUT_SECONDS = 5, 2
"""PostgreSQL cancels a statement that runs, or waits for a lock, for longer: a 503."""

GENERIC_PLANS = "-c plan_cache_mode=force_generic_plan"
"""So a prepared statement is planned once, and as tests/repositories/test_plans.py sees it."""


class CommitUnknown(Exception):
    """The connection broke during the commit: it was done, or it was not."""


def includeme(config: Any) -> None:
    """Add request.tm and request.db, a connection to registry.database_url."""
    pool = ConnectionPool(config.registry.database_url, _options())

    def db(request: Any) -> Connection:
        if ENVIRON_KEY in request.environ:
            return cast(Connection, request.environ[ENVIRON_KEY])
        safe = request.method in ("GET", "HEAD")
        manager = ConnectionDataManager(request.tm, pool, autocommit=safe)
        request.tm.get().join(manager)
        return manager.connection

    config.add_settings(
        {
            "tm.manager_hook": "pyramid_tm.explicit_manager",
            "tm.annotate_user": False,
            "tm.activate_hook": "hello_login.db.transactions.uses_database",
            "retry.attempts": 3,
        }
    )
    config.include("pyramid_tm")
    config.include("pyramid_retry")
    config.add_request_method(db, reify=True)


def check_at_start(settings: Settings, config_uri: str) -> None:
    """Log what is wrong with the database that DATABASE_URL names, if anything is.

    config_uri: the .ini file, for the command that applies the missing migrations.
    Raises SystemExit with a sentence when PostgreSQL refuses DATABASE_URL.
    """
    if settings.database_url is None:
        return
    try:
        # With the options of requests: a pooler may refuse them.
        connection = connections.connect(settings.database_url, _options())
        with closing(connection):
            connections.check_writable(connection)
            missing = migrations.missing(connection, migrations.names(settings.migrations))
    except connections.Refused as error:
        raise SystemExit(str(error)) from None
    except psycopg2.OperationalError as error:
        log.warning("%s", str(error).strip())
    except psycopg2.Error as error:
        log.error("The schema can't be read: %s: grant it to this user", str(error).strip())
    else:
        if missing:
            log.error("The schema is out of date: initialize_db %s", config_uri)


def _options() -> str:
    """Return the settings of each connection's session."""
    return (
        f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s"
        f" -c lock_timeout={LOCK_TIMEOUT_SECONDS}s {GENERIC_PLANS}"
    )


def uses_database(request: Any) -> bool:
    """False for what touches no data, and so needs no transaction."""
    return not request.environ["PATH_INFO"].startswith(("/static/", "/healthz"))


class ConnectionDataManager:
    """Makes a pooled connection part of a transaction (transaction.interfaces.IDataManager).

    It commits in tpc_vote, where a failure still aborts everything; tpc_finish must not fail.
    autocommit: each statement is a transaction of its own, which saves who only reads the round
        trips of BEGIN and COMMIT.
    """

    def __init__(
        self, manager: transaction.TransactionManager, pool: ConnectionPool, *, autocommit: bool
    ) -> None:
        self.transaction_manager = manager
        self.connection = pool.acquire()
        self.connection.autocommit = autocommit
        self._pool = pool
        self._released = False

    def tpc_begin(self, _: object) -> None:
        """Nothing to do: psycopg2 begins at the first statement."""

    def commit(self, _: object) -> None:
        """Nothing to do before the vote."""

    def tpc_vote(self, _: object) -> None:
        """Commit; raises psycopg2.Error when PostgreSQL does not, or CommitUnknown."""
        try:
            self.connection.commit()
        except psycopg2.Error as error:
            if isinstance(error, TransactionRollbackError):
                mark_error_retryable(error)
            elif is_broken(self.connection):
                raise CommitUnknown from error
            raise

    def should_retry(self, error: Exception) -> bool:
        """Whether what failed before the commit may succeed if all of it is done once more.

        That is after a deadlock or a serialization failure, and when the connection broke.
        """
        broken = is_broken(self.connection) and isinstance(error, psycopg2.Error)
        return broken or isinstance(error, TransactionRollbackError)

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
        return "hello_login.db.transactions"

    def _release(self) -> None:
        self._released = True
        self._pool.release(self.connection)
