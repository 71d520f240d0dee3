"""The table throttles: how often something failed in a row, and until when it is refused."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from . import execute, fetch


class Limit(NamedTuple):
    """So many attempts may fail before there are waits."""

    key: bytes
    failures: int
    memory: timedelta
    """How long after the last failure all of them are forgotten."""

    cleared_by_success: bool
    """Otherwise a success takes only itself back."""


def count(
    db: Connection, limits: Sequence[Limit], *, first_wait: timedelta, longest_wait: timedelta
) -> timedelta | None:
    """Count an attempt as failed against all of the limits, unless one of them has it wait.

    From a limit's last free failure on, each has a wait, twice as long as the one before.
    Returns how long is to be waited, which is zero if the attempt was counted; None, with nothing
    counted, if a limit has no row yet.  Rows are locked in the order of their keys: so each attempt
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
                    greatest(max(blocked_until) - clock_timestamp(), interval '0') AS wait
               FROM held
        ), counted AS (
             UPDATE throttles
                SET failures = held.failures,
                    blocked_until = CASE
                        WHEN held.failures < limits.failures THEN 'epoch'
                        ELSE clock_timestamp() + least(
                            %(first_wait)s::interval
                                * power(2, least(held.failures - limits.failures, 30)),
                            %(longest_wait)s)
                        END,
                    forget_at = now() + limits.memory
               FROM state, held
               JOIN unnest(%(keys)s::bytea[], %(failures)s::integer[], %(memories)s::interval[])
                    AS limits (key, failures, memory)
                 ON limits.key = held.key
              WHERE throttles.key = held.key
                AND state.complete
                AND state.wait = interval '0'
        )
        SELECT wait
          FROM state
         WHERE complete
    """
    parameters = {
        "keys": [limit.key for limit in limits],
        "failures": [limit.failures for limit in limits],
        "memories": [limit.memory for limit in limits],
        "first_wait": first_wait,
        "longest_wait": longest_wait,
    }
    rows = fetch(db, statement, parameters)
    return rows[0][0] if rows else None


def insert(db: Connection, limits: Sequence[Limit]) -> None:
    """Add the rows that are missing, with nothing counted."""
    statement = (
        "INSERT INTO throttles (key) SELECT unnest(%s::bytea[]) ORDER BY 1 ON CONFLICT DO NOTHING"
    )
    execute(db, statement, [[limit.key for limit in limits]])


def clear(db: Connection, limits: Sequence[Limit]) -> None:
    """Take a counted attempt back, since it succeeded."""
    statement = """
        WITH held AS (
             SELECT key
               FROM throttles
              WHERE key = ANY(%s)
              ORDER BY key
                FOR UPDATE
        )
        UPDATE throttles
           SET failures = CASE WHEN throttles.key = ANY(%s::bytea[]) THEN 0 ELSE failures - 1 END,
               blocked_until = 'epoch'
          FROM held
         WHERE throttles.key = held.key
    """
    cleared = [limit.key for limit in limits if limit.cleared_by_success]
    execute(db, statement, [[limit.key for limit in limits], cleared])


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
