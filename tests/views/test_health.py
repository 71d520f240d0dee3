"""/healthz and /readyz."""

import socket
from typing import Any

import pytest
import webtest
from psycopg2.extensions import connection as Connection

import hello_login
from tests.conftest import MakeIni


@pytest.fixture
def without_database(ini: MakeIni) -> Any:
    """The application, where nobody answers at DATABASE_URL."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    url = f"postgresql://ada:pa55@127.0.0.1:{port}/app"
    return webtest.TestApp(hello_login.main({}, **ini(database_url=url)))


def test_a_process_that_answers_is_healthy(browser: webtest.TestApp) -> None:
    assert browser.get("/healthz").json == {"status": "ok"}


def test_a_process_is_healthy_without_its_database(without_database: webtest.TestApp) -> None:
    assert without_database.get("/healthz").json == {"status": "ok"}


def test_it_is_ready_with_a_database_that_is_up_to_date(browser: webtest.TestApp) -> None:
    response = browser.get("/readyz")
    assert response.json == {"status": "ok", "database": "ok", "schema": "up to date"}


def test_it_is_not_ready_with_an_old_schema(browser: webtest.TestApp, db: Connection) -> None:
    with db.cursor() as cursor:
        cursor.execute("DELETE FROM _yoyo_migration WHERE migration_id LIKE '0002%'")
    response = browser.get("/readyz", status=503)
    assert response.json == {"status": "unavailable", "database": "ok", "schema": "out of date"}


def test_it_is_not_ready_without_its_database(without_database: webtest.TestApp) -> None:
    response = without_database.get("/readyz", status=503)
    assert response.json == {"status": "unavailable", "database": "unreachable"}


def test_a_page_without_its_database_says_to_try_again(
    without_database: webtest.TestApp, caplog: pytest.LogCaptureFixture
) -> None:
    html = {"Accept": "text/html"}
    page = without_database.get("/register", headers=html)
    form = page.forms[0]
    for name, value in {"name": "Ada", "email": "ada@example.com"}.items():
        form[name] = value
    form["password"] = form["confirm"] = "correct horse battery"
    response = form.submit(headers=html, status=503)
    assert response.html.h1.get_text() == "We can't reach our database"
    assert response.headers["Retry-After"] == "5"
    assert "Database unavailable" in caplog.text
    assert "pa55" not in caplog.text
