"""The deletion of expired rows, of each table with the column expires_at."""

from typing import Literal

from psycopg2.extensions import connection as Connection

from . import execute

Table = Literal["half_logins", "sessions", "tokens", "used_challenges"]


def delete(db: Connection, table: Table) -> None:
    """Delete up to ten expired rows of the table; skip those that others delete."""
    statement = f"""
        DELETE FROM {table}
         WHERE id = ANY (ARRAY(SELECT id
                                 FROM {table}
                                WHERE expires_at < now()
                                ORDER BY expires_at
                                LIMIT 10
                                  FOR UPDATE SKIP LOCKED))
    """  # noqa: S608 - the table is one of four constants
    execute(db, statement)
