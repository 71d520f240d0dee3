"""The table throttles: how often something failed in a row, and until when it is refused."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple, cast

from psycopg2.extensions import connection as Connection

from . import execute, fetch

FOREVER = timedelta.max
"""The wait of a limit that is locked: no time ends it."""


class Limit(NamedTuple):
    """So many attempts may fail before there are waits."""

    key: bytes
    failures: int
    memory: timedelta
    """How long after the last failure all of them are forgotten."""

    clears: tuple[bytes, ...]
    """The keys of the limits whose failures a success forgets.  If the limit's own key is not among
    them, a success takes only itself back."""

    locks_at: int | None = None
    """The failure that locks the limit: no attempt is counted until the limit is cleared."""


def count(
    db: Connection, limits: Sequence[Limit], *, first_wait: timedelta, longest_wait: timedelta
) -> timedelta | None:
    """Count an attempt as failed against all of the limits, unless one of them has it wait.

    From a limit's last free failure on, each has a wait, twice as long as the one before.
    Returns how long is to be waited: zero if the attempt was counted, FOREVER if a limit is locked.
    Returns None, with nothing counted, if no limit has it wait, but one has no row yet.
    Rows are locked in the order of their keys: so each attempt
    sees those before it, however many there are at once, and no two lock each other out.  now()
    would be when the transaction began, before it had waited for others.
    """
    statement = """
        WITH held AS (
             SELECT key,
                    blocked_until,
                    CASE WHEN forget_at > now() THEN failures ELSE 0 END + 1 AS failures
               FROM throttles
              WHERE key = ANY(%(keys)s)
              ORDER BY key
                FOR UPDATE
        ), state AS (
             SELECT count(*) = cardinality(%(keys)s) AS complete,
                    coalesce(bool_or(blocked_until = 'infinity'), false) AS locked,
                    greatest(
                        max(nullif(blocked_until, 'infinity')) - clock_timestamp(),
                        interval '0') AS wait
               FROM held
        ), counted AS (
             UPDATE throttles
                SET failures = held.failures,
                    blocked_until = CASE
                        WHEN held.failures >= limits.locks_at THEN 'infinity'
                        WHEN held.failures < limits.failures THEN 'epoch'
                        ELSE clock_timestamp() + least(
                            %(first_wait)s::interval
                                * power(2, least(held.failures - limits.failures, 30)),
                            %(longest_wait)s)
                        END,
                    forget_at = CASE
                        WHEN held.failures >= limits.locks_at THEN 'infinity'
                        ELSE now() + limits.memory
                        END
               FROM state, held
               JOIN unnest(%(keys)s::bytea[], %(failures)s::integer[], %(memories)s::interval[],
                           %(locks)s::integer[])
                    AS limits (key, failures, memory, locks_at)
                 ON limits.key = held.key
              WHERE throttles.key = held.key
                AND state.complete
                AND NOT state.locked
                AND state.wait = interval '0'
        )
        SELECT locked, wait
          FROM state
         WHERE complete
            OR locked
            OR wait > interval '0'
    """
    parameters = {
        "keys": [limit.key for limit in limits],
        "failures": [limit.failures for limit in limits],
        "memories": [limit.memory for limit in limits],
        "locks": [limit.locks_at for limit in limits],
        "first_wait": first_wait,
        "longest_wait": longest_wait,
    }
    for row in fetch(db, statement, parameters):
        return FOREVER if row.locked else cast(timedelta, row.wait)
    return None


def insert(db: Connection, limits: Sequence[Limit]) -> None:
    """Add the rows that are missing, with nothing counted."""
    statement = (
        "INSERT INTO throttles (key) SELECT unnest(%s::bytea[]) ORDER BY 1 ON CONFLICT DO NOTHING"
    )
    execute(db, statement, [[limit.key for limit in limits]])


def clear(db: Connection, limits: Sequence[Limit]) -> None:
    """Take a counted attempt back, since it succeeded, and clear what its limits say."""
    statement = """
        WITH held AS (
             SELECT key
               FROM throttles
              WHERE key = ANY(%(keys)s)
              ORDER BY key
                FOR UPDATE
        )
        UPDATE throttles
           SET failures = CASE
                   WHEN throttles.key = ANY(%(cleared)s::bytea[]) THEN 0
                   ELSE failures - 1
                   END,
               blocked_until = 'epoch',
               forget_at = least(forget_at, now() + %(memory)s::interval)
          FROM held
         WHERE throttles.key = held.key
    """
    cleared = {key for limit in limits for key in limit.clears}
    parameters = {
        "keys": [*cleared.union(limit.key for limit in limits)],
        "cleared": [*cleared],
        "memory": max(limit.memory for limit in limits),
    }
    execute(db, statement, parameters)


def delete_forgotten(db: Connection) -> None:
    """Delete some of those that no longer count; others may be doing the same."""
    statement = """
        DELETE FROM throttles
         WHERE key IN (SELECT key
                         FROM throttles
                        WHERE forget_at < now()
                        LIMIT 10
                          FOR UPDATE SKIP LOCKED)
    """
    execute(db, statement)
