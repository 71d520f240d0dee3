"""The table account_events: one row for each event of an account, in a partition for each month.

The partitions of the coming months are empty until then.  An event of a month that has no
partition is stored in account_events_default.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from . import execute, fetch

NEWEST = 2**63 - 1
"""An id that no event has, and that is greater than any."""


class Event(NamedTuple):
    """An event of an account."""

    event: str
    user_id: int | None = None
    fingerprint: str | None = None
    """The fingerprint of the session."""

    address: str | None = None
    request_id: str | None = None
    device: str | None = None
    """A description, such as "Firefox on Windows"; None if an operator's program caused it."""

    happened_at: datetime | None = None
    id: int | None = None


def insert(db: Connection, event: Event) -> None:
    """Add an event that happens now; add nothing if its account does not exist."""
    statement = """
        INSERT INTO account_events (event, user_id, fingerprint, address, request_id, device)
        SELECT %(event)s, %(user_id)s::bigint, %(fingerprint)s, %(address)s::inet, %(request_id)s,
               %(device)s
         WHERE %(user_id)s IS NULL
            OR EXISTS (SELECT
                         FROM users
                        WHERE id = %(user_id)s
                          FOR KEY SHARE)
    """
    execute(db, statement, event._asdict())


def list_of_user(
    db: Connection, user_id: int, number: int, age: timedelta, *, before: int = NEWEST
) -> list[Event]:
    """Return the account's events up to this age, the newest first; at most this number.

    before: the id of one of these events: only older ones are returned.  Any other id returns the
    newest events.
    """
    statement = """
        SELECT event, user_id, fingerprint, host(address) AS address, request_id, device,
               happened_at, id
          FROM account_events
         WHERE user_id = %(user_id)s
           AND happened_at > now() - %(age)s::interval
           AND (happened_at, id) < (COALESCE((SELECT happened_at
                                                FROM account_events
                                               WHERE id = %(before)s
                                                 AND user_id = %(user_id)s), 'infinity'),
                                    %(before)s)
         ORDER BY happened_at DESC, id DESC
         LIMIT %(number)s
    """
    parameters = {"user_id": user_id, "before": before, "age": age, "number": number}
    return [Event(**row._asdict()) for row in fetch(db, statement, parameters)]


def find_login_before(
    db: Connection, user_id: int, session_id: bytes, age: timedelta
) -> Event | None:
    """Return the account's latest login before the one that began the session.

    Returns None if there is none up to this age.
    """
    statement = """
        SELECT event, user_id, fingerprint, host(address) AS address, request_id, device,
               happened_at, id
          FROM account_events
         WHERE user_id = %s
           AND event = 'logged_in'
           AND happened_at > now() - %s::interval
           AND happened_at < (SELECT created_at
                                FROM sessions
                               WHERE id = %s)
         ORDER BY happened_at DESC, id DESC
         LIMIT 1
    """
    for row in fetch(db, statement, [user_id, age, session_id]):
        return Event(**row._asdict())
    return None


def list_with_failures(db: Connection, user_id: int, number: int, age: timedelta) -> list[Event]:
    """Return the account's newest events, and after them its newest failed attempts.

    age: that of the oldest event.
    number: the maximum of each kind, so that neither pushes the other out of the list.
    """
    statement = """
        (SELECT event, user_id, fingerprint, host(address) AS address, request_id, device,
                happened_at, id
           FROM account_events
          WHERE user_id = %(user_id)s
            AND happened_at > now() - %(age)s::interval
            AND event NOT IN ('login_failed', 'check_failed', 'second_failed',
                              'login_throttled', 'check_throttled')
          ORDER BY happened_at DESC, id DESC
          LIMIT %(number)s)
         UNION ALL
        (SELECT event, user_id, fingerprint, host(address) AS address, request_id, device,
                happened_at, id
           FROM account_events
          WHERE user_id = %(user_id)s
            AND happened_at > now() - %(age)s::interval
            AND event IN ('login_failed', 'check_failed', 'second_failed',
                          'login_throttled', 'check_throttled')
          ORDER BY happened_at DESC, id DESC
          LIMIT %(number)s)
    """
    parameters = {"user_id": user_id, "number": number, "age": age}
    return [Event(**row._asdict()) for row in fetch(db, statement, parameters)]


def prepare_months(db: Connection, age: timedelta) -> None:
    """Add the partitions of this month and the next two; drop partitions with older events only.

    Drops no partition after it has added one: it would wait for logins that wait for it.
    Does nothing if another connection does the same, or if no partition is missing or older.
    Raises psycopg2.errors.LockNotAvailable after a tenth of a second: logins wait behind it.
    """
    fetch(db, "SELECT prepare_event_months(%s)", [age])


def has_next_month(db: Connection) -> bool:
    """Return whether next month has a partition."""
    statement = """
        SELECT to_regclass(to_char(date_trunc('month', now() AT TIME ZONE 'UTC')
                                       + interval '1 month',
                                   '"account_events_"YYYY_MM')) IS NOT NULL AS found
    """
    return bool(fetch(db, statement, [])[0].found)
