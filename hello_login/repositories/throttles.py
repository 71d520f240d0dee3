"""The table throttles: one row for each rate limit, with its failures and its wait."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple, cast

from psycopg2.extensions import connection as Connection

from . import execute, fetch

FOREVER = timedelta.max
"""The wait of a locked limit: it has no end."""


class Limit(NamedTuple):
    """A limit for failures in a row."""

    key: bytes
    """32 bytes that identify the limit, and tell readers of the table nothing."""

    max_failures: int
    """The number of failures before a wait."""

    forget_after: timedelta
    """The time after the last failure when all of them are forgotten."""

    resets: tuple[bytes, ...] = ()
    """The keys of the limits that a success resets.  If the limit's own key is not among them, a
    success only takes back its own failure."""

    lock_after: int | None = None
    """The number of failures that locks the limit: no attempt is counted until it is reset."""


def count(
    db: Connection, limits: Sequence[Limit], *, first_wait: timedelta, longest_wait: timedelta
) -> timedelta | None:
    """Count a failure against all of the limits, unless a limit requires a wait.

    The failure that reaches max_failures causes a wait of first_wait.  Each further failure doubles
    the wait, up to longest_wait.
    Returns the time to wait: zero if the failure was counted, FOREVER if a limit is locked.
    Returns None and counts nothing if no limit requires a wait, but one has no row yet.
    """
    # Locking rows in the order of their keys avoids deadlocks, and lets each attempt see those
    # before it.  clock_timestamp() includes the time spent waiting for locks; now() would not.
    # If a row is missing, nothing is counted yet, so none is locked: a lock costs a commit.
    statement = """
        WITH held AS (
             SELECT key,
                    blocked_until,
                    CASE WHEN forget_at > now() THEN failures ELSE 0 END + 1 AS failures
               FROM throttles
              WHERE key = ANY(%(keys)s)
                AND (SELECT count(*)
                       FROM throttles
                      WHERE key = ANY(%(keys)s)) = cardinality(%(keys)s)
              ORDER BY key
                FOR UPDATE
        ), found AS (
             SELECT held.key,
                    coalesce(held.blocked_until, throttles.blocked_until) AS blocked_until
               FROM throttles
               LEFT JOIN held ON held.key = throttles.key
              WHERE throttles.key = ANY(%(keys)s)
        ), state AS (
             SELECT count(key) = cardinality(%(keys)s) AS complete,
                    coalesce(bool_or(blocked_until = 'infinity'), false) AS locked,
                    greatest(
                        max(nullif(blocked_until, 'infinity')) - clock_timestamp(),
                        interval '0') AS wait
               FROM found
        ), counted AS (
             UPDATE throttles
                SET failures = held.failures,
                    blocked_until = CASE
                        WHEN held.failures >= limits.lock_after THEN 'infinity'
                        WHEN held.failures < limits.max_failures THEN 'epoch'
                        ELSE clock_timestamp() + least(
                            %(first_wait)s::interval
                                * power(2, least(held.failures - limits.max_failures, 30)),
                            %(longest_wait)s)
                        END,
                    forget_at = CASE
                        WHEN held.failures >= limits.lock_after THEN 'infinity'
                        ELSE now() + limits.forget_after
                        END
               FROM state, held
               JOIN unnest(%(keys)s::bytea[], %(max_failures)s::integer[],
                           %(forget_after)s::interval[], %(locks)s::integer[])
                    AS limits (key, max_failures, forget_after, lock_after)
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
        "max_failures": [limit.max_failures for limit in limits],
        "forget_after": [limit.forget_after for limit in limits],
        "locks": [limit.lock_after for limit in limits],
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


def take_back(db: Connection, limits: Sequence[Limit]) -> None:
    """Take a counted failure back, and reset the limits that a success resets."""
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
                   WHEN throttles.key = ANY(%(reset)s::bytea[]) THEN 0
                   ELSE failures - 1
                   END,
               blocked_until = 'epoch',
               forget_at = least(forget_at, now() + %(forget_after)s::interval)
          FROM held
         WHERE throttles.key = held.key
    """
    reset = {key for limit in limits for key in limit.resets}
    parameters = {
        "keys": [*reset.union(limit.key for limit in limits)],
        "reset": [*reset],
        "forget_after": max(limit.forget_after for limit in limits),
    }
    execute(db, statement, parameters)


def delete_forgotten(db: Connection) -> None:
    """Delete up to ten rows whose failures are forgotten; skip those that others delete.

    It must be the last statement of a transaction that waits for a row of this table: it does not
    lock rows in the order of their keys, as the other statements do.
    """
    statement = """
        DELETE FROM throttles
         WHERE key = ANY (ARRAY(SELECT key
                                  FROM throttles
                                 WHERE forget_at < now()
                                 ORDER BY forget_at
                                 LIMIT 10
                                   FOR UPDATE SKIP LOCKED))
    """
    execute(db, statement)
