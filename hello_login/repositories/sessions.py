"""The table sessions: one row for each session.

A row's id is the SHA-256 of the token in the cookie: a reader of the table can't log in with it.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from . import execute, fetch
from .users import User


class ListedSession(NamedTuple):
    """A session that has not ended, for lists."""

    fingerprint: str
    device: str
    remembered: bool
    address: str | None
    created_at: datetime
    last_seen_at: datetime


class Session(NamedTuple):
    """A session that has not ended, and its owner."""

    id: bytes
    seen_recently: bool
    """last_seen_at is less than a minute old."""

    login_age: timedelta
    """The time since the last authentication."""

    has_second_factor: bool
    """A login to its account with the password takes two steps."""

    user: User

    @property
    def fingerprint(self) -> str:
        """Return the name of the session in logs and on pages."""
        return fingerprint(self.id)


def fingerprint(session_id: bytes) -> str:
    """Return the first 12 hexadecimal digits of the id."""
    return session_id.hex()[:12]


def insert(
    db: Connection,
    *,
    session_id: bytes,
    user_id: int,
    idle_limit: timedelta,
    limit: timedelta,
    remembered: bool,
    address: str | None,
    device: str,
) -> None:
    """Add a session that expires when it is idle for idle_limit, and after limit in any case."""
    statement = """
        INSERT INTO sessions (id, user_id, idle_limit, expires_at, remembered, address, device)
        VALUES (%s, %s, %s, now() + %s::interval, %s, %s, %s)
    """
    row = [session_id, user_id, idle_limit, limit, remembered, address, device]
    execute(db, statement, row)


def find(db: Connection, session_id: bytes) -> Session | None:
    """Return the session with this id, or None if it has ended or its account is deactivated."""
    statement = """
        SELECT sessions.id AS session_id,
               sessions.last_seen_at > now() - interval '1 minute' AS seen_recently,
               now() - sessions.authenticated_at AS login_age,
               EXISTS (SELECT FROM totp WHERE user_id = users.id)
                 OR EXISTS (SELECT FROM passkeys WHERE user_id = users.id) AS has_second_factor,
               users.id, users.email, users.name, users.created_at, users.last_login_at,
               users.deactivated_at, users.confirmed_at
          FROM sessions
          JOIN users ON users.id = sessions.user_id
         WHERE sessions.id = %s
           AND sessions.expires_at > now()
           AND sessions.last_seen_at > now() - sessions.idle_limit
           AND users.deactivated_at IS NULL
    """
    for row in fetch(db, statement, [session_id]):
        user = User(**{name: getattr(row, name) for name in User._fields})
        return Session(
            bytes(row.session_id), row.seen_recently, row.login_age, row.has_second_factor, user
        )
    return None


def list_of_user(db: Connection, user_id: int, number: int) -> list[ListedSession]:
    """Return the account's sessions, the most recently used first; at most this number."""
    statement = """
        SELECT left(encode(id, 'hex'), 12) AS fingerprint, device, remembered,
               host(address) AS address, created_at, last_seen_at
          FROM sessions
         WHERE user_id = %s
           AND expires_at > now()
           AND last_seen_at > now() - idle_limit
         ORDER BY last_seen_at DESC, created_at DESC
         LIMIT %s
    """
    return [ListedSession(**row._asdict()) for row in fetch(db, statement, [user_id, number])]


def touch(db: Connection, session_id: bytes, address: str | None) -> None:
    """Store that the session is used now, from this address."""
    statement = "UPDATE sessions SET last_seen_at = now(), address = %s WHERE id = %s"
    execute(db, statement, [address, session_id])


def exists(db: Connection, session_id: bytes) -> bool:
    """Return whether there is a session with this id."""
    return bool(fetch(db, "SELECT FROM sessions WHERE id = %s", [session_id]))


def renew(
    db: Connection, session_id: bytes, new_id: bytes, *, authenticated: bool
) -> tuple[bool, timedelta]:
    """Replace the session's id.

    authenticated: store that its owner authenticated now.
    Returns whether it is remembered, and the time until its absolute limit.
    """
    statement = """
        UPDATE sessions
           SET id = %s,
               authenticated_at = CASE WHEN %s THEN now() ELSE authenticated_at END,
               last_seen_at = now()
         WHERE id = %s
     RETURNING remembered, expires_at - now() AS remaining
    """
    (row,) = fetch(db, statement, [new_id, authenticated, session_id])
    return row.remembered, row.remaining


def delete(db: Connection, session_id: bytes) -> None:
    """Delete the session."""
    execute(db, "DELETE FROM sessions WHERE id = %s", [session_id])


def delete_of_user(
    db: Connection, user_id: int, *, only: str | None = None, keep: bytes | None = None
) -> list[str]:
    """Delete the account's sessions, and return their fingerprints.

    only: the fingerprint of the only session to delete.  keep: the id of a session to keep.
    """
    statement = """
        DELETE FROM sessions
         WHERE user_id = %(user_id)s
           AND (%(only)s::text IS NULL OR left(encode(id, 'hex'), 12) = %(only)s)
           AND id IS DISTINCT FROM %(keep)s
     RETURNING id
    """
    rows = fetch(db, statement, {"user_id": user_id, "only": only, "keep": keep})
    return [fingerprint(bytes(row.id)) for row in rows]


def delete_least_recently_used(db: Connection, user_id: int, *, keep: int) -> list[str]:
    """Delete the account's least recently used sessions beyond `keep`; at most ten.

    Returns the fingerprints of the deleted ones.
    """
    statement = """
        DELETE FROM sessions
         WHERE id = ANY (ARRAY(SELECT id
                                 FROM sessions
                                WHERE user_id = %s
                                  AND expires_at > now()
                                  AND last_seen_at > now() - idle_limit
                                ORDER BY last_seen_at DESC, created_at DESC
                               OFFSET %s
                                LIMIT 10))
     RETURNING id
    """
    return [fingerprint(bytes(row.id)) for row in fetch(db, statement, [user_id, keep])]
