"""The table mails: one row for each mail that waits to be sent, or was given up."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from psycopg2.extensions import connection as Connection

from . import execute, fetch


class Mail(NamedTuple):
    """A mail that waits to be sent."""

    id: int
    kind: str
    recipient: str
    user_id: int | None
    facts: dict[str, Any]
    created_at: datetime
    tries: int
    """The number of tries, including the one for which the mail was claimed."""

    try_at: datetime | None
    """The time of the next try, or None if it was given up."""


def insert(
    db: Connection, kind: str, recipient: str, *, user_id: int | None = None, **facts: str | None
) -> None:
    """Add a mail, to be sent after the commit."""
    statement = """
        INSERT INTO mails (kind, recipient, user_id, facts)
        VALUES (%s, %s, %s, %s::jsonb)
    """
    execute(db, statement, [kind, recipient, user_id, json.dumps(facts)])


def insert_notice(
    db: Connection, kind: str, user_id: int, recipient: str | None = None, **facts: str | None
) -> None:
    """Add a mail to the account's address, or to another recipient.

    Add nothing while an alike notice to the same address waits for its first try.
    It is deleted with the account, unless it tells of that.
    """
    statement = """
        INSERT INTO mails (kind, recipient, facts, user_id)
        SELECT %(kind)s::text, coalesce(%(recipient)s::text, email), %(facts)s::jsonb,
               CASE WHEN %(kind)s <> 'deleted' THEN id END
          FROM users
         WHERE id = %(user_id)s
           AND NOT EXISTS (SELECT
                             FROM mails
                            WHERE user_id = %(user_id)s
                              AND kind = %(kind)s
                              AND kind <> 'address_changed'
                              AND recipient = coalesce(%(recipient)s::text, users.email)
                              AND facts = %(facts)s::jsonb
                              AND tries = 0)
    """
    values = {"kind": kind, "recipient": recipient, "facts": json.dumps(facts), "user_id": user_id}
    execute(db, statement, values)


def claim(db: Connection, waits: Sequence[timedelta]) -> Mail | None:
    """Return the mail that has waited longest, or None; put its next try off.

    waits: the time after each try until the next one; the last one is for all further tries.
    Mails that others claim at the same time are skipped.
    """
    statement = """
        UPDATE mails
           SET tries = tries + 1,
               try_at = now() + (%(waits)s::interval[])[least(tries + 1, %(last)s)]
         WHERE id = (SELECT id
                       FROM mails
                      WHERE try_at <= now()
                      ORDER BY try_at, id
                      LIMIT 1
                        FOR UPDATE SKIP LOCKED)
     RETURNING id, kind, recipient, user_id, facts, created_at, tries, try_at
    """
    rows = fetch(db, statement, {"waits": list(waits), "last": len(waits)})
    return Mail(**rows[0]._asdict()) if rows else None


def list_all(db: Connection, number: int) -> list[Mail]:
    """Return the mails that wait or were given up, the oldest first; at most this number."""
    statement = """
        SELECT id, kind, recipient, user_id, facts, created_at, tries,
               nullif(try_at, 'infinity') AS try_at
          FROM mails
         ORDER BY id
         LIMIT %s
    """
    return [Mail(**row._asdict()) for row in fetch(db, statement, [number])]


def count(db: Connection, most: int) -> tuple[int, int]:
    """Return the numbers of mails that wait and that were given up, each up to a number."""
    # With this order, and >= in place of =, PostgreSQL reads no more than these rows of one index.
    statement = """
        SELECT (SELECT count(*)
                  FROM (SELECT
                          FROM mails
                         WHERE try_at < 'infinity'
                         ORDER BY try_at, id
                         LIMIT %(most)s) AS waiting) AS waiting,
               (SELECT count(*)
                  FROM (SELECT
                          FROM mails
                         WHERE try_at >= 'infinity'
                         ORDER BY try_at, id
                         LIMIT %(most)s) AS given_up) AS given_up
    """
    ((waiting, given_up),) = fetch(db, statement, {"most": most})
    return waiting, given_up


def delete(db: Connection, mail_id: int) -> None:
    """Delete a mail that was sent."""
    execute(db, "DELETE FROM mails WHERE id = %s", [mail_id])


def delete_with_links(db: Connection, user_id: int, undo_after: datetime | None = None) -> None:
    """Delete the mails that wait with a link for the account.

    Of those that undo a change, only those queued after this time are deleted, or none.
    """
    statement = """
        DELETE FROM mails
         WHERE user_id = %s
           AND (kind IN ('change', 'confirm') OR (kind = 'address_changed' AND created_at > %s))
    """
    execute(db, statement, [user_id, undo_after])


def give_up(db: Connection, mail_id: int) -> None:
    """Try no more to send the mail."""
    execute(db, "UPDATE mails SET try_at = 'infinity' WHERE id = %s", [mail_id])


def delete_given_up(db: Connection, age: timedelta) -> None:
    """Delete up to ten given up mails that are older than this; skip those that others delete."""
    statement = """
        DELETE FROM mails
         WHERE id = ANY (ARRAY(SELECT id
                                 FROM mails
                                WHERE try_at = 'infinity'
                                ORDER BY try_at, id
                                LIMIT 10
                                  FOR UPDATE SKIP LOCKED))
           AND created_at < now() - %s::interval
    """
    execute(db, statement, [age])
