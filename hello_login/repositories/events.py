"""The table account_events: one row for each event of an account."""

from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from . import execute, fetch


class Event(NamedTuple):
    """An event of an account."""

    event: str
    user_id: int | None = None
    fingerprint: str | None = None
    """The session's."""

    address: str | None = None
    request_id: str | None = None
    happened_at: datetime | None = None


def insert(db: Connection, event: Event) -> None:
    """Add an event that happens now; add nothing if its account does not exist."""
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
    """Return the account's events, the newest first; at most this number."""
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

    number: the maximum of each kind, so that neither pushes the other out of the list.
    """
    statement = """
        (SELECT event, user_id, fingerprint, host(address) AS address, request_id, happened_at
           FROM account_events
          WHERE user_id = %(user_id)s
            AND event NOT IN ('login_failed', 'check_failed', 'second_failed',
                              'login_throttled', 'check_throttled')
          ORDER BY happened_at DESC, id DESC
          LIMIT %(number)s)
         UNION ALL
        (SELECT event, user_id, fingerprint, host(address) AS address, request_id, happened_at
           FROM account_events
          WHERE user_id = %(user_id)s
            AND event IN ('login_failed', 'check_failed', 'second_failed',
                          'login_throttled', 'check_throttled')
          ORDER BY happened_at DESC, id DESC
          LIMIT %(number)s)
    """
    parameters = {"user_id": user_id, "number": number}
    return [Event(**row._asdict()) for row in fetch(db, statement, parameters)]


def delete_older(db: Connection, age: timedelta) -> None:
    """Delete up to ten older events; skip those that others delete."""
    statement = """
        DELETE FROM account_events
         WHERE id = ANY (ARRAY(SELECT id
                                 FROM account_events
                                WHERE happened_at < now() - %s::interval
                                ORDER BY happened_at
                                LIMIT 10
                                  FOR UPDATE SKIP LOCKED))
    """
    execute(db, statement, [age])
