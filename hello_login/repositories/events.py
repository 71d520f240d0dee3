"""The table account_events: what happened to an account."""

from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from . import execute, fetch


class Event(NamedTuple):
    """Something that happened to an account."""

    event: str
    user_id: int | None = None
    fingerprint: str | None = None
    """The session's."""

    address: str | None = None
    request_id: str | None = None
    happened_at: datetime | None = None


def insert(db: Connection, event: Event) -> None:
    """Add an event that happens now, unless its account has just been deleted."""
    statement = """
        INSERT INTO account_events (event, user_id, fingerprint, address, request_id)
        SELECT %(event)s, %(user_id)s::bigint, %(fingerprint)s, %(address)s::inet, %(request_id)s
         WHERE %(user_id)s IS NULL
            OR EXISTS (SELECT
                         FROM users
                        WHERE id = %(user_id)s
                          FOR KEY SHARE)
    """
    execute(db, statement, event._asdict())


def list_of_user(db: Connection, user_id: int, number: int) -> list[Event]:
    """So many of the last things that happened to the account, the newest first."""
    statement = """
        SELECT event, user_id, fingerprint, host(address) AS address, request_id, happened_at
          FROM account_events
         WHERE user_id = %s
         ORDER BY happened_at DESC, id DESC
         LIMIT %s
    """
    return [Event(**row._asdict()) for row in fetch(db, statement, [user_id, number])]


def list_with_failures(db: Connection, user_id: int, number: int) -> list[Event]:
    """Return the account's newest events, and after them its newest failed attempts.

    number: how many of either, so that neither push the others out of the list.
    """
    statement = """
        (SELECT event, user_id, fingerprint, host(address) AS address, request_id, happened_at
           FROM account_events
          WHERE user_id = %(user_id)s
            AND event NOT IN ('login_failed', 'check_failed',
                              'login_throttled', 'check_throttled')
          ORDER BY happened_at DESC, id DESC
          LIMIT %(number)s)
         UNION ALL
        (SELECT event, user_id, fingerprint, host(address) AS address, request_id, happened_at
           FROM account_events
          WHERE user_id = %(user_id)s
            AND event IN ('login_failed', 'check_failed',
                          'login_throttled', 'check_throttled')
          ORDER BY happened_at DESC, id DESC
          LIMIT %(number)s)
    """
    parameters = {"user_id": user_id, "number": number}
    return [Event(**row._asdict()) for row in fetch(db, statement, parameters)]


def delete_older(db: Connection, age: timedelta) -> None:
    """Delete some of those that are older; others may be doing the same."""
    statement = """
        DELETE FROM account_events
         WHERE id IN (SELECT id
                        FROM account_events
                       WHERE happened_at < now() - %s::interval
                       ORDER BY happened_at
                       LIMIT 10
                         FOR UPDATE SKIP LOCKED)
    """
    execute(db, statement, [age])
