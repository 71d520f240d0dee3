"""Synchronous standbys that a PostgreSQL for tests waits for."""

import time
from contextlib import closing

import psycopg2

from tests.rows import execute


def query(url: str, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    """Execute a statement on a connection of its own, which sees every setting as it is now."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        return execute(connection, statement, *parameters)


def require_standbys(url: str, names: str) -> None:
    """Set synchronous_standby_names: "" for none, or a name that no standby has to stop commits.

    url: that of a superuser.
    """
    query(url, "ALTER SYSTEM SET synchronous_standby_names = %s", names)
    query(url, "SELECT pg_reload_conf()")
    deadline = time.monotonic() + 60
    while query(url, "SHOW synchronous_standby_names") != [(names,)]:
        assert time.monotonic() < deadline
    # Commits follow the setting when the checkpointer has read it: at the latest between two of
    # its checkpoints.
    query(url, "CHECKPOINT")
    query(url, "CHECKPOINT")


def list_waiting(url: str) -> list[tuple[object, ...]]:
    """Return the backends that wait for a standby."""
    return query(url, "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
