"""The table tokens: one row for each link that was not used.

A row's id is the SHA-256 of the token in the link: a reader of the table can't use the link.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from . import execute, fetch


class Link(NamedTuple):
    """A link that has not expired."""

    purpose: str
    user_id: int | None
    address: str
    expires_at: datetime


def insert(
    db: Connection,
    token_id: bytes,
    purpose: str,
    address: str,
    user_id: int | None,
    lifetime: timedelta,
) -> None:
    """Add a link that expires after its lifetime."""
    statement = """
        INSERT INTO tokens (id, purpose, user_id, address, expires_at)
        VALUES (%s, %s, %s, %s, now() + %s::interval)
    """
    execute(db, statement, [token_id, purpose, user_id, address, lifetime])


def insert_for_mail(
    db: Connection,
    token_id: bytes,
    mail_id: int,
    purpose: str,
    address: str,
    user_id: int | None,
    lifetime: timedelta,
) -> bool:
    """Add a link for a mail; return False if the mail does not wait any more.

    A link that undoes a change expires after its lifetime since the change, others since now.
    Locks the mail's row, so that no link is added after another transaction has deleted it.
    """
    statement = """
        INSERT INTO tokens (id, purpose, user_id, address, expires_at)
        SELECT %(token_id)s::bytea, %(purpose)s::text, %(user_id)s::bigint, %(address)s::text,
               CASE WHEN %(purpose)s = 'undo' THEN created_at ELSE now() END
                 + %(lifetime)s::interval
          FROM mails
         WHERE id = %(mail_id)s
           FOR UPDATE
     RETURNING id
    """
    values = {
        "token_id": token_id,
        "mail_id": mail_id,
        "purpose": purpose,
        "user_id": user_id,
        "address": address,
        "lifetime": lifetime,
    }
    return bool(fetch(db, statement, values))


def find(db: Connection, token_id: bytes) -> Link | None:
    """Return the link with this id, or None if it was used or has expired."""
    statement = """
        SELECT purpose, user_id, address, expires_at
          FROM tokens
         WHERE id = %s
           AND expires_at > now()
    """
    rows = fetch(db, statement, [token_id])
    return Link(**rows[0]._asdict()) if rows else None


def take(db: Connection, token_id: bytes, purpose: str) -> Link | None:
    """Delete the link with this id and purpose and return it, or None if there is none.

    Waits for a concurrent use of the same link.
    """
    statement = """
        DELETE FROM tokens
         WHERE id = %s
           AND purpose = %s
           AND expires_at > now()
     RETURNING purpose, user_id, address, expires_at
    """
    rows = fetch(db, statement, [token_id, purpose])
    return Link(**rows[0]._asdict()) if rows else None


def delete_of_user(db: Connection, user_id: int, undo_after: datetime | None = None) -> None:
    """Delete the account's links.

    Of those that undo a change, only those that expire after this time are deleted, or none.
    """
    statement = """
        DELETE FROM tokens
         WHERE user_id = %s
           AND (purpose <> 'undo' OR expires_at > %s)
    """
    execute(db, statement, [user_id, undo_after])
