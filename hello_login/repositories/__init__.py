"""All SQL of the application, one module for each table.

Each function takes the connection first, binds its parameters, and leaves the transaction to its
caller.  PostgreSQL parses and plans a statement once for each connection (PREPARE in its
documentation).  So a parameter has a cast if its position does not determine its type.

A prepared statement is named by a hash of its text.  A pooler that lets several connections share a
session may then cause an error, but can't execute another statement in place of this one.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from psycopg2 import sql
from psycopg2.errors import FeatureNotSupported, ReadOnlySqlTransaction
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import NamedTupleCursor

Parameters = Sequence[Any] | Mapping[str, Any]

_prepared: WeakKeyDictionary[Connection, dict[str, str]] = WeakKeyDictionary()
"""For each connection, the EXECUTE of each statement that it has prepared."""


def execute(db: Connection, statement: str, parameters: Parameters = ()) -> None:
    """Execute a statement that returns no rows."""
    with db.cursor() as cursor:
        _execute(cursor, statement, parameters)


def fetch(db: Connection, statement: str, parameters: Parameters) -> list[Any]:
    """Execute a statement, and return its rows as named tuples: row.id is the column id."""
    with db.cursor(cursor_factory=NamedTupleCursor) as cursor:
        _execute(cursor, statement, parameters)
        return cursor.fetchall()


def _execute(cursor: Cursor, statement: str, parameters: Parameters) -> None:
    prepared = _prepared.setdefault(cursor.connection, {})
    if statement not in prepared:
        prepared[statement] = _prepare(cursor, statement, parameters)
    try:
        cursor.execute(prepared[statement], parameters)
    except (FeatureNotSupported, ReadOnlySqlTransaction):
        # A migration has changed the type of a column that the statement returns, or the server is
        # no longer the primary.  A new connection helps in both cases.
        cursor.connection.close()
        raise


def _prepare(cursor: Cursor, statement: str, parameters: Parameters) -> str:
    """Prepare a statement, and return the EXECUTE that takes the same parameters."""
    name = sql.Identifier(f"s{hashlib.sha256(statement.encode()).hexdigest()[:16]}")
    if isinstance(parameters, Mapping):
        # Numbered in the order of the text, because the name must stand for one numbering.
        keys = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
        statement %= {key: f"${number}" for number, key in enumerate(keys, 1)}
        places = [sql.Placeholder(key) for key in keys]
    else:
        statement %= tuple(f"${number}" for number in range(1, len(parameters) + 1))
        places = [sql.Placeholder()] * len(parameters)
    cursor.execute(sql.SQL("PREPARE {} AS {}").format(name, sql.SQL(statement)))
    values = sql.SQL("({})").format(sql.SQL(", ").join(places)) if places else sql.SQL("")
    return sql.SQL("EXECUTE {}{}").format(name, values).as_string(cursor)
