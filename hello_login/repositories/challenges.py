"""The table used_challenges: one row for each challenge that a browser has answered.

A row's id is the SHA-256 of the challenge.
"""

from datetime import timedelta

from psycopg2.extensions import connection as Connection

from . import execute, fetch


def insert(db: Connection, challenge_id: bytes, kept: timedelta) -> bool:
    """Store that a challenge was used; return False if it was used before.

    Waits for a concurrent use of the same challenge.  kept: the time until the row may be deleted.
    """
    statement = """
        INSERT INTO used_challenges (id, expires_at)
        VALUES (%s, now() + %s::interval)
            ON CONFLICT DO NOTHING
     RETURNING id
    """
    return bool(fetch(db, statement, [challenge_id, kept]))


def delete_expired(db: Connection) -> None:
    """Delete up to ten expired rows; skip those that others delete."""
    statement = """
        DELETE FROM used_challenges
         WHERE id = ANY (ARRAY(SELECT id
                                 FROM used_challenges
                                WHERE expires_at < now()
                                LIMIT 10
                                  FOR UPDATE SKIP LOCKED))
    """
    execute(db, statement)
