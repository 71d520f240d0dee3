"""All SQL there is: one module for each table.

Each function takes the connection first, binds its parameters, and leaves the transaction to its
caller.  PostgreSQL parses and plans a statement once for each connection, and not at each execution
(PREPARE in its documentation).  So a parameter has a cast where its place does not tell its type.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from psycopg2 import sql
from psycopg2.errors import FeatureNotSupported
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

Parameters = Sequence[Any] | Mapping[str, Any]

_prepared: WeakKeyDictionary[Connection, dict[str, str]] = WeakKeyDictionary()
"""What executes each statement that a connection has prepared."""


def execute(db: Connection, statement: str, parameters: Parameters = ()) -> None:
    """Execute a statement that returns no rows."""
    with db.cursor() as cursor:
        _execute(cursor, statement, parameters)


def fetch(db: Connection, statement: str, parameters: Parameters) -> list[tuple[Any, ...]]:
    """Execute a statement, and return its rows."""
    with db.cursor() as cursor:
        _execute(cursor, statement, parameters)
        return cursor.fetchall()


def _execute(cursor: Cursor, statement: str, parameters: Parameters) -> None:
    prepared = _prepared.setdefault(cursor.connection, {})
    if statement not in prepared:
        prepared[statement] = _prepare(cursor, statement, parameters, f"s{len(prepared)}")
    try:
        cursor.execute(prepared[statement], parameters)
    except FeatureNotSupported:
        # A migration has changed a column's type, and so what the statement returns.
        cursor.connection.close()
        raise


def _prepare(cursor: Cursor, statement: str, parameters: Parameters, name: str) -> str:
    """Prepare it under this name, and return what executes it with the same parameters."""
    if isinstance(parameters, Mapping):
        names = [each for each in parameters if f"%({each})s" in statement]
        statement %= {each: f"${number}" for number, each in enumerate(names, 1)}
        places = [sql.Placeholder(each) for each in names]
    else:
        statement %= tuple(f"${number}" for number in range(1, len(parameters) + 1))
        places = [sql.Placeholder()] * len(parameters)
    called = sql.Identifier(name)
    cursor.execute(sql.SQL("PREPARE {} AS {}").format(called, sql.SQL(statement)))
    values = sql.SQL("({})").format(sql.SQL(", ").join(places)) if places else sql.SQL("")
    return sql.SQL("EXECUTE {}{}").format(called, values).as_string(cursor)
