"""/healthz and /readyz."""

import socket
import threading
import time
from contextlib import closing
from typing import Any

import psycopg2
import pytest
import webtest
from psycopg2.extensions import connection as Connection

import hello_login
from hello_login.db import migrations
from tests.conftest import ROOT, MakeIni, NewDatabase
from tests.standbys import require_standbys


@pytest.fixture
def without_database(ini: MakeIni) -> Any:
    """Return the application with a DATABASE_URL where no server listens."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    url = f"postgresql://ada:pa55@127.0.0.1:{port}/app"
    return webtest.TestApp(hello_login.main({}, **ini(database_url=url)))


def test_a_process_that_answers_is_healthy(browser: webtest.TestApp) -> None:
    assert browser.get("/healthz").json == {"status": "ok"}


def test_a_process_is_healthy_without_its_database(without_database: webtest.TestApp) -> None:
    assert without_database.get("/healthz").json == {"status": "ok"}


def test_a_process_is_ready_with_an_up_to_date_database(browser: webtest.TestApp) -> None:
    response = browser.get("/readyz")
    assert response.json == {"status": "ok", "database": "ok", "schema": "up to date"}


def test_a_process_is_not_ready_with_an_outdated_schema(
    browser: webtest.TestApp, db: Connection
) -> None:
    with db.cursor() as cursor:
        cursor.execute("DELETE FROM _yoyo_migration WHERE migration_id LIKE '0002%'")
    response = browser.get("/readyz", status=503)
    assert response.json == {"status": "unavailable", "database": "ok", "schema": "out of date"}


def test_a_process_is_not_ready_while_its_database_ends_the_connection(
    ini: MakeIni, new_database: NewDatabase
) -> None:
    url = new_database()
    list(migrations.migrate(url, ROOT / "sql"))
    site = webtest.TestApp(hello_login.main({}, **ini(database_url=url)))
    blocker, killer = psycopg2.connect(url), psycopg2.connect(url)
    killer.autocommit = True  # a transaction would see one snapshot of the activity
    answers: list[Any] = []
    with blocker.cursor() as blocking, killer.cursor() as cursor:
        blocking.execute("LOCK TABLE _yoyo_migration")
        request = threading.Thread(target=lambda: answers.append(site.get("/readyz", status=503)))
        request.start()
        deadline = time.monotonic() + 60
        while cursor.rowcount != 1:
            assert time.monotonic() < deadline
            cursor.execute("""
                SELECT pg_terminate_backend(pid, 5000)
                  FROM pg_stat_activity
                 WHERE wait_event_type = 'Lock'
                   AND datname = current_database()
            """)
    request.join()
    blocker.close()
    killer.close()
    assert answers[0].json == {"status": "unavailable", "database": "unreachable"}


@pytest.mark.parametrize("attributes", ["read-write", "any"])
def test_a_process_is_not_ready_while_its_database_is_read_only(
    ini: MakeIni, url: str, attributes: str
) -> None:
    database_url = f"{url}&target_session_attrs={attributes}"
    site = webtest.TestApp(hello_login.main({}, **ini(database_url=database_url)))
    with closing(psycopg2.connect(url)) as operator:
        operator.autocommit = True
        change = f"ALTER DATABASE {operator.info.dbname}"
        with operator.cursor() as cursor:
            cursor.execute(f"{change} SET default_transaction_read_only = on")
            response = site.get("/readyz", status=503)
            assert response.json == {"status": "unavailable", "database": "read-only"}
            cursor.execute(f"{change} RESET default_transaction_read_only")
            assert site.get("/readyz").json["database"] == "ok"


def test_a_process_is_not_ready_while_commits_wait_for_a_missing_standby(
    ini: MakeIni, url: str
) -> None:
    site = webtest.TestApp(hello_login.main({}, **ini(database_url=url)))
    require_standbys(url, "gone")
    try:
        response = site.get("/readyz", status=503)
    finally:
        require_standbys(url, "")
    assert response.json == {"status": "unavailable", "database": "commits wait for a standby"}
    assert site.get("/readyz").json["database"] == "ok"


def test_a_process_is_not_ready_without_its_database(without_database: webtest.TestApp) -> None:
    response = without_database.get("/readyz", status=503)
    assert response.json == {"status": "unavailable", "database": "unreachable"}


def test_a_page_without_its_database_asks_to_try_again_later(
    without_database: webtest.TestApp, caplog: pytest.LogCaptureFixture
) -> None:
    html = {"Accept": "text/html"}
    page = without_database.get("/register", headers=html)
    form = page.forms[0]
    for name, value in {"name": "Ada", "email": "ada@example.com"}.items():
        form[name] = value
    form["password"] = form["confirm"] = "correct horse battery"
    response = form.submit(headers=html, status=503)
    assert response.html.h1.get_text() == "We can't answer just now"
    assert "Our database is too busy or unreachable" in response
    assert response.headers["Retry-After"] == "5"
    assert "Database error" in caplog.text
    assert "pa55" not in caplog.text
