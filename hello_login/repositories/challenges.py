"""The table used_challenges: one row for each challenge that a browser has answered.

A row's id is the SHA-256 of the challenge.
"""

from datetime import timedelta

from psycopg2.extensions import connection as Connection

from . import fetch


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
