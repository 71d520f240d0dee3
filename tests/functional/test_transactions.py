"""What is committed, and what is not: on databases of the tests' own, with nothing rolled back."""

import threading
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import webtest

import hello_login
from hello_login import accounts, migrations
from tests.conftest import ROOT, MakeIni, NewDatabase
from tests.people import EMAIL, PASSWORD, error_of, log_in, register


@pytest.fixture
def url(new_database: NewDatabase) -> str:
    """The URL of a migrated database."""
    url = new_database()
    list(migrations.migrate(url, ROOT / "sql"))
    return url


@pytest.fixture
def site(url: str, ini: MakeIni) -> Any:
    """The application on that database."""
    return hello_login.main({}, **ini(database_url=url))


def open_browser(site: Any) -> webtest.TestApp:
    return webtest.TestApp(
        site, extra_environ={"HTTP_HOST": "localhost", "HTTP_ACCEPT": "text/html"}
    )


def count(url: str, table: str) -> int:
    connection = psycopg2.connect(url)
    try:
        return dict(migrations.count_rows(connection))[table]
    finally:
        connection.close()


def test_an_account_is_there_for_the_next_request_and_the_next_process(
    site: Any, url: str, ini: MakeIni
) -> None:
    register(open_browser(site))
    log_in(open_browser(site))
    log_in(open_browser(hello_login.main({}, **ini(database_url=url))))
    assert (count(url, "users"), count(url, "sessions")) == (1, 3)


def test_of_two_who_race_for_an_address_one_gets_it_and_the_other_the_message(
    site: Any, url: str
) -> None:
    answers = []
    start = threading.Barrier(8)

    def race(name: str) -> None:
        browser = open_browser(site)
        browser.get("/register")
        start.wait()
        answers.append(register(browser, name=name, status=None))

    racers = [threading.Thread(target=race, args=(f"Ada {number}",)) for number in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(answer.status_int for answer in answers) == [303] + [422] * 7
    refused = [answer for answer in answers if answer.status_int == 422]
    assert all("has an account already" in error_of(answer, "email") for answer in refused)
    assert (count(url, "users"), count(url, "sessions")) == (1, 1)


def test_a_registration_that_fails_midway_leaves_no_half_made_account(
    site: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(accounts, "begin_session", fail)
    register(open_browser(site), status=500)
    assert (count(url, "users"), count(url, "sessions")) == (0, 0)


def test_a_connection_that_ended_between_two_requests_is_noticed_by_nobody(
    site: Any, url: str
) -> None:
    browser = open_browser(site)
    register(browser)
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(pg_terminate_backend(pid, 5000))
              FROM pg_stat_activity
             WHERE datname = current_database()
               AND pid <> pg_backend_pid()
            """
        )
        assert cursor.fetchone() == (1,)
    connection.close()
    assert "Ada" in browser.get("/account")


def test_passwords_and_tokens_are_in_no_table_and_in_no_log(
    site: Any, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    browser = open_browser(site)
    register(browser)
    log_in(open_browser(site), password="a wrong password", status=422)
    token = browser.cookies["csrf_token"]
    ticket = browser.cookies["session"]
    connection = psycopg2.connect(url)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT users::text FROM users UNION ALL SELECT sessions::text FROM sessions"
        )
        rows = str(cursor.fetchall())
    connection.close()
    assert EMAIL in rows
    for secret in (PASSWORD, "a wrong password", token, ticket, ticket[128:170]):
        assert secret not in rows
        assert secret not in caplog.text


def test_development_starts_and_migrates_its_own_database_and_says_so(
    development_database: Path, ini: MakeIni, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hello_login")
    place = {"database_url": "", "embedded_postgres": str(development_database)}
    register(open_browser(hello_login.main({}, **ini(**place))))
    assert f"its data in {development_database}" in caplog.text
    assert "Migrated the development database: 2 migrations applied" in caplog.text
