"""The table half_logins: one row for each login that waits for its second step.

A row's id is the SHA-256 of the token in the cookie: a reader of the table can't log in with it.
"""

from datetime import timedelta
from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from . import execute, fetch


class HalfLogin(NamedTuple):
    """A login that waits for its second step after the right password."""

    id: bytes
    user_id: int
    remembered: bool
    """"Stay logged in" was chosen."""


def insert(
    db: Connection, half_login_id: bytes, user_id: int, *, remembered: bool, lifetime: timedelta
) -> None:
    """Add a half login that expires after its lifetime."""
    statement = """
        INSERT INTO half_logins (id, user_id, remembered, expires_at)
        VALUES (%s, %s, %s, now() + %s::interval)
    """
    execute(db, statement, [half_login_id, user_id, remembered, lifetime])


def find(db: Connection, half_login_id: bytes) -> HalfLogin | None:
    """Return the half login with this id, or None if it has ended or expired."""
    statement = """
        SELECT id, user_id, remembered
          FROM half_logins
         WHERE id = %s
           AND expires_at > now()
    """
    rows = fetch(db, statement, [half_login_id])
    return HalfLogin(bytes(rows[0].id), rows[0].user_id, rows[0].remembered) if rows else None


def delete(db: Connection, half_login_id: bytes) -> None:
    """Delete the half login."""
    execute(db, "DELETE FROM half_logins WHERE id = %s", [half_login_id])


def delete_of_user(db: Connection, user_id: int) -> None:
    """Delete the account's half logins."""
    execute(db, "DELETE FROM half_logins WHERE user_id = %s", [user_id])
