"""Bringing the schema up to date."""

import re
import shutil
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg2
import pytest
import yoyo
from psycopg2.extensions import connection as Connection

from hello_login.db import migrations
from tests.conftest import ROOT, NewDatabase

SQL = ROOT / "sql"

SCHEMA = """
    SELECT table_name, column_name, data_type, is_nullable, column_default
      FROM information_schema.columns
     WHERE table_schema = 'public'
       AND table_name NOT LIKE '%yoyo%'
 UNION ALL
    SELECT tablename, indexdef, '', '', ''
      FROM pg_indexes
     WHERE schemaname = 'public'
       AND tablename NOT LIKE '%yoyo%'
     ORDER BY 1, 2
"""


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()
    finally:
        connection.close()


def test_each_migration_is_applied_once_and_in_order(new_database: NewDatabase) -> None:
    url = new_database()
    applied = list(migrations.migrate(url, SQL))
    assert [each.name for each in applied] == migrations.names(SQL)
    assert all(each.seconds > 0 for each in applied)
    assert list(migrations.migrate(url, SQL)) == []


def test_ten_processes_at_once_apply_each_migration_once(new_database: NewDatabase) -> None:
    url = new_database()
    applied: list[str] = []

    def migrate() -> None:
        applied.extend(each.name for each in migrations.migrate(url, SQL))

    threads = [threading.Thread(target=migrate) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == migrations.names(SQL)


def test_the_lock_of_a_process_that_was_killed_is_in_nobodys_way(new_database: NewDatabase) -> None:
    url = new_database()
    with yoyo.get_backend(url) as backend:
        backend._insert_lock_row(4711, timeout=0)
    assert [each.name for each in migrations.migrate(url, SQL)] == migrations.names(SQL)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A copy of the migrations, which all are applied to url, to be changed."""
    return Path(shutil.copytree(SQL, tmp_path / "sql"))


def test_a_migration_that_fails_leaves_the_schema_as_it_was(url: str, files: Path) -> None:
    schema = query(url, SCHEMA)
    broken = files / "9999.broken.sql"
    broken.write_text("CREATE TABLE half (id int); ALTER TABLE nothing ADD COLUMN id int;")
    with pytest.raises(SystemExit) as end:
        list(migrations.migrate(url, files))
    told = str(end.value)
    assert '9999.broken failed, and changed nothing: relation "nothing" does not exist' in told
    assert told.strip().endswith("The statement was:\nALTER TABLE nothing ADD COLUMN id int;")
    assert query(url, SCHEMA) == schema
    broken.write_text("CREATE TABLE whole (id int);")
    assert [each.name for each in migrations.migrate(url, files)] == ["9999.broken"]


def test_whoever_is_killed_before_a_migration_is_noted_as_applied_can_begin_again(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> None:
        raise Killed

    url = new_database()
    with monkeypatch.context() as patch:
        patch.setattr(yoyo.backends.DatabaseBackend, "mark_one", kill)
        with pytest.raises(Killed):
            list(migrations.migrate(url, SQL))
    assert query(url, SCHEMA) == []
    assert [each.name for each in migrations.migrate(url, SQL)] == migrations.names(SQL)


def test_every_migration_goes_down_and_up_again(new_database: NewDatabase) -> None:
    url = new_database()
    empty = query(url, SCHEMA)
    list(migrations.migrate(url, SQL))
    schema = query(url, SCHEMA)
    with yoyo.get_backend(url) as backend, backend.lock():
        backend.rollback_migrations(backend.to_rollback(yoyo.read_migrations(str(SQL))))
    assert query(url, SCHEMA) == empty
    list(migrations.migrate(url, SQL))
    assert query(url, SCHEMA) == schema


def test_a_file_that_was_edited_after_it_was_applied_is_noticed(url: str, files: Path) -> None:
    edited = files / "0001.users.sql"
    text = edited.read_text()
    edited.write_text(text + "ALTER TABLE users ADD COLUMN age integer;\n")
    (files / "9999.new.sql").write_text("CREATE TABLE new (id int);")
    with pytest.raises(SystemExit, match=r"^Migration 0001\.users was edited after it was applied"):
        list(migrations.migrate(url, files))
    assert ("new",) not in query(url, "SELECT tablename::text FROM pg_tables")
    edited.write_text(text)
    assert [each.name for each in migrations.migrate(url, files)] == ["9999.new"]


def test_a_file_that_was_edited_and_applied_again_by_yoyo_itself_is_taken_as_it_is(
    url: str, files: Path
) -> None:
    last = migrations.names(files)[-1]
    with yoyo.get_backend(url) as backend, backend.lock():
        (found,) = [each for each in yoyo.read_migrations(str(files)) if each.id == last]
        backend.rollback_one(found)
    edited = files / f"{last}.sql"
    edited.write_text(f"{edited.read_text()}\nSELECT 1;\n")
    with yoyo.get_backend(url) as backend, backend.lock():
        backend.apply_migrations(backend.to_apply(yoyo.read_migrations(str(files))))
    assert list(migrations.migrate(url, files)) == []


def test_line_ends_of_windows_are_no_change(url: str, files: Path) -> None:
    for path in files.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert list(migrations.migrate(url, files)) == []


def test_what_was_applied_before_there_were_checksums_is_taken_as_it_is(
    new_database: NewDatabase,
) -> None:
    url = new_database()
    list(migrations.migrate(url, SQL))
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE _yoyo_checksums")
    connection.close()
    assert list(migrations.migrate(url, SQL)) == []
    noted = query(url, "SELECT migration_id FROM _yoyo_checksums ORDER BY 1")
    assert [name for (name,) in noted] == migrations.names(SQL)


@pytest.mark.parametrize("name", migrations.names(SQL))
def test_a_migration_takes_nothing_away_from_the_version_that_still_serves(name: str) -> None:
    """Before the first release of a version, the one before it works on the new schema."""
    statements = (SQL / f"{name}.sql").read_text().upper()
    assert not re.search(r"\bDROP\b|\bRENAME\b|\bTYPE\b|TRUNCATE|DELETE FROM", statements)
    for column in re.findall(r"ADD COLUMN (.*)", statements):
        assert "NOT NULL" not in column or "DEFAULT" in column


def test_every_migration_has_its_rollback() -> None:
    """yoyo takes a missing file for one with nothing to do."""
    for name in migrations.names(SQL):
        assert (SQL / f"{name}.rollback.sql").read_text().strip()


def test_the_names_are_in_the_order_of_their_numbers() -> None:
    numbers = [name.split(".")[0] for name in migrations.names(SQL)]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


def test_nothing_is_missing_from_a_migrated_database(db: Connection) -> None:
    assert migrations.missing(db, migrations.names(SQL)) == []


def test_what_was_not_applied_yet_is_missing(db: Connection) -> None:
    assert migrations.missing(db, ["0001.users", "9999.new"]) == ["9999.new"]


def test_everything_is_missing_from_an_empty_database(new_database: NewDatabase) -> None:
    connection = psycopg2.connect(new_database())
    assert migrations.missing(connection, ["0001.users"]) == ["0001.users"]
    connection.close()


def test_tables_are_counted_without_yoyos_own(db: Connection) -> None:
    tables = ["account_events", "sessions", "throttles", "users"]
    assert migrations.count_rows(db) == [(table, 0) for table in tables]


def test_every_url_that_postgresql_takes_will_do(new_database: NewDatabase) -> None:
    """yoyo's own reading of URLs differs from libpq's."""
    url = new_database()
    name = psycopg2.extensions.parse_dsn(url)["dbname"]
    folder = quote(psycopg2.extensions.parse_dsn(url)["host"], safe="")
    unusual = f"postgres://postgres:a#b%3F@{folder},{folder}:5432,5432/%74{name[1:]}"
    assert [each.name for each in migrations.migrate(unusual, SQL)] == migrations.names(SQL)


def test_a_schema_is_changed_on_a_server_that_takes_writes_alone(new_database: NewDatabase) -> None:
    url = new_database()
    with closing(psycopg2.connect(url)) as operator, operator.cursor() as cursor:
        operator.autocommit = True
        name = operator.info.dbname
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(psycopg2.OperationalError, match="read-only"):
        list(migrations.migrate(url, SQL))
