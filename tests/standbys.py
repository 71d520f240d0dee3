"""The settings and waits of synchronous standbys, on a PostgreSQL for tests."""

import time

from tests.rows import query


def require_standbys(url: str, names: str) -> None:
    """Set synchronous_standby_names, and wait until commits follow it.

    names: "" for no standby, or a name that no standby has, to stop commits.  url: that of a
    superuser.
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
