"""The command initialize_db."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
import webtest
from psycopg2.extensions import connection as Connection
from pyramid.paster import get_app

from hello_login.db import connections, migrations, transactions
from hello_login.repositories import events
from hello_login.scripts.initialize_db import main
from tests.conftest import ROOT, NewDatabase, OpenVisitor
from tests.rows import DROP_NEXT_MONTH, execute

PRODUCTION = str(ROOT / "production.ini")


@pytest.fixture
def url(new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set DATABASE_URL to a new, empty database, and return it."""
    url = new_database()
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("SECRET_KEY", "k" * 32)
    return url


@pytest.mark.usefixtures("url")
def test_it_prints_the_applied_migrations_and_the_tables(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main([PRODUCTION])
    printed = capsys.readouterr().out
    assert re.search(r"^Applied 0001\.users in \d+ ms$", printed, re.MULTILINE)
    assert re.search(r"^Applied 0002\.sessions in \d+ ms$", printed, re.MULTILINE)
    assert re.search(r"^users +0$", printed, re.MULTILINE)
    assert re.search(r"^sessions +0$", printed, re.MULTILINE)


@pytest.mark.usefixtures("url")
def test_the_migrations_of_a_further_folder_are_applied_and_awaited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ini, folder = tmp_path / "own.ini", tmp_path / "own sql"
    folder.mkdir()
    (folder / "0001.notes.sql").write_text("CREATE TABLE notes (user_id bigint REFERENCES users)")
    setting = "use = egg:hello_login\nhello_login.migrations =\n    %(here)s/own sql\n"
    text = Path(PRODUCTION).read_text()
    ini.write_text(text.replace("use = egg:hello_login\n", setting, 1))
    main([PRODUCTION])
    site = webtest.TestApp(get_app(str(ini)))
    assert site.get("/readyz", status=503).json["schema"] == "out of date"
    main([str(ini)])
    printed = capsys.readouterr().out
    assert re.search(r"^Applied 0001\.notes in \d+ ms$", printed, re.MULTILINE)
    assert re.search(r"^notes +0$", printed, re.MULTILINE)
    assert site.get("/readyz").json["schema"] == "up to date"


@pytest.mark.usefixtures("url")
def test_a_second_run_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    main([PRODUCTION])
    capsys.readouterr()
    main([PRODUCTION])
    printed = capsys.readouterr().out
    assert "The schema is up to date" in printed
    assert "Applied" not in printed


def test_no_migration_is_applied_through_a_pooler_that_shares_sessions(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_POOLER", "transaction")
    with pytest.raises(SystemExit, match="set DATABASE_DIRECT_URL to the URL of PostgreSQL itself"):
        main([PRODUCTION])
    main([PRODUCTION, "--no-migrate"])
    assert capsys.readouterr().out.split() == ["Table", "Rows"]
    monkeypatch.setenv("DATABASE_URL", "postgresql://host.invalid/app")
    monkeypatch.setenv("DATABASE_DIRECT_URL", url)
    main([PRODUCTION])
    assert "Applied 0001.users" in capsys.readouterr().out


@pytest.fixture
def hedy(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """Set DATABASE_DIRECT_URL to one of a role without privileges; yield another connection."""
    monkeypatch.setenv("DATABASE_POOLER", "transaction")
    monkeypatch.setenv("DATABASE_DIRECT_URL", url.replace("postgres@", "hedy@"))
    with closing(psycopg2.connect(url)) as operator:
        operator.autocommit = True
        execute(operator, "CREATE ROLE hedy LOGIN; GRANT CREATE ON SCHEMA public TO hedy")
        yield operator
        execute(operator, "DROP OWNED BY hedy; DROP ROLE hedy")


def test_a_role_gets_the_timeouts_that_a_pooler_does_not_pass_on(
    hedy: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    main([PRODUCTION])
    alter = f'ALTER ROLE "hedy" IN DATABASE "{hedy.info.dbname}" SET'
    executed = f"{alter} statement_timeout TO '5000'; {alter} lock_timeout TO '2000';"
    assert f"\nExecuted {executed}\n" in capsys.readouterr().out
    stored = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'hedy'::regrole"
    assert execute(hedy, stored) == [(["statement_timeout=5000", "lock_timeout=2000"],)]
    main([PRODUCTION])
    assert "ALTER ROLE" not in capsys.readouterr().out


@pytest.mark.usefixtures("hedy")
def test_settings_that_a_role_may_not_change_are_left_to_an_administrator(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transactions, "session_settings", lambda: {"log_statement": "all"})
    main([PRODUCTION])
    printed = capsys.readouterr().out
    reason = 'permission denied to set parameter "log_statement": as an administrator, run ALTER'
    assert f"The role's settings are missing: {reason} ROLE" in printed
    assert re.search(r"^users +0$", printed, re.MULTILINE)


@pytest.mark.parametrize("is_migrated", [False, True])
def test_a_role_that_may_not_change_the_schema_is_told_which_one_may(
    hedy: Connection, is_migrated: bool
) -> None:
    if is_migrated:
        list(migrations.migrate(hedy.dsn, ROOT / "sql"))
    execute(hedy, "REVOKE CREATE ON SCHEMA public FROM hedy")
    execute(hedy, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO hedy")
    sentence = "^The schema can't be brought up to date: .*: run initialize_db as a role that owns"
    with pytest.raises(SystemExit, match=sentence):
        main([PRODUCTION])


@pytest.mark.usefixtures("url")
def test_no_migrate_leaves_the_schema_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    main([PRODUCTION, "--no-migrate"])
    assert capsys.readouterr().out.split() == ["Table", "Rows"]


def test_it_prepares_the_coming_months_or_says_why_it_cannot(url: str) -> None:
    main([PRODUCTION])
    with closing(psycopg2.connect(url)) as connection, connection:
        execute(connection, DROP_NEXT_MONTH)
    with closing(psycopg2.connect(url)) as reading:
        execute(reading, "SELECT FROM account_events_default")
        with pytest.raises(SystemExit, match=r"^The events of next month have no partition: "):
            main([PRODUCTION])
        assert not events.has_next_month(reading)
        reading.rollback()
        main([PRODUCTION, "--no-migrate"])
        assert not events.has_next_month(reading)
        reading.rollback()
        main([PRODUCTION])
        assert events.has_next_month(reading)


def test_only_the_first_rows_of_a_large_table_are_counted(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main([PRODUCTION])
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("""
            INSERT INTO throttles (key, forget_at)
            SELECT sha256(n::text::bytea), now()
              FROM generate_series(1, 30000) AS n
        """)
        main([PRODUCTION, "--no-migrate"])
        # PostgreSQL publishes the number of rows read when the session that read them ends.
        read, deadline = 0, time.monotonic() + 60
        while not read and time.monotonic() < deadline:
            cursor.execute("""
                SELECT seq_tup_read + coalesce(idx_tup_fetch, 0)
                  FROM pg_stat_user_tables
                 WHERE relname = 'throttles'
            """)
            ((read,),) = cursor.fetchall()
    assert read == 10_001
    assert re.search(r"^throttles +> 10000$", capsys.readouterr().out, re.MULTILINE)


def test_sample_users_can_log_in_with_passwords_that_are_printed_once(
    url: str, capsys: pytest.CaptureFixture[str], open_visitor: OpenVisitor
) -> None:
    main([PRODUCTION, "--sample-users"])
    printed = capsys.readouterr().out
    users = re.findall(r"^(\S+) +password: (\S+)$", printed, re.MULTILINE)
    assert len(users) == 3
    connection = connections.connect(url)
    for email, password in users:
        assert open_visitor(db=connection).authenticate(email=email, password=password)
    connection.close()

    main([PRODUCTION, "--sample-users"])
    again = capsys.readouterr().out
    assert "password" not in again
    assert again.count("exists already") == 3
    assert re.search(r"^users +3$", again, re.MULTILINE)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db.example.com/app",
        "postgresql://10.0.0.1/app",
        "postgresql://db/app",
        "postgresql://localhost/app?hostaddr=10.0.0.1",
        "postgresql:///app?service=production",
    ],
)
def test_sample_users_are_refused_on_a_remote_database(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("SECRET_KEY", "k" * 32)
    with pytest.raises(SystemExit, match="add --force"):
        main([PRODUCTION, "--sample-users"])


def test_sample_users_can_be_forced_on_a_remote_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://host.invalid/app")
    monkeypatch.setenv("SECRET_KEY", "k" * 32)
    with pytest.raises(SystemExit, match="PostgreSQL does not answer"):
        main([PRODUCTION, "--sample-users", "--force"])


def test_a_database_that_does_not_answer_is_reported_without_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    monkeypatch.setenv("DATABASE_URL", f"postgresql://ada:pa55@127.0.0.1:{port}/app")
    monkeypatch.setenv("SECRET_KEY", "k" * 32)
    with pytest.raises(SystemExit) as caught:
        main([PRODUCTION, "--wait", "0.3"])
    message = str(caught.value)
    assert message.startswith("PostgreSQL does not answer: ")
    assert message.endswith("start it, or correct DATABASE_URL.")
    assert "pa55" not in message


def test_an_error_names_the_variable_of_the_url(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_DIRECT_URL", url.replace("/test_", "/missing_"))
    with pytest.raises(SystemExit, match=r"^PostgreSQL refuses DATABASE_DIRECT_URL: .* its name"):
        main([PRODUCTION])


def test_missing_settings_are_reported() -> None:
    with pytest.raises(SystemExit, match="DATABASE_URL is missing"):
        main([PRODUCTION])


@pytest.mark.parametrize(
    "content", [None, "[loggers]\nkeys = root\n", "no ini file", "[app:main]\nuse = egg:nothing\n"]
)
def test_an_unusable_ini_file_is_reported(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "my.ini"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit, match=r"^Can't use .*my\.ini: "):
        main([str(path)])


def test_a_file_without_the_ini_extension_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"^Can't use setup\.py: "):
        main(["setup.py"])


def test_development_starts_its_own_database(
    folder: Path, development_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "development.ini").symlink_to(ROOT / "development.ini")
    (folder / "sql").symlink_to(ROOT / "sql")
    main([str(folder / "development.ini")])
    assert "Applied 0001.users" in capsys.readouterr().out
    assert (development_database / "cluster").is_dir()
