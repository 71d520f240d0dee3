"""What is committed, and what is not: on databases of the tests' own, with nothing rolled back."""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import webtest

import hello_login
from hello_login import database, migrations, settings
from hello_login.accounts import Accounts
from hello_login.clients import Client
from hello_login.passwords import Passwords
from hello_login.throttling import Throttle
from tests.conftest import ROOT, MakeIni, NewDatabase
from tests.functional.test_account import change_password
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

    monkeypatch.setattr(Accounts, "begin_session", fail)
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
    assert "Migrated the development database: 6 migrations applied" in caplog.text


def test_fifty_failures_at_once_count_as_fifty(url: str, ini: MakeIni) -> None:
    """And nothing is counted twice when they are the first ever, nor a deadlock met."""
    throttle = Throttle(settings.load({}, ini(), {}))
    start = threading.Barrier(50)
    waits = []

    def fail(number: int) -> None:
        connection = psycopg2.connect(url)
        limits = throttle.login(Client(f"192.0.2.{number}"), user_id=1, email=EMAIL)
        start.wait()
        waits.append(throttle.count(connection, limits))
        connection.close()

    def fail_at_once() -> None:
        threads = [threading.Thread(target=fail, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    fail_at_once()
    assert waits == [timedelta(0)] * 50
    connection = psycopg2.connect(url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT failures, count(*) FROM throttles GROUP BY failures ORDER BY 1")
        assert cursor.fetchall() == [(1, 100), (50, 1)]  # 50 networks
    fail_at_once()
    assert waits == [timedelta(0)] * 100
    assert throttle.count(connection, throttle.account("1")) > timedelta(seconds=50)
    connection.close()


def test_what_failed_counts_even_where_the_request_fails_in_the_end(
    site: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(open_browser(site))

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(Accounts, "begin_session", fail)
        for _ in range(5):
            log_in(open_browser(site), status=500)
    log_in(open_browser(site), status=429)
    assert count(url, "sessions") == 1


def test_a_password_changed_during_a_login_leaves_no_session_of_the_old_one(
    site: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = open_browser(site)
    register(owner)
    verify = Passwords.verify

    def change_meanwhile(self: Passwords, *arguments: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(Passwords, "verify", verify)
            change_password(owner)
        return verify(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Passwords, "verify", change_meanwhile)
        log_in(open_browser(site), status=422)
    assert count(url, "sessions") == 1


def test_what_was_not_committed_leaves_no_line_in_the_security_log(
    site: Any, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hello_login.security_log")

    def fail(*_: object) -> None:
        raise psycopg2.OperationalError("the connection was lost")

    with monkeypatch.context() as patch:
        patch.setattr(database.ConnectionDataManager, "tpc_vote", fail)
        register(open_browser(site), status=None)
    assert count(url, "users") == 0
    assert "registered" not in caplog.messages
    register(open_browser(site))
    assert caplog.messages[-2:] == ["registered", "logged_in"]
