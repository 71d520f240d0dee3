"""The table recovery_codes: one row for each recovery code that was not used.

A row's id is the SHA-256 of the user's id and the code: a reader of the table can't use the code.
"""

from collections.abc import Sequence

from psycopg2.extensions import connection as Connection

from . import execute, fetch


def insert(db: Connection, user_id: int, code_ids: Sequence[bytes]) -> None:
    """Add recovery codes of an account."""
    statement = "INSERT INTO recovery_codes (id, user_id) SELECT unnest(%s::bytea[]), %s::bigint"
    execute(db, statement, [list(code_ids), user_id])


def take(db: Connection, user_id: int, code_id: bytes) -> bool:
    """Delete a recovery code of an account; return False if there is no such code."""
    statement = """
        DELETE FROM recovery_codes
         WHERE id = %s
           AND user_id = %s
     RETURNING id
    """
    return bool(fetch(db, statement, [code_id, user_id]))


def count(db: Connection, user_id: int) -> int:
    """Return the number of the account's recovery codes."""
    statement = "SELECT count(*) AS number FROM recovery_codes WHERE user_id = %s"
    (row,) = fetch(db, statement, [user_id])
    return int(row.number)


def delete_of_user(db: Connection, user_id: int) -> None:
    """Delete the account's recovery codes."""
    execute(db, "DELETE FROM recovery_codes WHERE user_id = %s", [user_id])
