"""All SQL there is: one module for each table.

Each function takes the connection first, binds its parameters, and leaves the transaction to its
caller.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg2.extensions import connection as Connection

Parameters = Sequence[Any] | Mapping[str, Any]


def execute(db: Connection, statement: str, parameters: Parameters = ()) -> None:
    """Execute a statement that returns no rows."""
    with db.cursor() as cursor:
        cursor.execute(statement, parameters)


def fetch(db: Connection, statement: str, parameters: Parameters) -> list[tuple[Any, ...]]:
    """Execute a statement, and return its rows."""
    with db.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall()
