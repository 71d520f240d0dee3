"""Brings the schema up to date with the yoyo migration files.

One process at a time does so, under an advisory lock of PostgreSQL.  The lock is held by the same
connection that changes the schema: when this process is killed, PostgreSQL releases it only after
the statement that runs has ended, so the next process never meets half of it.  A migration and the
note that it was applied are one transaction (yoyo itself makes them two).
"""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import psycopg2
import yoyo
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from . import connections

ADVISORY_LOCK = 0x68656C6C6F
"""Any number that nothing else in the database uses: "hello"."""

MOST_COUNTED = 10_000
"""Rows of a table.  They are counted in milliseconds at each start; 10 million rows take 3 s."""


class Applied(NamedTuple):
    """A migration that was just applied."""

    name: str
    seconds: float


def migrate(url: str, folder: Path) -> Iterator[Applied]:
    """Apply what is missing, giving each migration as it is applied.

    Raises SystemExit with the reason when one fails; the schema is then as the one before left it.
    """
    # In yoyo's own reading of a URL some of what libpq takes is missing: several hosts, for one.
    arguments = urlencode(connections.parameters(url), quote_via=quote)
    with yoyo.get_backend(f"postgresql://?{arguments}") as backend:
        backend.execute("SELECT pg_advisory_lock(:key)", {"key": ADVISORY_LOCK})
        # Of us, whoever left yoyo's own lock was killed, for the advisory lock is ours.
        backend.break_lock()
        with backend.lock():
            found = yoyo.read_migrations(str(folder))
            missing = backend.to_apply(found)
            _check_unedited(backend, [each for each in found if each not in missing])
            for migration in missing:
                started = time.monotonic()
                try:
                    with backend.transaction():
                        migration.process_steps(backend, "apply")
                        backend.mark_one(migration, log=False)
                        _note_checksum(backend, migration)
                except psycopg2.Error as error:
                    statement = ((error.cursor and error.cursor.query) or b"").decode()
                    raise SystemExit(
                        f"Migration {migration.id} failed, and changed nothing: {error}"
                        f"The statement was:\n{statement}"
                    ) from error
                yield Applied(migration.id, time.monotonic() - started)


def _check_unedited(backend: Any, applied: list[Any]) -> None:
    """Refuse files that are not what was applied, which yoyo itself would not notice.

    What was applied by yoyo alone, or before there were checksums, is taken as it is now.
    """
    with backend.transaction():
        backend.execute("""
            CREATE TABLE IF NOT EXISTS _yoyo_checksums (
                migration_id   text      PRIMARY KEY,
                applied_at_utc timestamp NOT NULL,
                sha256         text      NOT NULL
            )
        """)
        noted = backend.execute("""
            SELECT migration_id, sha256
              FROM _yoyo_checksums
              JOIN _yoyo_migration USING (migration_id, applied_at_utc)
        """)
        checksums = dict(noted.fetchall())
        for migration in applied:
            if migration.id not in checksums:
                _note_checksum(backend, migration)
            elif checksums[migration.id] != _checksum(migration):
                raise SystemExit(
                    f"Migration {migration.id} was edited after it was applied: restore the file, "
                    "and put the change into a new one."
                )


def _note_checksum(backend: Any, migration: Any) -> None:
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


def names(folder: Path) -> list[str]:
    """The migrations that there are, in order."""
    return sorted(
        path.stem for path in folder.glob("*.sql") if not path.name.endswith(".rollback.sql")
    )


def missing(db: Connection, wanted: list[str]) -> list[str]:
    """Those of the wanted migrations that the database has not.  Leaves the transaction usable."""
    with db.cursor() as cursor:
        cursor.execute("SELECT to_regclass('_yoyo_migration') IS NOT NULL")
        if cursor.fetchone() == (False,):
            return wanted
        cursor.execute("SELECT migration_id FROM _yoyo_migration")
        applied = {name for (name,) in cursor.fetchall()}
    return [name for name in wanted if name not in applied]


def count_rows(db: Connection) -> list[tuple[str, int]]:
    """Return the current schema's tables, without yoyo's own, each with its number of rows.

    The number is at most MOST_COUNTED + 1, so that a large table costs no more than a small one.
    """
    with db.cursor() as cursor:
        cursor.execute(r"""
            SELECT tablename
              FROM pg_tables
             WHERE schemaname = current_schema()
               AND tablename NOT LIKE '%yoyo\_%'
             ORDER BY tablename
        """)
        tables = [name for (name,) in cursor.fetchall()]
        return [(name, _count(cursor, name)) for name in tables]


def _count(cursor: Any, table: str) -> int:
    some = sql.SQL("SELECT count(*) FROM (SELECT FROM {} LIMIT {}) AS counted")
    cursor.execute(some.format(sql.Identifier(table), sql.Literal(MOST_COUNTED + 1)))
    return int(cursor.fetchone()[0])
