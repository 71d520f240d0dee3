"""Migrations bring the schema up to date, once and in order."""

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

import psycopg2
import pytest
import yoyo
from psycopg2.extensions import connection as Connection

from hello_login.db import migrations
from hello_login.repositories import challenges, events, sessions, throttles, users
from hello_login.repositories.events import Event
from tests.conftest import ROOT, NewDatabase
from tests.rows import add_passkey, add_user, execute, query

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
 UNION ALL
    SELECT relname, option_name, option_value, '', ''
      FROM pg_class, pg_options_to_table(reloptions)
     WHERE relnamespace = 'public'::regnamespace
     ORDER BY 1, 2
"""


def test_each_migration_is_applied_once_and_in_order(new_database: NewDatabase) -> None:
    url = new_database()
    applied = list(migrations.migrate(url, SQL))
    assert [name for name, _ in applied] == migrations.names(SQL)
    assert all(seconds > 0 for _, seconds in applied)
    assert list(migrations.migrate(url, SQL)) == []


def test_ten_processes_at_once_apply_each_migration_once(new_database: NewDatabase) -> None:
    url = new_database()
    applied: list[str] = []

    def migrate() -> None:
        applied.extend(name for name, _ in migrations.migrate(url, SQL))

    threads = [threading.Thread(target=migrate) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == migrations.names(SQL)


def test_the_lock_of_a_killed_process_does_not_block_migrations(new_database: NewDatabase) -> None:
    url = new_database()
    with yoyo.get_backend(url) as backend:
        backend._insert_lock_row(4711, timeout=0)
    assert [name for name, _ in migrations.migrate(url, SQL)] == migrations.names(SQL)


@pytest.fixture
def sql_copy(tmp_path: Path) -> Path:
    """Return a folder with a copy of the migrations that url has, for the test to change."""
    return Path(shutil.copytree(SQL, tmp_path / "sql"))


def test_a_failed_migration_leaves_the_schema_unchanged(url: str, sql_copy: Path) -> None:
    schema = query(url, SCHEMA)
    broken = sql_copy / "9999.broken.sql"
    broken.write_text("CREATE TABLE half (id int); ALTER TABLE nothing ADD COLUMN id int;")
    with pytest.raises(SystemExit) as caught:
        list(migrations.migrate(url, sql_copy))
    message = str(caught.value)
    assert '9999.broken failed, and changed nothing: relation "nothing" does not exist' in message
    assert message.strip().endswith("The statement was:\nALTER TABLE nothing ADD COLUMN id int;")
    assert query(url, SCHEMA) == schema
    broken.write_text("CREATE TABLE whole (id int);")
    assert [name for name, _ in migrations.migrate(url, sql_copy)] == ["9999.broken"]


def test_the_migrations_of_a_further_folder_come_after_all_others(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    url = new_database()
    notes = "CREATE TABLE notes (user_id bigint REFERENCES users)"
    (tmp_path / "0000.notes.sql").write_text(f"-- depends: {migrations.names(SQL)[-1]}\n{notes}")
    (tmp_path / "0000.more.sql").write_text("ALTER TABLE users ADD COLUMN more text")
    applied = [name for name, _ in migrations.migrate(url, SQL, tmp_path)]
    assert applied == [*migrations.names(SQL), "0000.more", "0000.notes"]
    assert list(migrations.migrate(url, SQL, tmp_path)) == []
    (tmp_path / "0000.more.sql").write_text("ALTER TABLE users ADD COLUMN less text")
    with pytest.raises(SystemExit, match=r"^Migration 0000.more was edited"):
        list(migrations.migrate(url, SQL, tmp_path))


def test_a_migration_that_depends_on_none_of_the_folders_is_refused(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    url = new_database()
    (tmp_path / "0001.notes.sql").write_text("-- depends: 0001.nothing\nSELECT 1")
    with pytest.raises(SystemExit) as caught:
        list(migrations.migrate(url, SQL, tmp_path))
    assert str(caught.value) == (
        f"No migration was applied: Could not resolve dependencies in {tmp_path}/0001.notes.sql: "
        "correct its `depends`."
    )
    assert [name for name, _ in migrations.migrate(url, SQL)] == migrations.names(SQL)


def test_a_migration_killed_before_it_is_recorded_can_be_applied_again(
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
    assert [name for name, _ in migrations.migrate(url, SQL)] == migrations.names(SQL)


def test_every_migration_can_be_rolled_back_and_applied_again(new_database: NewDatabase) -> None:
    url = new_database()
    empty = query(url, SCHEMA)
    list(migrations.migrate(url, SQL))
    schema = query(url, SCHEMA)
    with yoyo.get_backend(url) as backend, backend.lock():
        backend.rollback_migrations(backend.to_rollback(yoyo.read_migrations(str(SQL))))
    assert query(url, SCHEMA) == empty
    list(migrations.migrate(url, SQL))
    assert query(url, SCHEMA) == schema


WITHOUT_APP, WITH_APP = 1, 2
ADDED_AT = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)


@pytest.fixture
def before_passkeys(new_database: NewDatabase, tmp_path: Path) -> Iterator[Connection]:
    """Return a connection to a database of the version before passkeys, with two accounts.

    WITH_APP has an authenticator app.
    """
    url = new_database()
    for path in SQL.iterdir():
        if path.name < "0010":
            shutil.copy(path, tmp_path)
    list(migrations.migrate(url, tmp_path))
    with closing(psycopg2.connect(url)) as connection:
        for user_id in (WITHOUT_APP, WITH_APP):
            assert add_user(connection, f"{user_id}@example.com") == user_id
        statement = """
            INSERT INTO totp (user_id, secret, last_step, created_at, told_at)
            VALUES (%s, 'a secret', 7, %s, now())
        """
        execute(connection, statement, WITH_APP, ADDED_AT)
        connection.commit()
        yield connection


def apply_passkeys(connection: Connection) -> None:
    """Apply the migration 0010, and all later ones."""
    connection.commit()
    (first, _), *_ = migrations.migrate(connection.dsn, SQL)
    assert first == "0010.passkeys"


def test_devices_stay_known_when_passkeys_are_introduced(before_passkeys: Connection) -> None:
    apply_passkeys(before_passkeys)
    for user_id, changed_at in ((WITHOUT_APP, None), (WITH_APP, ADDED_AT)):
        # As in the version before: the hash in device cookies has the time when the app was added.
        expected = users.Credentials(user_id, "a hash", changed_at)
        assert users.get_credentials_by_id(before_passkeys, user_id) == expected


def test_apps_survive_when_the_introduction_of_passkeys_is_rolled_back(
    before_passkeys: Connection,
) -> None:
    schema, apps = execute(before_passkeys, SCHEMA), execute(before_passkeys, "TABLE totp")
    apply_passkeys(before_passkeys)
    for user_id in (WITHOUT_APP, WITH_APP):
        add_passkey(before_passkeys, user_id, str(user_id).encode())
        users.make_handle(before_passkeys, user_id)
        users.record_factor_change(before_passkeys, user_id)
    challenges.insert(before_passkeys, b"1" * 32, timedelta(hours=1))
    before_passkeys.commit()
    with yoyo.get_backend(before_passkeys.dsn) as backend, backend.lock():
        later = [each for each in yoyo.read_migrations(str(SQL)) if each.id >= "0010"]
        backend.rollback_migrations(sorted(later, key=lambda each: each.id, reverse=True))
    assert execute(before_passkeys, SCHEMA) == schema
    assert execute(before_passkeys, "TABLE totp") == apps
    apply_passkeys(before_passkeys)
    credentials = users.get_credentials_by_id(before_passkeys, WITH_APP)
    assert credentials == (WITH_APP, "a hash", ADDED_AT)
    assert not users.has_second_factor(before_passkeys, WITHOUT_APP)


def test_a_migration_edited_after_it_was_applied_is_refused(url: str, sql_copy: Path) -> None:
    edited = sql_copy / "0001.users.sql"
    text = edited.read_text()
    edited.write_text(text + "ALTER TABLE users ADD COLUMN age integer;\n")
    (sql_copy / "9999.new.sql").write_text("CREATE TABLE new (id int);")
    with pytest.raises(SystemExit, match=r"^Migration 0001\.users was edited after it was applied"):
        list(migrations.migrate(url, sql_copy))
    assert ("new",) not in query(url, "SELECT tablename::text FROM pg_tables")
    edited.write_text(text)
    assert [name for name, _ in migrations.migrate(url, sql_copy)] == ["9999.new"]


def test_a_migration_edited_and_reapplied_with_yoyo_itself_is_accepted(
    url: str, sql_copy: Path
) -> None:
    last = migrations.names(sql_copy)[-1]
    with yoyo.get_backend(url) as backend, backend.lock():
        (found,) = [each for each in yoyo.read_migrations(str(sql_copy)) if each.id == last]
        backend.rollback_one(found)
    edited = sql_copy / f"{last}.sql"
    edited.write_text(f"{edited.read_text()}\nSELECT 1;\n")
    with yoyo.get_backend(url) as backend, backend.lock():
        backend.apply_migrations(backend.to_apply(yoyo.read_migrations(str(sql_copy))))
    assert list(migrations.migrate(url, sql_copy)) == []


def test_windows_line_ends_do_not_count_as_an_edit(url: str, sql_copy: Path) -> None:
    for path in sql_copy.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert list(migrations.migrate(url, sql_copy)) == []


def test_migrations_applied_before_checksums_existed_are_accepted(
    new_database: NewDatabase,
) -> None:
    url = new_database()
    list(migrations.migrate(url, SQL))
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE _yoyo_checksums")
    connection.close()
    assert list(migrations.migrate(url, SQL)) == []
    recorded = query(url, "SELECT migration_id FROM _yoyo_checksums ORDER BY 1")
    assert [name for (name,) in recorded] == migrations.names(SQL)


DELETE_OLDER_EVENTS = """
    DELETE FROM account_events
     WHERE id = ANY (ARRAY(SELECT id
                             FROM account_events
                            WHERE happened_at < now() - $1
                            ORDER BY happened_at
                            LIMIT 10
                              FOR UPDATE SKIP LOCKED))
"""
"""A statement of the version before partitions, without a counterpart in this one."""

LONG = timedelta(days=1000)


@pytest.fixture
def before_partitions(new_database: NewDatabase, tmp_path: Path) -> Iterator[Connection]:
    """Return a connection to a database of the version before partitions, with an account.

    It has an event of today and one that has expired, and statements are prepared.
    """
    url = new_database()
    for path in SQL.iterdir():
        if path.name < "0012":
            shutil.copy(path, tmp_path)
    list(migrations.migrate(url, tmp_path))
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        user_id = add_user(connection)
        events.insert(connection, Event("registered", user_id))
        execute(connection, "UPDATE account_events SET happened_at = now() - interval '91 days'")
        events.insert(connection, Event("logged_in", user_id))
        assert names_of_events(connection) == ["logged_in", "registered"]
        execute(connection, f"PREPARE delete_older (interval) AS {DELETE_OLDER_EVENTS}")
        yield connection


def names_of_events(db: Connection) -> list[str]:
    """Return the names of the account's events, and check that their ids are in the same order."""
    listed = events.list_of_user(db, 1, 9, LONG)
    ids = [each.id or 0 for each in listed]
    assert ids == sorted(ids, reverse=True)
    return [each.event for each in listed]


def test_the_previous_version_can_use_events_after_they_got_partitions(
    before_partitions: Connection,
) -> None:
    db = before_partitions
    (first, _), *_ = migrations.migrate(db.dsn, SQL)
    assert first == "0012.event_months"
    events.insert(db, Event("name_changed", 1))
    assert names_of_events(db) == ["name_changed", "logged_in", "registered"]
    execute(db, "EXECUTE delete_older ('90 days')")
    assert names_of_events(db) == ["name_changed", "logged_in"]
    users.delete(db, 1)
    assert execute(db, "SELECT FROM account_events") == []


def test_events_survive_when_their_partitions_are_rolled_back(
    before_partitions: Connection,
) -> None:
    db = before_partitions
    schema = execute(db, SCHEMA)
    list(migrations.migrate(db.dsn, SQL))
    events.insert(db, Event("name_changed", 1))
    execute(db, "UPDATE account_events SET happened_at = now() + interval '1 year' WHERE id = 3")
    roll_partitions_back(db.dsn)
    assert execute(db, SCHEMA) == schema
    assert names_of_events(db) == ["name_changed", "logged_in", "registered"]
    execute(db, "UPDATE account_events SET happened_at = now() WHERE id = 3")
    assert list(migrations.migrate(db.dsn, SQL))
    events.insert(db, Event("logged_out", 1))
    assert sorted(each.id or 0 for each in events.list_of_user(db, 1, 9, LONG)) == [1, 2, 3, 4]


def test_partitions_are_not_introduced_while_another_transaction_holds_the_table(
    before_partitions: Connection,
) -> None:
    db = before_partitions
    with closing(psycopg2.connect(db.dsn)) as reading:
        execute(reading, "SELECT FROM account_events")
        with pytest.raises(SystemExit, match="canceling statement due to lock timeout"):
            list(migrations.migrate(f"{db.dsn}&options=-c%20statement_timeout%3D60s", SQL))
    assert list(migrations.migrate(db.dsn, SQL))


@contextmanager
def waiting(url: str, change: Callable[[], None]) -> Iterator[Connection]:
    """Change the schema in a thread, and yield another connection while the change waits for it.

    The connection is in a transaction that has locked Ada's account, as a login does.
    """
    waits = "SELECT FROM pg_locks JOIN pg_database AS d ON d.oid = database WHERE NOT granted"
    waits += " AND datname = current_database()"
    options = "-c deadlock_timeout=10ms"  # so that it sees a deadlock first
    with (
        ThreadPoolExecutor(1) as thread,
        closing(psycopg2.connect(url, options=options)) as login,
    ):
        execute(login, "SELECT FROM users FOR UPDATE")
        changed: Future[None] = thread.submit(change)
        while not query(url, waits):
            assert not changed.done()
        yield login
        login.commit()
        changed.result()


def migrate_with_retries(url: str) -> None:
    """Migrate, and try again while a lock is not available in time."""
    while True:
        try:
            list(migrations.migrate(url, SQL))
            return
        except SystemExit as error:
            if "lock timeout" not in str(error):
                raise


def roll_partitions_back(url: str) -> None:
    with yoyo.get_backend(url) as backend, backend.lock():
        later = [each for each in yoyo.read_migrations(str(SQL)) if each.id >= "0012"]
        backend.rollback_migrations(sorted(later, key=lambda each: each.id, reverse=True))


def test_a_login_finishes_before_partitions_are_introduced(before_partitions: Connection) -> None:
    url = before_partitions.dsn
    with waiting(url, lambda: migrate_with_retries(url)) as login:
        execute(login, "UPDATE users SET last_login_at = now()")
        events.insert(login, Event("logged_in", 1))
    assert names_of_events(before_partitions) == ["logged_in", "logged_in", "registered"]


def test_a_login_finishes_before_partitions_are_rolled_back(before_partitions: Connection) -> None:
    url = before_partitions.dsn
    list(migrations.migrate(url, SQL))
    with waiting(url, lambda: roll_partitions_back(url)) as login:
        events.insert(login, Event("logged_in", 1))
    assert names_of_events(before_partitions) == ["logged_in", "logged_in", "registered"]


def test_partitions_are_introduced_without_a_scan_if_a_constraint_covers_the_month(
    before_partitions: Connection,
) -> None:
    db = before_partitions
    execute(
        db,
        """
        DO $$
        BEGIN
            EXECUTE format('ALTER TABLE account_events ADD CONSTRAINT account_events_months'
                           ' CHECK (happened_at < %L) NOT VALID',
                           date_trunc('month', now(), 'UTC') + interval '1 month');
        END
        $$;
        ALTER TABLE account_events VALIDATE CONSTRAINT account_events_months;
        """,
    )
    with closing(psycopg2.connect(db.dsn, options="-c client_min_messages=debug1")) as migrating:
        for statement in yoyo.migrations.read_sql_migration(SQL / "0012.event_months.sql")[2]:
            execute(migrating, statement)
        notices = "".join(migrating.notices)
    assert "is implied by existing constraints" in notices


@pytest.mark.parametrize("name", ["0013.vacuum", "0013.vacuum.rollback"])
def test_logins_and_the_settings_of_the_vacuum_do_not_wait_for_each_other(
    new_database: NewDatabase, name: str
) -> None:
    url = new_database()
    list(migrations.migrate(url, SQL))
    session_id, limits = b"s" * 32, [throttles.Limit(b"l" * 32, 5, timedelta(days=1))]
    with (
        closing(psycopg2.connect(url, options="-c lock_timeout=10s")) as migrating,
        closing(psycopg2.connect(url, options="-c lock_timeout=10s")) as login,
    ):
        user_id = add_user(login)
        sessions.insert(
            login,
            session_id=session_id,
            user_id=user_id,
            idle_limit=timedelta(hours=2),
            limit=timedelta(days=1),
            remembered=False,
            address=None,
            device="",
        )
        throttles.insert(login, limits)
        for statement in yoyo.migrations.read_sql_migration(SQL / f"{name}.sql")[2]:
            execute(migrating, statement)
        users.record_login(login, user_id)
        sessions.touch(login, session_id, None)
        throttles.take_back(login, limits)
        sessions.delete(login, session_id)
        login.commit()
        migrating.commit()


@pytest.mark.parametrize(("rows", "dead_rows"), [(100, 1_000), (10_000_000, 51_000)])
def test_tables_with_many_updates_are_vacuumed_in_time(
    db: Connection, rows: int, dead_rows: int
) -> None:
    statement = """
        SELECT relname::text,
               round(sum(CASE option_name
                         WHEN 'autovacuum_vacuum_threshold' THEN option_value::float
                         WHEN 'autovacuum_vacuum_scale_factor' THEN option_value::float * %s
                         END)::numeric, -1)
          FROM pg_class, pg_options_to_table(reloptions)
         WHERE relnamespace = 'public'::regnamespace
         GROUP BY 1
         ORDER BY 1
    """
    tables = ["sessions", "throttles", "users"]
    assert execute(db, statement, rows) == [(table, dead_rows) for table in tables]


def test_a_login_and_the_use_of_a_session_need_no_new_index_entries(db: Connection) -> None:
    """Each page has room for the new versions of some of its rows (HOT updates)."""
    execute(
        db,
        """
        INSERT INTO users (email, name, password_hash)
        SELECT n || '@example.com', 'Ada', repeat('h', 97)
          FROM generate_series(1, 1000) AS n;

        INSERT INTO sessions (id, user_id, idle_limit, expires_at)
        SELECT sha256(id::text::bytea), id, '2 hours', now() + interval '1 day'
          FROM users;
        """,
    )
    rows = execute(db, "SELECT user_id, id FROM sessions ORDER BY user_id")
    for user_id, session_id in rows[::40]:
        users.record_login(db, user_id)
        sessions.touch(db, bytes(session_id), "192.0.2.1")
    statement = """
        SELECT relname::text, n_tup_upd, n_tup_hot_upd
          FROM pg_stat_xact_user_tables
         WHERE n_tup_upd > 0
         ORDER BY 1
    """
    assert execute(db, statement) == [("sessions", 25, 25), ("users", 25, 25)]


WITHOUT_REMOVALS = [name for name in migrations.names(SQL) if name != "0012.event_months"]
"""That one renames a table, and has tests above that the version before goes on."""


@pytest.mark.parametrize("name", WITHOUT_REMOVALS)
def test_a_migration_removes_nothing_that_the_running_version_uses(name: str) -> None:
    # The running version keeps serving on the new schema until the next one starts.
    statements = (SQL / f"{name}.sql").read_text().upper()
    assert not re.search(r"\bDROP\b|\bRENAME\b|\bTYPE\b|TRUNCATE|DELETE FROM", statements)
    for column in re.findall(r"ADD COLUMN (.*)", statements):
        assert "NOT NULL" not in column or "DEFAULT" in column


def test_every_migration_has_its_rollback() -> None:
    # yoyo treats a missing rollback file as an empty one.
    for name in migrations.names(SQL):
        assert (SQL / f"{name}.rollback.sql").read_text().strip()


def test_migrations_are_numbered_without_gaps() -> None:
    numbers = [name.split(".")[0] for name in migrations.names(SQL)]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


def test_nothing_is_missing_from_a_migrated_database(db: Connection) -> None:
    assert migrations.missing(db, migrations.names(SQL)) == []


def test_a_migration_that_is_not_applied_is_missing(db: Connection) -> None:
    assert migrations.missing(db, ["0001.users", "9999.new"]) == ["9999.new"]


def test_all_migrations_are_missing_from_an_empty_database(new_database: NewDatabase) -> None:
    connection = psycopg2.connect(new_database())
    assert migrations.missing(connection, ["0001.users"]) == ["0001.users"]
    connection.close()


def test_row_counts_leave_out_the_tables_of_yoyo(db: Connection) -> None:
    tables = ["account_events", "half_logins", "mails", "passkeys", "recovery_codes", "sessions"]
    tables += ["throttles", "tokens", "totp", "used_challenges", "users"]
    assert migrations.count_rows(db) == [(table, 0) for table in tables]


def test_migrations_accept_every_url_that_postgresql_accepts(new_database: NewDatabase) -> None:
    # yoyo itself parses URLs differently from libpq.
    url = new_database()
    name = psycopg2.extensions.parse_dsn(url)["dbname"]
    folder = quote(psycopg2.extensions.parse_dsn(url)["host"], safe="")
    unusual = f"postgres://postgres:a#b%3F@{folder},{folder}:5432,5432/%74{name[1:]}"
    assert [name for name, _ in migrations.migrate(unusual, SQL)] == migrations.names(SQL)


def test_migrations_are_refused_on_a_read_only_server(new_database: NewDatabase) -> None:
    url = new_database()
    with closing(psycopg2.connect(url)) as operator, operator.cursor() as cursor:
        operator.autocommit = True
        name = operator.info.dbname
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(psycopg2.OperationalError, match="read-only"):
        list(migrations.migrate(url, SQL))


def test_the_timeouts_of_the_role_do_not_apply_to_migrations(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    url = new_database()
    with closing(psycopg2.connect(url)) as operator:
        for name in ("statement_timeout", "lock_timeout"):
            execute(operator, f"ALTER DATABASE {operator.info.dbname} SET {name} TO '1h'")
        operator.commit()
    (tmp_path / "0001.timeouts.sql").write_text("""
        CREATE TABLE timeouts AS
        SELECT current_setting('statement_timeout') AS one, current_setting('lock_timeout') AS other
    """)
    list(migrations.migrate(url, tmp_path))
    assert query(url, "SELECT * FROM timeouts") == [("0", "0")]


def test_ten_processes_at_once_give_a_role_its_settings(new_database: NewDatabase) -> None:
    url = new_database()
    start = threading.Barrier(10, timeout=60)
    failed: list[psycopg2.Error] = []

    def alter_role() -> None:
        with closing(psycopg2.connect(url)) as connection:
            statements = migrations.role_statements(connection, {"lock_timeout": "2000"})
            start.wait()
            try:
                migrations.alter_role(connection, statements)
            except psycopg2.Error as error:
                failed.append(error)

    threads = [threading.Thread(target=alter_role) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert query(url, "SHOW lock_timeout") == [("2s",)]
