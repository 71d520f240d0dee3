"""All SQL of the application: one module for each table, and one for expired rows.

Each function takes the connection first, binds its parameters, and leaves the transaction to its
caller.  PostgreSQL parses and plans a statement once for each connection of the pool (PREPARE in
its documentation).  So a parameter has a cast if its position does not determine its type.

A prepared statement is named by a hash of its text.  A pooler that lets several connections share a
session may then cause an error, but can't execute another statement in place of this one.  With
DATABASE_POOLER=transaction, no statement is prepared.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import NamedTupleCursor

from ..db.batching import BatchingConnection

Parameters = Sequence[Any] | Mapping[str, Any]


def execute(db: Connection, statement: str, parameters: Parameters = ()) -> None:
    """Execute a statement that returns no rows.

    A BatchingConnection sends it with the next statement, or before the commit, and raises its
    errors then.
    """
    with _open_cursor(db) as cursor:
        command = _mogrify(cursor, statement, parameters)
        if isinstance(db, BatchingConnection):
            db.waiting.append(command)
        else:
            cursor.execute(command)


def fetch(db: Connection, statement: str, parameters: Parameters) -> list[Any]:
    """Execute a statement, and return its rows as named tuples: row.id is the column id."""
    with _open_cursor(db, cursor_factory=NamedTupleCursor) as cursor:
        command = _mogrify(cursor, statement, parameters)
        if isinstance(db, BatchingConnection):
            db.send(cursor, command)
        else:
            cursor.execute(command)
        return list(cursor.fetchall())


def _open_cursor(db: Connection, **options: Any) -> Any:
    return (db.open_cursor if isinstance(db, BatchingConnection) else db.cursor)(**options)


def _mogrify(cursor: Cursor, statement: str, parameters: Parameters) -> bytes:
    """Return the command that executes the statement.

    On a BatchingConnection that prepares statements, prepare it first if it is new.
    """
    db = cursor.connection
    if isinstance(db, BatchingConnection) and db.prepared is not None:
        if statement not in db.prepared:
            db.prepared[statement] = _prepare(cursor, statement, parameters)
        statement = db.prepared[statement]
    return cursor.mogrify(statement, parameters)


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
