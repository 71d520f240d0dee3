"""The table users: one row for each account."""

from datetime import datetime
from typing import NamedTuple

from psycopg2.extensions import connection as Connection


class User(NamedTuple):
    """An account, as views may see it."""

    id: int
    email: str
    name: str
    created_at: datetime
    last_login_at: datetime | None


class Credentials(NamedTuple):
    """What it takes to check a password."""

    user_id: int
    password_hash: str


def insert(db: Connection, *, email: str, name: str, password_hash: str) -> int | None:
    """Add an account and return its id; None if the address is taken, in whatever case.

    Waits for another transaction that is adding the same address, and heeds how that ends.
    """
    with db.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO users (email, name, password_hash)
            VALUES (%(email)s, %(name)s, %(password_hash)s)
                ON CONFLICT (lower(email)) DO NOTHING
         RETURNING id
            """,
            {"email": email, "name": name, "password_hash": password_hash},
        )
        row = cursor.fetchone()
    return None if row is None else int(row[0])


def find_credentials(db: Connection, email: str) -> Credentials | None:
    """The credentials of the account with this address, in whatever case."""
    with db.cursor() as cursor:
        cursor.execute(
            """
            SELECT id, password_hash
              FROM users
             WHERE lower(email) = lower(%(email)s)
            """,
            {"email": email},
        )
        row = cursor.fetchone()
    return None if row is None else Credentials(*row)


def update_password_hash(db: Connection, user_id: int, password_hash: str) -> None:
    """Replace the hash."""
    with db.cursor() as cursor:
        cursor.execute(
            """
            UPDATE users
               SET password_hash = %(password_hash)s
             WHERE id = %(user_id)s
            """,
            {"user_id": user_id, "password_hash": password_hash},
        )


def record_login(db: Connection, user_id: int) -> None:
    """Note that the account was logged in to now."""
    with db.cursor() as cursor:
        cursor.execute(
            """
            UPDATE users
               SET last_login_at = now()
             WHERE id = %(user_id)s
            """,
            {"user_id": user_id},
        )
