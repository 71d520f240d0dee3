"""The table sessions: one row for each login that was not logged out.

A row's id is the SHA-256 of the token in the cookie, so who reads the table can't log in with it.
"""

from datetime import timedelta
from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from .users import User


class Session(NamedTuple):
    """A session that has not ended, with whose it is."""

    id: bytes
    seen_recently: bool
    """last_seen_at is less than a minute old."""

    user: User


def insert(
    db: Connection, *, session_id: bytes, user_id: int, idle_limit: timedelta, limit: timedelta
) -> None:
    """Begin a session that ends when idle for idle_limit, and after limit in any case."""
    with db.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO sessions (id, user_id, idle_limit, expires_at)
            VALUES (%(session_id)s, %(user_id)s, %(idle_limit)s, now() + %(limit)s)
            """,
            {
                "session_id": session_id,
                "user_id": user_id,
                "idle_limit": idle_limit,
                "limit": limit,
            },
        )


def find(db: Connection, session_id: bytes) -> Session | None:
    """The session with this id, if neither of its limits has passed."""
    with db.cursor() as cursor:
        cursor.execute(
            """
            SELECT sessions.id,
                   sessions.last_seen_at > now() - interval '1 minute',
                   users.id, users.email, users.name, users.created_at, users.last_login_at
              FROM sessions
              JOIN users ON users.id = sessions.user_id
             WHERE sessions.id = %(session_id)s
               AND sessions.expires_at > now()
               AND sessions.last_seen_at > now() - sessions.idle_limit
            """,
            {"session_id": session_id},
        )
        row = cursor.fetchone()
    return None if row is None else Session(bytes(row[0]), row[1], User(*row[2:]))


def touch(db: Connection, session_id: bytes) -> None:
    """Note that the session is in use now."""
    with db.cursor() as cursor:
        cursor.execute(
            """
            UPDATE sessions
               SET last_seen_at = now()
             WHERE id = %(session_id)s
            """,
            {"session_id": session_id},
        )


def delete(db: Connection, session_id: bytes) -> None:
    """End the session."""
    with db.cursor() as cursor:
        cursor.execute(
            """
            DELETE FROM sessions
             WHERE id = %(session_id)s
            """,
            {"session_id": session_id},
        )
