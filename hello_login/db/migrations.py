"""Applies the yoyo migration files, tells which ones are missing, and gives the role its settings.

A PostgreSQL advisory lock lets one process at a time migrate.  The connection that changes the
schema holds the lock.  If the process is killed, PostgreSQL releases the lock only when the running
statement has ended, so the next process never sees half of it.  A migration and its row in yoyo's
table are written in one transaction (yoyo itself uses two).
"""

import hashlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg2
import yoyo
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from . import connections

ADVISORY_LOCK = 0x68656C6C6F
"""An arbitrary key that nothing else in the database uses: "hello"."""

MAX_COUNTED_ROWS = 10_000
"""Rows of a table.  Each start counts up to this number, in milliseconds; 10 million take 3 s."""


def migrate(url: str, *folders: Path) -> Iterator[tuple[str, float]]:
    """Apply the missing migrations; yield the name and the seconds of each when it is applied.

    All of a folder are applied before those of the next one.
    Raises SystemExit with the reason when a migration fails; those before it stay applied.
    """
    # yoyo's own parser of URLs lacks some of libpq's features, such as several hosts.
    arguments = urlencode(connections.parameters(url), quote_via=quote)
    with yoyo.get_backend(f"postgresql://?{arguments}") as backend:
        # The timeouts of requests, which the role may have, would cancel a long migration.
        backend.execute("SET statement_timeout TO 0")
        backend.execute("SET lock_timeout TO 0")
        backend.execute("SELECT pg_advisory_lock(:key)", {"key": ADVISORY_LOCK})
        # We hold the advisory lock, so a process that left yoyo's own lock behind is dead.
        backend.break_lock()
        with backend.lock():
            found = [yoyo.read_migrations(str(folder)) for folder in folders]
            missing = _list_missing(backend, found)
            applied = [each for of_folder in found for each in of_folder if each not in missing]
            _check_unedited(backend, applied)
            for migration in missing:
                started = time.monotonic()
                try:
                    with backend.transaction():
                        migration.process_steps(backend, "apply")
                        backend.mark_one(migration, log=False)
                        _store_checksum(backend, migration)
                except psycopg2.Error as error:
                    statement = ((error.cursor and error.cursor.query) or b"").decode()
                    raise SystemExit(
                        f"Migration {migration.id} failed, and changed nothing: {error}"
                        f"The statement was:\n{statement}"
                    ) from error
                yield migration.id, time.monotonic() - started


def _list_missing(backend: Any, found: list[Any]) -> list[Any]:
    """Return the migrations to apply, in order.  Raises SystemExit if their order is not known."""
    try:
        return [each for of_folder in found for each in backend.to_apply(of_folder)]
    except yoyo.exceptions.BadMigration as error:
        raise SystemExit(f"No migration was applied: {error}: correct its `depends`.") from error


def _check_unedited(backend: Any, applied: list[Any]) -> None:
    """Raise SystemExit if a file was edited after it was applied; yoyo would not notice.

    A migration without a stored checksum, such as one applied by yoyo's own command, gets one now.
    """
    with backend.transaction():
        backend.execute("""
            CREATE TABLE IF NOT EXISTS _yoyo_checksums (
                migration_id   text      PRIMARY KEY,
                applied_at_utc timestamp NOT NULL,
                sha256         text      NOT NULL
            )
        """)
        stored = backend.execute("""
            SELECT migration_id, sha256
              FROM _yoyo_checksums
              JOIN _yoyo_migration USING (migration_id, applied_at_utc)
        """)
        checksums = dict(stored.fetchall())
        for migration in applied:
            if migration.id not in checksums:
                _store_checksum(backend, migration)
            elif checksums[migration.id] != _checksum(migration):
                raise SystemExit(
                    f"Migration {migration.id} was edited after it was applied: restore the file, "
                    "and put the change into a new one."
                )


def _store_checksum(backend: Any, migration: Any) -> None:
    backend.execute(
        """
        INSERT INTO _yoyo_checksums (migration_id, applied_at_utc, sha256)
        SELECT migration_id, applied_at_utc, :sha256
          FROM _yoyo_migration
         WHERE migration_id = :migration_id
            ON CONFLICT (migration_id) DO UPDATE
           SET applied_at_utc = excluded.applied_at_utc,
               sha256 = excluded.sha256
        """,
        {"migration_id": migration.id, "sha256": _checksum(migration)},
    )


def _checksum(migration: Any) -> str:
    text = Path(migration.path).read_bytes().replace(b"\r\n", b"\n")
    return hashlib.sha256(text).hexdigest()


def names(*folders: Path) -> list[str]:
    """Return the names of the migrations in each folder, in order."""
    stems = (path.stem for folder in folders for path in sorted(folder.glob("*.sql")))
    return [stem for stem in stems if not stem.endswith(".rollback")]


def missing(db: Connection, wanted: list[str]) -> list[str]:
    """Return the wanted migrations that are not applied.  The transaction stays usable."""
    with db.cursor() as cursor:
        cursor.execute("SELECT to_regclass('_yoyo_migration') IS NOT NULL")
        if cursor.fetchone() == (False,):
            return wanted
        cursor.execute("SELECT migration_id FROM _yoyo_migration")
        applied = {name for (name,) in cursor.fetchall()}
    return [name for name in wanted if name not in applied]


def role_statements(db: Connection, wanted: Mapping[str, str]) -> str:
    """Return the statements that give the session's role these settings in this database.

    wanted: values by name, in the units of pg_settings.
    Those that the session has already are left out.  The transaction stays usable.
    """
    template = sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} TO {};")
    statements = []
    with db.cursor() as cursor:
        for name, value in wanted.items():
            # setting has no unit, unlike what SHOW returns.
            cursor.execute(
                "SELECT current_user, current_database(), setting FROM pg_settings WHERE name = %s",
                [name],
            )
            ((role, database, current),) = cursor.fetchall()
            if current != value:
                place = sql.Identifier(role), sql.Identifier(database)
                statement = template.format(*place, sql.SQL(name), sql.Literal(value))
                statements.append(statement.as_string(cursor))
    return " ".join(statements)


def alter_role(db: Connection, statements: str) -> None:
    """Execute the statements of role_statements(), and commit.  Raises psycopg2.Error."""
    with db.cursor() as cursor:
        # PostgreSQL refuses a second process that alters the same role at the same time.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
        cursor.execute(statements)
    db.commit()


def count_rows(db: Connection) -> list[tuple[str, int]]:
    """Return the current schema's tables, each with its number of rows.

    Leaves out yoyo's own tables, and partitions: their rows are rows of their table.
    Counting stops at MAX_COUNTED_ROWS + 1, so that a large table takes no longer than a small one.
    """
    with db.cursor() as cursor:
        cursor.execute(r"""
            SELECT relname
              FROM pg_class
             WHERE relnamespace = current_schema()::regnamespace
               AND relkind IN ('r', 'p')
               AND NOT relispartition
               AND relname NOT LIKE '%yoyo\_%'
             ORDER BY relname
        """)
        tables = [name for (name,) in cursor.fetchall()]
        return [(name, _count(cursor, name)) for name in tables]


def _count(cursor: Any, table: str) -> int:
    some = sql.SQL("SELECT count(*) FROM (SELECT FROM {} LIMIT {}) AS counted")
    cursor.execute(some.format(sql.Identifier(table), sql.Literal(MAX_COUNTED_ROWS + 1)))
    return int(cursor.fetchone()[0])
