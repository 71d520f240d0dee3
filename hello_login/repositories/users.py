"""The table users: one row for each account."""

from datetime import datetime
from typing import NamedTuple

import psycopg2.errors
from psycopg2.extensions import connection as Connection

from . import execute, fetch


class User(NamedTuple):
    """An account, as views may see it."""

    id: int
    email: str
    name: str
    created_at: datetime
    last_login_at: datetime | None
    deactivated_at: datetime | None


class Credentials(NamedTuple):
    """What it takes to check a password."""

    user_id: int
    password_hash: str


def insert(db: Connection, *, email: str, name: str, password_hash: str) -> int | None:
    """Add an account and return its id; None if the address is taken, in whatever case.

    Waits for another transaction that is adding the same address, and heeds how that ends.
    """
    statement = """
        INSERT INTO users (email, name, password_hash)
        VALUES (%s, %s, %s)
            ON CONFLICT (lower(email)) DO NOTHING
     RETURNING id
    """
    rows = fetch(db, statement, [email, name, password_hash])
    return rows[0][0] if rows else None


def find(db: Connection, *, user_id: int | None = None, email: str | None = None) -> User | None:
    """The account with this id, or with this address, in whatever case."""
    statement = """
        SELECT id, email, name, created_at, last_login_at, deactivated_at
          FROM users
         WHERE id = %s
            OR lower(email) = lower(%s)
    """
    rows = fetch(db, statement, [user_id, email])
    return User(*rows[0]) if rows else None


def list_newest(db: Connection, *, before: int, number: int) -> list[User]:
    """So many accounts with smaller ids, the newest first."""
    statement = """
        SELECT id, email, name, created_at, last_login_at, deactivated_at
          FROM users
         WHERE id < %s
         ORDER BY id DESC
         LIMIT %s
    """
    return [User(*row) for row in fetch(db, statement, [before, number])]


def find_credentials(
    db: Connection, *, user_id: int | None = None, email: str | None = None
) -> Credentials | None:
    """The credentials of an active account, as find() finds it."""
    statement = """
        SELECT id, password_hash
          FROM users
         WHERE (id = %s OR lower(email) = lower(%s))
           AND deactivated_at IS NULL
    """
    rows = fetch(db, statement, [user_id, email])
    return Credentials(*rows[0]) if rows else None


def hold_credentials(db: Connection, credentials: Credentials) -> bool:
    """Whether these still are the account's, which they then stay until the transaction ends."""
    statement = """
        SELECT
          FROM users
         WHERE id = %s
           AND password_hash = %s
           AND deactivated_at IS NULL
           FOR UPDATE
    """
    return bool(fetch(db, statement, credentials))


def update_password_hash(db: Connection, user_id: int, password_hash: str) -> None:
    """Replace the hash."""
    execute(db, "UPDATE users SET password_hash = %s WHERE id = %s", [password_hash, user_id])


def update_profile(db: Connection, user_id: int, *, name: str, email: str) -> bool:
    """Replace name and address; False, with nothing changed, if another account has the address."""
    execute(db, "SAVEPOINT profile")
    try:
        execute(db, "UPDATE users SET name = %s, email = %s WHERE id = %s", [name, email, user_id])
    except psycopg2.errors.UniqueViolation:
        execute(db, "ROLLBACK TO SAVEPOINT profile")
        return False
    return True


def record_login(db: Connection, user_id: int) -> None:
    """Note that the account was logged in to now."""
    execute(db, "UPDATE users SET last_login_at = now() WHERE id = %s", [user_id])


def set_active(db: Connection, user_id: int, active: bool) -> None:
    """Deactivate the account, so that nobody can log in to it, or reactivate it."""
    statement = """
        UPDATE users
           SET deactivated_at = CASE WHEN %s THEN NULL ELSE now() END
         WHERE id = %s
    """
    execute(db, statement, [active, user_id])


def delete(db: Connection, user_id: int) -> None:
    """Delete the account, and with it its sessions and events."""
    execute(db, "DELETE FROM users WHERE id = %s", [user_id])
