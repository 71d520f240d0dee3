"""The table users: one row for each account."""

import hashlib
import uuid
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

import psycopg2.errors
from psycopg2.extensions import connection as Connection

from . import execute, fetch

SELECT_USER = """
    SELECT id, email, name, created_at, last_login_at, deactivated_at, confirmed_at
      FROM users
"""

SELECT_CREDENTIALS = """
    SELECT id AS user_id, password_hash,
           coalesce(factors_changed_at, (SELECT created_at FROM totp WHERE user_id = users.id))
             AS factors_changed_at
      FROM users
     WHERE deactivated_at IS NULL
"""


class User(NamedTuple):
    """An account without its password hash."""

    id: int
    email: str
    name: str
    created_at: datetime
    last_login_at: datetime | None
    deactivated_at: datetime | None
    confirmed_at: datetime | None
    """The time when a link in a mail to the address was used."""


class Credentials(NamedTuple):
    """An account's id and password hash, and the time of the last change of its second factors."""

    user_id: int
    password_hash: str
    factors_changed_at: datetime | None

    @property
    def auth_hash(self) -> str:
        """Return a hash of all three, for cookies and rate limits.

        It changes with the password, and when a second factor is added or removed.
        """
        parts = [str(self.user_id), self.password_hash]
        if self.factors_changed_at is not None:
            parts.append(self.factors_changed_at.astimezone(timezone.utc).isoformat())
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]


class LockedAccount(NamedTuple):
    """An account with a locked row, as a login needs it."""

    credentials: Credentials

    is_active: bool
    is_new: bool
    """It was registered in this transaction."""

    has_second_factor: bool

    sessions: int
    """The number of its sessions, including some that have expired."""


def insert(db: Connection, *, email: str, name: str, password_hash: str) -> int | None:
    """Add an account, and return its id, or None if the address is taken in upper or lower case.

    Waits for a concurrent insert of the same address.
    """
    statement = """
        INSERT INTO users (email, name, password_hash)
        VALUES (%s, %s, %s)
            ON CONFLICT (lower(email)) DO NOTHING
     RETURNING id
    """
    rows = fetch(db, statement, [email, name, password_hash])
    return rows[0].id if rows else None


def get_by_id(db: Connection, user_id: int) -> User | None:
    """Return the account with this id, or None."""
    rows = fetch(db, f"{SELECT_USER} WHERE id = %s", [user_id])
    return User(**rows[0]._asdict()) if rows else None


def get_by_email(db: Connection, email: str) -> User | None:
    """Return the account with this address, in upper or lower case, or None."""
    rows = fetch(db, f"{SELECT_USER} WHERE lower(email) = lower(%s)", [email])
    return User(**rows[0]._asdict()) if rows else None


def list_newest(db: Connection, *, before: int, number: int) -> list[User]:
    """Return the accounts with smaller ids, the newest first; at most this number."""
    statement = f"{SELECT_USER} WHERE id < %s ORDER BY id DESC LIMIT %s"
    return [User(**row._asdict()) for row in fetch(db, statement, [before, number])]


def get_credentials_by_id(db: Connection, user_id: int) -> Credentials | None:
    """Return the credentials of the active account with this id, or None."""
    rows = fetch(db, f"{SELECT_CREDENTIALS} AND id = %s", [user_id])
    return Credentials(**rows[0]._asdict()) if rows else None


def get_credentials_by_email(db: Connection, email: str) -> Credentials | None:
    """Return the credentials of the active account with this address, or None."""
    rows = fetch(db, f"{SELECT_CREDENTIALS} AND lower(email) = lower(%s)", [email])
    return Credentials(**rows[0]._asdict()) if rows else None


def get_credentials_by_passkey(db: Connection, passkey_id: bytes) -> Credentials | None:
    """Return the credentials of the active account with this passkey, or None."""
    condition = "id = (SELECT user_id FROM passkeys WHERE id = %s)"
    rows = fetch(db, f"{SELECT_CREDENTIALS} AND {condition}", [passkey_id])
    return Credentials(**rows[0]._asdict()) if rows else None


def has_second_factor(db: Connection, user_id: int) -> bool:
    """Return whether the account has an authenticator app or a passkey."""
    statement = """
        SELECT EXISTS (SELECT FROM totp WHERE user_id = %(user_id)s)
            OR EXISTS (SELECT FROM passkeys WHERE user_id = %(user_id)s) AS found
    """
    (row,) = fetch(db, statement, {"user_id": user_id})
    return bool(row.found)


def record_factor_change(db: Connection, user_id: int) -> None:
    """Store that a second factor of the account was added or removed now."""
    # Not now(), which is the same for two changes in one transaction.
    statement = "UPDATE users SET factors_changed_at = clock_timestamp() WHERE id = %s"
    execute(db, statement, [user_id])


def record_notice(db: Connection, user_id: int, interval: timedelta) -> bool:
    """Store the time of a notice of a failed second step; return False if the last is too recent.

    interval: the time between two notices, at least.
    """
    statement = """
        UPDATE users
           SET told_of_failure_at = now()
         WHERE id = %s
           AND (told_of_failure_at IS NULL OR told_of_failure_at <= now() - %s::interval)
     RETURNING id
    """
    return bool(fetch(db, statement, [user_id, interval]))


def describe_factors(
    db: Connection, user_id: int
) -> tuple[datetime | None, int, bytes | None, bool]:
    """Return when the account's app was added, the number of recovery codes, the handle, and
    whether it has passkeys.
    """
    statement = """
        SELECT (SELECT created_at FROM totp WHERE user_id = users.id) AS app_added_at,
               (SELECT count(*) FROM recovery_codes WHERE user_id = users.id) AS codes,
               handle::text AS handle,
               EXISTS (SELECT FROM passkeys WHERE user_id = users.id) AS has_passkeys
          FROM users
         WHERE id = %s
    """
    for row in fetch(db, statement, [user_id]):
        handle = uuid.UUID(row.handle).bytes if row.handle else None
        return row.app_added_at, row.codes, handle, row.has_passkeys
    return None, 0, None, False  # The account was deleted just now.


def make_handle(db: Connection, user_id: int) -> bytes:
    """Return the account's name in authenticators, a random UUID; store one if there is none."""
    statement = """
        UPDATE users
           SET handle = coalesce(handle, gen_random_uuid())
         WHERE id = %s
     RETURNING handle::text AS handle
    """
    for row in fetch(db, statement, [user_id]):
        return uuid.UUID(row.handle).bytes
    return b""  # The account was deleted just now.


def confirm(db: Connection, user_id: int) -> None:
    """Store that the account's address is confirmed now."""
    execute(db, "UPDATE users SET confirmed_at = now() WHERE id = %s", [user_id])


def lock(db: Connection, user_id: int) -> None:
    """Lock the account's row against changes until the transaction ends."""
    execute(db, "SELECT FROM users WHERE id = %s FOR NO KEY UPDATE", [user_id])


def lock_account(db: Connection, user_id: int) -> LockedAccount | None:
    """Lock the account's row until the transaction ends, and return the account, or None."""
    lock(db, user_id)
    # A statement after the lock sees a second factor that was added until then.
    statement = """
        SELECT id AS user_id, password_hash,
               coalesce(factors_changed_at, (SELECT created_at FROM totp WHERE user_id = users.id))
                 AS factors_changed_at,
               deactivated_at IS NULL AS is_active,
               created_at = now() AS is_new,
               EXISTS (SELECT FROM totp WHERE user_id = users.id)
                 OR EXISTS (SELECT FROM passkeys WHERE user_id = users.id) AS has_second_factor,
               (SELECT count(*) FROM sessions WHERE user_id = users.id) AS sessions
          FROM users
         WHERE id = %s
    """
    for row in fetch(db, statement, [user_id]):
        credentials = Credentials(row.user_id, row.password_hash, row.factors_changed_at)
        return LockedAccount(
            credentials, row.is_active, row.is_new, row.has_second_factor, row.sessions
        )
    return None


def update_password_hash(db: Connection, user_id: int, password_hash: str) -> None:
    """Replace the account's password hash."""
    execute(db, "UPDATE users SET password_hash = %s WHERE id = %s", [password_hash, user_id])


def update_profile(
    db: Connection, user_id: int, *, name: str | None = None, email: str | None = None
) -> bool:
    """Replace the name and the address that are given.  Another address is not confirmed.

    Returns False, with nothing changed, if another account has the address.
    """
    statement = """
        UPDATE users
           SET name = coalesce(%(name)s, name),
               email = coalesce(%(email)s, email),
               confirmed_at = CASE WHEN %(email)s IS NULL THEN confirmed_at END
         WHERE id = %(user_id)s
           AND NOT EXISTS (SELECT
                             FROM users
                            WHERE lower(email) = lower(%(email)s)
                              AND id <> %(user_id)s)
     RETURNING id
    """
    with db.cursor() as cursor:
        cursor.execute("SAVEPOINT profile")
        try:
            changed = fetch(db, statement, {"user_id": user_id, "name": name, "email": email})
        except psycopg2.errors.UniqueViolation:  # by a concurrent change
            cursor.execute("ROLLBACK TO SAVEPOINT profile")
            return False
    return bool(changed)


def record_login(db: Connection, user_id: int) -> None:
    """Store the time of the login in the account's row."""
    execute(db, "UPDATE users SET last_login_at = now() WHERE id = %s", [user_id])


def deactivate(db: Connection, user_id: int) -> None:
    """Mark the account as deactivated: nobody can log in to it."""
    execute(db, "UPDATE users SET deactivated_at = now() WHERE id = %s", [user_id])


def reactivate(db: Connection, user_id: int) -> None:
    """Mark the account as active."""
    execute(db, "UPDATE users SET deactivated_at = NULL WHERE id = %s", [user_id])


def delete(db: Connection, user_id: int) -> None:
    """Delete the account, its sessions and its events."""
    execute(db, "DELETE FROM users WHERE id = %s", [user_id])


def may_offer_passkey(db: Connection, user_id: int) -> bool:
    """Return whether the account has no passkey, and its owner has not declined one."""
    statement = """
        SELECT
          FROM users
         WHERE id = %s
           AND passkey_declined_at IS NULL
           AND NOT EXISTS (SELECT FROM passkeys WHERE user_id = users.id)
    """
    return bool(fetch(db, statement, [user_id]))


def decline_passkey(db: Connection, user_id: int) -> None:
    """Store that the owner wants no more offers of a passkey."""
    execute(db, "UPDATE users SET passkey_declined_at = now() WHERE id = %s", [user_id])
