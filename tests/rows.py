"""Rows that tests insert, read and delete."""

from contextlib import closing
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from hello_login.repositories import passkeys, users

NESTED_LOOP = """
    SET LOCAL enable_hashagg TO off;
    SET LOCAL enable_hashjoin TO off;
    SET LOCAL enable_mergejoin TO off;
    SET LOCAL enable_sort TO off;
    SET LOCAL enable_indexscan TO off;
    SET LOCAL enable_bitmapscan TO off
"""
"""Makes PostgreSQL choose a plan that executes a subquery again for each row of the table."""

DROP_NEXT_MONTH = """
    DO $$
    BEGIN
        EXECUTE to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month',
                        '"DROP TABLE account_events_"YYYY_MM');
    END
    $$
"""
"""Drops the partition of next month's events."""


def add_user(db: Connection, email: str = "ada@example.com") -> int:
    """Insert a user who can't log in, and return the id."""
    user_id = users.insert(db, email=email, name="Ada", password_hash="a hash")
    assert user_id is not None
    return user_id


def add_passkey(db: Connection, user_id: int, passkey_id: bytes = b"phone", **fields: Any) -> bytes:
    """Insert a passkey with a key that verifies nothing, and return its id."""
    row: dict[str, Any] = {"public_key": b"a key", "sign_count": 0, "name": "Phone"}
    row |= {"may_sync": False, "synced": False, "transports": [], **fields}
    assert passkeys.insert(db, passkey_id, user_id, **row)
    return passkey_id


def add_expired_limit(db: Connection) -> None:
    """Insert a rate limit whose failures are forgotten."""
    execute(
        db, "INSERT INTO throttles (key, forget_at) VALUES (sha256(''), now() - interval '1 day')"
    )


def execute(db: Connection, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Execute a statement, and return its rows; a % needs no doubling if it has no parameters."""
    with db.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        # A SELECT without columns has an empty description.
        return cursor.fetchall() if cursor.description is not None else []


def query(url: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Execute and commit a statement on a connection of its own, and return its rows."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        return execute(connection, statement, *parameters)


def empty_tables(url: str) -> None:
    """Delete all rows of the application, and let ids begin at 1 again."""
    # A transaction that another test has left open would block this one without a limit.
    with closing(psycopg2.connect(url, options="-c lock_timeout=60s")) as connection:
        for table in ("users", "mails", "tokens", "throttles", "account_events", "used_challenges"):
            execute(connection, f"DELETE FROM {table}")  # noqa: S608
        for table in ("users", "mails", "account_events"):
            execute(connection, f"ALTER SEQUENCE {table}_id_seq RESTART")
        connection.commit()
