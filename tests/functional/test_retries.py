"""A request is retried after a transient database error, but not if it may be committed."""

import re
import time
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
import webtest
from psycopg2.extensions import connection as Connection

import hello_login
from hello_login.auth import sessions
from hello_login.db import migrations, standbys, transactions
from hello_login.repositories.sessions import Session
from tests.conftest import ROOT, MakeIni, NewDatabase
from tests.people import (
    EMAIL,
    PASSWORD,
    log_in,
    log_out,
    register,
    send,
)
from tests.rows import execute
from tests.standbys import require_standbys

END_CONNECTION = "PERFORM pg_terminate_backend(pg_backend_pid());"
DEADLOCK = "RAISE EXCEPTION USING ERRCODE = 'deadlock_detected';"
READ_ONLY = "RAISE EXCEPTION USING ERRCODE = 'read_only_sql_transaction';"
CONFLICT = "RAISE EXCEPTION USING ERRCODE = 'serialization_failure';"


@pytest.fixture
def browser(url: str, ini: MakeIni) -> webtest.TestApp:
    """Return a browser of a site on the test's database."""
    site = hello_login.main({}, **ini(database_url=url))
    return webtest.TestApp(
        site, extra_environ={"HTTP_HOST": "localhost", "HTTP_ACCEPT": "text/html"}
    )


Sabotage = Callable[..., None]


@pytest.fixture
def sabotage(database: Connection) -> Sabotage:
    """Return a function that makes the next writes to a table, or their commits, fail."""

    def plan(table: str, error: str, *, at: str = "statement", times: int = 1) -> None:
        deferred = "DEFERRABLE INITIALLY DEFERRED" if at == "commit" else ""
        constraint = "CONSTRAINT" if at == "commit" else ""
        execute(
            database,
            f"""
            CREATE SEQUENCE attempts;
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                -- A rollback does not reset a sequence.
                IF nextval('attempts') <= {times} THEN {error} END IF;
                RETURN NULL;
            END $$;
            CREATE {constraint} TRIGGER fail
             AFTER INSERT OR UPDATE OR DELETE ON {table}
                   {deferred}
               FOR EACH ROW EXECUTE FUNCTION fail();
            """,
        )

    return plan


@pytest.mark.parametrize("error", [END_CONNECTION, DEADLOCK, READ_ONLY, CONFLICT])
def test_a_registration_that_fails_before_its_commit_is_retried(
    browser: webtest.TestApp, sabotage: Sabotage, database: Connection, error: str
) -> None:
    sabotage("sessions", error)
    register(browser)
    assert "Ada Lovelace" in browser.get("/account")
    events = execute(database, "SELECT event FROM account_events ORDER BY id")
    assert events == [("registered",), ("logged_in",)]
    assert execute(database, "SELECT DISTINCT failures FROM throttles") == [(1,)]


@pytest.mark.parametrize("error", [END_CONNECTION, DEADLOCK, READ_ONLY, CONFLICT])
def test_a_retried_login_counts_as_one_login(
    browser: webtest.TestApp, sabotage: Sabotage, database: Connection, error: str
) -> None:
    register(browser)
    log_out(browser)
    for _ in range(4):
        log_in(browser, password="a wrong one", status=422)
    sabotage("sessions", error)
    log_in(browser)
    assert execute(database, "SELECT count(*) FROM sessions") == [(1,)]
    assert "Ada Lovelace" in browser.get("/account")


def test_a_request_that_fails_three_times_gets_503(
    browser: webtest.TestApp, sabotage: Sabotage, database: Connection
) -> None:
    sabotage("sessions", DEADLOCK, times=3)
    answer = register(browser, status=503)
    assert "Our database is too busy" in answer
    assert answer.headers["Retry-After"] == "5"
    assert execute(database, "SELECT count(*) FROM users") == [(0,)]
    register(browser)


def test_a_commit_that_postgresql_refuses_is_retried(
    browser: webtest.TestApp, sabotage: Sabotage
) -> None:
    sabotage("users", CONFLICT, at="commit")
    register(browser)
    assert "Ada Lovelace" in browser.get("/account")


def test_a_commit_with_an_unknown_outcome_is_not_retried(
    browser: webtest.TestApp, sabotage: Sabotage, database: Connection
) -> None:
    sabotage("users", END_CONNECTION, at="commit")
    answer = register(browser, status=503)
    assert "tell whether that was done" in answer
    assert "Retry-After" not in answer.headers
    assert execute(database, "SELECT count(*) FROM users") == [(0,)]
    assert execute(database, "SELECT last_value FROM attempts") == [(1,)]


def test_a_commit_that_waits_for_a_missing_standby_is_not_retried(
    url: str,
    browser: webtest.TestApp,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    database: Connection,
) -> None:
    register(browser)
    logout = browser.get("/").forms[0]
    visitor = webtest.TestApp(browser.app, extra_environ=browser.extra_environ)
    login = visitor.get("/login").forms[0]
    login["email"], login["password"] = EMAIL, PASSWORD
    execute(database, "DELETE FROM throttles")
    monkeypatch.setattr(standbys, "COMMIT_TIMEOUT_SECONDS", 1)
    require_standbys(url, "gone")
    try:
        answer = logout.submit(status=503)
        assert "tell whether that was done" in answer
        assert "Retry-After" not in answer.headers
        assert "A commit may be done or not: No answer for 1 s" in caplog.text
        # The request's own transaction has not begun, so the answer can tell.
        answer = login.submit(status=503)
        assert "Nothing has changed" in answer
        assert answer.headers["Retry-After"] == "5"
    finally:
        require_standbys(url, "")
    assert execute(database, "SELECT DISTINCT failures FROM throttles") == [(1,)]
    assert execute(database, "SELECT count(*) FROM sessions") == [(0,)]
    login.submit(status=303)


def test_a_page_whose_commit_fails_is_retried(
    browser: webtest.TestApp, sabotage: Sabotage, database: Connection
) -> None:
    register(browser)
    execute(database, "UPDATE sessions SET last_seen_at = now() - interval '1 hour'")
    sabotage("sessions", END_CONNECTION, at="commit")
    assert "Ada Lovelace" in browser.get("/account")


@pytest.mark.direct("it ends a session by its process id, which PgBouncer replaces")
def test_a_connection_closed_after_the_last_query_of_a_page_causes_no_error(
    browser: webtest.TestApp, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(browser)
    ended: list[Any] = []
    find = sessions.find

    def end_connection(db: Connection, token: str) -> Session | None:
        found = find(db, token)
        pid = db.info.backend_pid
        ended.append(execute(database, f"SELECT pg_terminate_backend({pid}, 5000)"))
        return found

    monkeypatch.setattr(sessions, "find", end_connection)
    for _ in range(2):
        assert "Ada Lovelace" in browser.get("/account/profile")
    assert ended == [[(True,)]] * 2


def test_a_page_survives_a_migration_that_changes_a_columns_type(
    browser: webtest.TestApp, database: Connection
) -> None:
    register(browser)
    assert "Ada Lovelace" in browser.get("/account")
    execute(database, "ALTER TABLE users ALTER COLUMN name TYPE varchar(100)")
    assert "Ada Lovelace" in browser.get("/account")


@pytest.mark.direct("PgBouncer keeps a read-only session when its client leaves")
def test_a_connection_to_a_read_only_server_is_replaced(
    url: str, ini: MakeIni, database: Connection
) -> None:
    any_server = f"{url}&target_session_attrs=any"
    site = hello_login.main({}, **ini(database_url=any_server))
    browser = webtest.TestApp(site, extra_environ={"HTTP_HOST": "localhost"})
    name = database.info.dbname
    execute(database, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    answer = register(browser, status=503)
    assert answer.headers["Retry-After"] == "5"
    execute(database, f"ALTER DATABASE {name} RESET default_transaction_read_only")
    register(browser)


def test_missing_tables_are_an_outage_until_the_migration(
    new_database: NewDatabase, ini: MakeIni, caplog: pytest.LogCaptureFixture
) -> None:
    url = new_database()
    site = hello_login.main({}, **ini(database_url=url))
    browser = webtest.TestApp(site, extra_environ={"HTTP_HOST": "localhost"})
    assert log_in(browser, status=503).headers["Retry-After"] == "5"
    assert re.search(r'relation "\w+" does not exist.*: run initialize_db', caplog.text, re.DOTALL)
    list(migrations.migrate(url, ROOT / "sql"))
    log_in(browser, status=422)
    register(browser)


def test_an_older_schema_is_an_outage(
    browser: webtest.TestApp, database: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    execute(database, "ALTER TABLE users DROP COLUMN deactivated_at")
    log_in(browser, status=503)
    assert ": run initialize_db" in caplog.text


def test_an_error_in_our_sql_causes_a_500_and_no_retry(
    browser: webtest.TestApp, sabotage: Sabotage, database: Connection
) -> None:
    sabotage("users", "PERFORM nothing_of_this_name();", times=9)
    register(browser, status=500)
    assert execute(database, "SELECT last_value FROM attempts") == [(1,)]


def test_a_statement_that_waits_too_long_for_a_lock_is_cancelled(
    url: str, ini: MakeIni, browser: webtest.TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(browser)
    monkeypatch.setattr(transactions, "LOCK_TIMEOUT_SECONDS", 1)
    monkeypatch.setattr(transactions, "STATEMENT_TIMEOUT_SECONDS", 60)
    site = hello_login.main({}, **ini(database_url=url))
    impatient = webtest.TestApp(site, extra_environ=browser.extra_environ)
    impatient.set_cookie("session", browser.cookies["session"])
    impatient.get("/account/profile")
    holder = psycopg2.connect(url)
    with holder.cursor() as cursor:
        cursor.execute("SELECT FROM users FOR UPDATE")
        started = time.monotonic()
        answer = send(impatient, "/account/profile", name="Augusta", status=503)
        assert 1 <= time.monotonic() - started < 30
    assert answer.headers["Retry-After"] == "5"
    holder.close()
    send(impatient, "/account/profile", name="Augusta")


def test_a_statement_that_takes_too_long_is_cancelled(
    url: str,
    ini: MakeIni,
    browser: webtest.TestApp,
    sabotage: Sabotage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sabotage("users", "PERFORM pg_sleep(60);")
    monkeypatch.setattr(transactions, "STATEMENT_TIMEOUT_SECONDS", 1)
    site = hello_login.main({}, **ini(database_url=url))
    impatient = webtest.TestApp(site, extra_environ=browser.extra_environ)
    started = time.monotonic()
    register(impatient, status=503)
    assert 1 <= time.monotonic() - started < 30
    register(impatient)


@pytest.mark.direct("it counts the application's sessions, and PgBouncer has its own")
def test_errors_leak_no_connection(
    browser: webtest.TestApp, sabotage: Sabotage, database: Connection
) -> None:
    register(browser)
    log_out(browser)
    sabotage("sessions", "PERFORM nothing_of_this_name();", times=30)
    for _ in range(5):
        log_in(browser, status=500)
        browser.get("/nowhere", status=404)
        browser.post("/login", {"csrf_token": "x"}, status=400)
    statement = """
        SELECT state
          FROM pg_stat_activity
         WHERE application_name = 'hello_login'
           AND datname = current_database()
    """
    assert execute(database, statement) == [("idle",)]


def test_an_ended_session_leads_to_the_login_page(
    browser: webtest.TestApp, database: Connection
) -> None:
    register(browser)
    execute(database, "DELETE FROM sessions")
    answer = browser.get("/account", status=303)
    assert "/login" in answer.location
    assert EMAIL not in log_in(browser, password=PASSWORD)
