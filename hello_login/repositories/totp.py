"""The table totp: one row for each account with an authenticator app."""

from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from . import execute, fetch


class App(NamedTuple):
    """The authenticator app of an account."""

    secret: bytes
    """The encrypted secret."""

    last_step: int
    hinted_step: int


def insert(db: Connection, user_id: int, secret: bytes, last_step: int) -> None:
    """Add the app of an account that has none."""
    statement = "INSERT INTO totp (user_id, secret, last_step) VALUES (%s, %s, %s)"
    execute(db, statement, [user_id, secret, last_step])


def get(db: Connection, user_id: int) -> App | None:
    """Return the app of an account, or None."""
    statement = "SELECT secret, last_step, hinted_step FROM totp WHERE user_id = %s"
    rows = fetch(db, statement, [user_id])
    return App(bytes(rows[0].secret), rows[0].last_step, rows[0].hinted_step) if rows else None


def use_step(db: Connection, user_id: int, step: int) -> bool:
    """Store that the code of this step was used; return False if it or a later one was before."""
    statement = """
        UPDATE totp
           SET last_step = %(step)s
         WHERE user_id = %(user_id)s
           AND last_step < %(step)s
     RETURNING user_id
    """
    return bool(fetch(db, statement, {"user_id": user_id, "step": step}))


def store_hint(db: Connection, user_id: int, step: int) -> None:
    """Store the step whose code got a hint."""
    execute(db, "UPDATE totp SET hinted_step = %s WHERE user_id = %s", [step, user_id])


def delete(db: Connection, user_id: int) -> bool:
    """Delete the app of an account; return False if there is none."""
    return bool(fetch(db, "DELETE FROM totp WHERE user_id = %s RETURNING user_id", [user_id]))


def list_secrets(db: Connection, after: int, number: int) -> list[tuple[int, bytes]]:
    """Return the ids of accounts with an app, above this id, and the encrypted secrets.

    Locks the rows.  number: the maximum.
    """
    statement = """
        SELECT user_id, secret
          FROM totp
         WHERE user_id > %s
         ORDER BY user_id
         LIMIT %s
           FOR UPDATE
    """
    return [(row.user_id, bytes(row.secret)) for row in fetch(db, statement, [after, number])]


def replace_secret(db: Connection, user_id: int, secret: bytes) -> None:
    """Replace the encrypted secret of an account's app."""
    execute(db, "UPDATE totp SET secret = %s WHERE user_id = %s", [secret, user_id])
