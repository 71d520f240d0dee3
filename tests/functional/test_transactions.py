"""Commits, rollbacks and races, on databases where the tests really commit."""

import contextlib
import gc
import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
import webtest
from psycopg2.extensions import connection as Connection

import hello_login
from hello_login.auth import links, login, rate_limits, second_factor, sessions
from hello_login.auth.audit import Actor
from hello_login.auth.clients import Client
from hello_login.auth.passwords import Passwords
from hello_login.auth.rate_limits import RateLimiter
from hello_login.auth.totp import SecretBox
from hello_login.db import migrations, transactions
from hello_login.db.connections import ConnectionPool
from hello_login.repositories import events, mails, recovery_codes, throttles, tokens, users
from hello_login.repositories.events import Event
from hello_login.repositories.sessions import Session
from hello_login.repositories.throttles import FOREVER, Limit
from tests.conftest import ROOT, MakeIni
from tests.people import (
    EMAIL,
    PASSWORD,
    change_password,
    csrf_token,
    error_of,
    log_in,
    register,
    send,
)
from tests.rows import add_user, execute


@pytest.fixture(autouse=True)
def url(emptied_url: str) -> str:
    """Return the URL of an empty database."""
    return emptied_url


@pytest.fixture(scope="module")
def site(shared_url: str, ini: MakeIni) -> Iterator[Any]:
    """Yield the application on that database, with timeouts for races on a loaded machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transactions, "LOCK_TIMEOUT_SECONDS", 30)
        patch.setattr(transactions, "STATEMENT_TIMEOUT_SECONDS", 60)
        yield hello_login.main({}, **ini(database_url=shared_url))


def open_browser(site: Any) -> webtest.TestApp:
    return webtest.TestApp(
        site, extra_environ={"HTTP_HOST": "localhost", "HTTP_ACCEPT": "text/html"}
    )


def count_rows(url: str, table: str) -> int:
    connection = psycopg2.connect(url)
    try:
        return dict(migrations.count_rows(connection))[table]
    finally:
        connection.close()


def test_an_account_exists_for_later_requests_and_other_processes(
    site: Any, url: str, ini: MakeIni
) -> None:
    register(open_browser(site))
    log_in(open_browser(site))
    log_in(open_browser(hello_login.main({}, **ini(database_url=url))))
    assert (count_rows(url, "users"), count_rows(url, "sessions")) == (1, 3)


def test_only_one_of_eight_simultaneous_registrations_of_an_address_succeeds(
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
    assert all("You already have an account" in error_of(answer, "email") for answer in refused)
    assert (count_rows(url, "users"), count_rows(url, "sessions")) == (1, 1)


def test_a_registration_that_fails_midway_leaves_no_rows(
    site: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(login, "complete_login", fail)
    register(open_browser(site), status=500)
    assert (count_rows(url, "users"), count_rows(url, "sessions")) == (0, 0)


def test_a_connection_closed_between_two_requests_is_replaced(
    site: Any, database: Connection
) -> None:
    browser = open_browser(site)
    register(browser)
    statement = """
        SELECT count(pg_terminate_backend(pid, 5000))
          FROM pg_stat_activity
         WHERE datname = current_database()
           AND pid <> pg_backend_pid()
    """
    assert execute(database, statement) >= [(1,)]
    assert "Ada" in browser.get("/account")


def test_passwords_and_tokens_are_in_no_table_and_in_no_log(
    site: Any, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    browser = open_browser(site)
    register(browser)
    log_in(open_browser(site), password="a wrong password", status=422)
    token = csrf_token(browser)
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


def test_development_starts_and_migrates_its_own_database_and_logs_it(
    development_database: Path, ini: MakeIni, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hello_login")
    place = {"database_url": "", "embedded_postgres": str(development_database)}
    register(open_browser(hello_login.main({}, **ini(**place))))
    assert f"its data in {development_database}" in caplog.text
    number = len(migrations.names(ROOT / "sql"))
    assert f"Migrated the development database: {number} migrations applied" in caplog.text


def login_limits(db: Connection, address: str, email: str) -> list[Limit]:
    """Return the limits of a login to an address that has no account."""
    no_log, autocommit = (lambda _event: None), (lambda: contextlib.nullcontext(db))
    limiter = RateLimiter(b"k" * 32, Client(address), no_log, autocommit, counted=set())
    return limiter.login_limits(email, None)


def connect(url: str) -> Connection:
    """Return a connection in autocommit mode, in which rate limits are counted."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    return connection


def test_fifty_simultaneous_failures_count_as_fifty(url: str) -> None:
    # Applications of earlier tests hold some of the 100 connections until they are collected.
    gc.collect()
    start = threading.Barrier(50, timeout=60)
    waits = []

    def fail(number: int, connection: Connection) -> None:
        limits = login_limits(connection, f"192.0.2.{number}", EMAIL)
        start.wait()
        waits.append(rate_limits.count_failure(connection, limits))
        connection.close()

    def fail_simultaneously() -> None:
        # The threads would wait for each other without a limit if one could not connect.
        connections = [connect(url) for _ in range(50)]
        threads = [threading.Thread(target=fail, args=each) for each in enumerate(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    fail_simultaneously()
    assert waits == [timedelta(0)] * 50
    connection = connect(url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT failures, count(*) FROM throttles GROUP BY failures ORDER BY 1")
        assert cursor.fetchall() == [(1, 100), (50, 1)]  # 50 networks
    fail_simultaneously()
    assert waits == [timedelta(0)] * 100
    (_, everywhere, _) = login_limits(connection, "198.51.100.1", EMAIL)
    assert rate_limits.count_failure(connection, [everywhere]) == FOREVER
    connection.close()


def test_a_login_attempt_counts_even_if_its_request_fails(
    site: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(open_browser(site))

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(login, "complete_login", fail)
        for _ in range(5):
            log_in(open_browser(site), status=500)
    log_in(open_browser(site), status=429)
    assert count_rows(url, "sessions") == 1


def before_verifying(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Call act once, just before the next password is verified."""
    verify = Passwords.verify

    def interrupted(self: Passwords, *arguments: Any) -> Any:
        monkeypatch.setattr(Passwords, "verify", verify)
        act()
        return verify(self, *arguments)

    monkeypatch.setattr(Passwords, "verify", interrupted)


def test_a_login_is_refused_if_the_password_changes_during_it(
    site: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = open_browser(site)
    register(owner)
    before_verifying(monkeypatch, partial(change_password, owner))
    log_in(open_browser(site), status=422)
    assert count_rows(url, "sessions") == 1


def test_a_failed_commit_leaves_no_line_in_the_security_log(
    site: Any, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hello_login.security_log")

    def fail(*_: object) -> None:
        raise psycopg2.OperationalError("the connection was lost")

    with monkeypatch.context() as patch:
        patch.setattr(transactions.ConnectionDataManager, "tpc_vote", fail)
        register(open_browser(site), status=None)
    assert count_rows(url, "users") == 0
    assert "registered" not in caplog.messages
    register(open_browser(site))
    logged = [each.message for each in caplog.records if each.name.endswith("security_log")]
    assert logged == ["registered", "logged_in"]


def test_simultaneous_updates_of_rate_limits_cause_no_deadlock(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "MAX_PER_ACCOUNT_AND_NETWORK", 100)
    deadline = time.monotonic() + 1
    deadlocks = []

    def attempt(number: int) -> None:
        chance = random.Random(number)  # noqa: S311
        connection = connect(url)
        while time.monotonic() < deadline:
            address = f"192.0.2.{chance.randrange(3)}"
            limits = login_limits(connection, address, f"{chance.randrange(3)}@example.com")
            try:
                rate_limits.count_failure(connection, limits)
                if chance.random() < 0.5:
                    throttles.take_back(connection, limits)
                if chance.random() < 0.2:
                    with connection.cursor() as cursor:
                        cursor.execute(
                            """
                            UPDATE throttles
                               SET forget_at = now() - interval '1 day'
                             WHERE key = %s
                            """,
                            (limits[0].key,),
                        )
            except psycopg2.errors.DeadlockDetected as error:
                deadlocks.append(str(error))
        connection.close()

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert deadlocks == []
    connection = psycopg2.connect(url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM throttles WHERE failures < 0")
        assert cursor.fetchone() == (0,)
    connection.close()


def while_it_waits_for_a_lock(
    database: Connection, act: Callable[[], object], during: Callable[[], object]
) -> list[Any]:
    """Call act in a thread, and during when act waits for a lock; return what act returned."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(act()))
    thread.start()
    waiting = """
        SELECT count(*)
          FROM pg_stat_activity
         WHERE wait_event_type = 'Lock'
           AND datname = current_database()
    """
    deadline = time.monotonic() + 60
    while execute(database, waiting) != [(1,)]:
        assert time.monotonic() < deadline
    try:
        during()
    finally:
        thread.join()
    return results


SECOND_STEP = "303 /login/second"
ADD_APP = "INSERT INTO totp (user_id, secret, last_step) SELECT id, '', 0 FROM users"
ADD_PASSKEY = """
    INSERT INTO passkeys (id, user_id, public_key, sign_count, name, may_sync, synced, transports)
    SELECT 'phone', id, 'a key', 0, 'Phone', false, false, '{}'
      FROM users
"""
ADD_SESSIONS = """
    INSERT INTO sessions (id, user_id, idle_limit, expires_at)
    SELECT sha256(n::text::bytea), id, '2 hours', now() + interval '1 day'
      FROM users, generate_series(1, 100) AS n
"""


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ("UPDATE users SET name = 'Augusta'", "303 /account"),
        (ADD_APP, SECOND_STEP),
        (ADD_PASSKEY, SECOND_STEP),
        ("UPDATE users SET password_hash = 'of another password'", "422"),
        ("UPDATE users SET deactivated_at = now()", "422"),
        ("DELETE FROM users", "422"),
        (ADD_SESSIONS, "303 /account"),
    ],
    ids=["a name", "an app", "a passkey", "a password", "deactivated", "deleted", "many sessions"],
)
def test_a_login_that_waits_for_its_account_sees_what_was_changed_meanwhile(
    site: Any, url: str, database: Connection, change: str, answer: str
) -> None:
    register(open_browser(site))
    with closing(psycopg2.connect(url)) as changing:
        execute(changing, "SELECT FROM users FOR UPDATE")

        def change_it() -> None:
            execute(changing, change)
            changing.commit()

        act = partial(log_in, open_browser(site), status=None)
        (page,) = while_it_waits_for_a_lock(database, act, change_it)
    path = page.headers.get("Location", "").removeprefix("http://localhost")
    assert f"{page.status_int} {path}".strip() == answer
    assert count_rows(url, "sessions") <= sessions.MAX_SESSIONS


def test_a_login_that_waits_for_its_account_holds_up_no_other_login_from_its_address(
    site: Any, url: str, database: Connection
) -> None:
    for email in (EMAIL, "grace@example.com"):
        register(open_browser(site), email=email)
    with closing(psycopg2.connect(url)) as changing:
        execute(changing, "SELECT FROM users WHERE email = %s FOR UPDATE", EMAIL)

        def log_in_grace() -> None:
            log_in(open_browser(site), email="grace@example.com")
            changing.commit()

        act = partial(log_in, open_browser(site))
        (page,) = while_it_waits_for_a_lock(database, act, log_in_grace)
    assert page.status_int == 303


def test_a_link_that_is_issued_while_links_are_voided_causes_no_deadlock(
    url: str, database: Connection
) -> None:
    pool = ConnectionPool(url)
    ada = add_user(database)
    ((mail_id,),) = execute(
        database,
        "INSERT INTO mails (kind, recipient, user_id) VALUES ('change', %s, %s) RETURNING id",
        EMAIL,
        ada,
    )
    links.issue(database, "change", EMAIL, ada)
    execute(database, "UPDATE tokens SET expires_at = now() - interval '1 day'")

    def issue() -> str | None:
        with pool.autocommit() as db:
            return links.issue_for_mail(db, mail_id, "change", EMAIL, ada)

    with closing(psycopg2.connect(url)) as voiding:
        mails.delete_with_links(voiding, ada)

        def go_on() -> None:
            tokens.delete_of_user(voiding, ada)
            voiding.commit()

        assert while_it_waits_for_a_lock(database, issue, go_on) == [None]
    assert execute(database, "SELECT FROM tokens") == []


def test_an_event_during_the_deletion_of_its_account_causes_no_deadlock(
    url: str, database: Connection
) -> None:
    ada = add_user(database)
    events.insert(database, Event("registered", ada))
    with (
        closing(psycopg2.connect(url)) as deleting,
        closing(psycopg2.connect(url)) as failing,
    ):
        actor = Actor(failing, Client("192.0.2.1"), lambda _event: None)

        def record() -> bool:
            actor.record("login_failed", ada)
            failing.commit()
            return True

        def delete() -> None:
            users.delete(deleting, ada)
            deleting.commit()

        execute(deleting, "SELECT FROM users FOR UPDATE")
        assert while_it_waits_for_a_lock(database, record, delete) == [True]
    assert execute(database, "SELECT FROM account_events") == []


def test_a_code_that_is_used_locks_no_forgotten_rate_limit(url: str, database: Connection) -> None:
    # Its transaction then waits for the limits of the account: another lock may be a deadlock.
    ada = add_user(database)
    codes = [hashlib.sha256(f"{ada} {'A' * 24}".encode()).digest()]
    recovery_codes.insert(database, ada, codes)
    throttles.insert(database, login_limits(database, "192.0.2.1", EMAIL))
    execute(database, "UPDATE throttles SET forget_at = now() - interval '1 day'")
    with closing(psycopg2.connect(url)) as db:
        actor = Actor(db, Client("192.0.2.1"), lambda _event: None)
        second_factor.use_code(actor, SecretBox(["k" * 32], "totp"), ada, "A" * 24)
        assert len(execute(database, "SELECT FROM throttles FOR UPDATE NOWAIT")) == 3


def run_simultaneously(*acts: Callable[[], Any]) -> list[Any]:
    """Call all functions at the same time, and return their results in order."""
    start = threading.Barrier(len(acts))
    results: list[Any] = [None] * len(acts)

    def act(number: int) -> None:
        start.wait()
        results[number] = acts[number]()

    threads = [threading.Thread(target=act, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def prepare_form(browser: webtest.TestApp, path: str, **typed: str) -> Callable[[], int]:
    """Fill in the form of a page; return a function that sends it and returns the status."""
    form = browser.get(path).forms[1]
    for name, value in typed.items():
        form[name] = value
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    app = webtest.TestApp(browser.app, extra_environ={**browser.extra_environ})
    return lambda: int(
        app.post(
            form.response.request.path_qs,
            form.submit_fields(),
            headers={"Cookie": cookies},
            status="*",
        ).status_int
    )


NEW = {"current": PASSWORD, "password": "staple battery horse", "confirm": "staple battery horse"}
RACES: dict[str, list[tuple[str, dict[str, str]]]] = {
    "delete, twice": [("/account/delete", {"current": PASSWORD})] * 2,
    "change the password, twice": [("/account/password", NEW)] * 2,
    "delete, and change the password": [
        ("/account/delete", {"current": PASSWORD}),
        ("/account/password", NEW),
    ],
    "delete, and change the name": [
        ("/account/delete", {"current": PASSWORD}),
        ("/account/profile", {"name": "Augusta"}),
    ],
    "end all others, twice": [("/account/sessions/end?session=others", {})] * 2,
    "re-authenticate, twice": [("/account/confirm", {"current": PASSWORD})] * 2,
    "re-authenticate, and end all others": [
        ("/account/confirm", {"current": PASSWORD}),
        ("/account/sessions/end?session=others", {}),
    ],
    "delete, and re-authenticate": [
        ("/account/delete", {"current": PASSWORD}),
        ("/account/confirm", {"current": PASSWORD}),
    ],
}


@pytest.mark.parametrize("race", RACES)
def test_simultaneous_changes_of_an_account_are_made_once_without_an_error(
    site: Any, race: str
) -> None:
    for number in range(5):
        email = f"{number}@example.com"
        browser = open_browser(site)
        register(browser, email=email)
        statuses = run_simultaneously(
            *(prepare_form(browser, path, **typed) for path, typed in RACES[race])
        )
        assert statuses == [303, 303]


def test_a_login_during_the_deletion_of_its_account_leaves_no_session(site: Any, url: str) -> None:
    for number in range(5):
        email = f"{number}@example.com"
        browser = open_browser(site)
        register(browser, email=email)
        login = open_browser(site)
        login.get("/login")
        deleted, right, wrong = run_simultaneously(
            prepare_form(browser, "/account/delete", current=PASSWORD),
            partial(log_in, login, email=email, status=None),
            partial(log_in, open_browser(site), email=email, password="a wrong one", status=None),
        )
        assert deleted == 303
        assert right.status_int in (303, 422)
        assert wrong.status_int == 422
    assert (count_rows(url, "users"), count_rows(url, "sessions")) == (0, 0)


def test_sessions_that_end_all_others_simultaneously_leave_at_most_one(site: Any, url: str) -> None:
    for number in range(5):
        email = f"{number}@example.com"
        browsers = [open_browser(site) for _ in range(3)]
        register(browsers[0], email=email)
        for browser in browsers[1:]:
            log_in(browser, email=email)
        acts = [prepare_form(each, "/account/sessions/end?session=others") for each in browsers]
        assert run_simultaneously(*acts) == [303] * 3
    assert count_rows(url, "sessions") <= 5


def test_simultaneous_logins_do_not_exceed_the_limit_of_sessions(
    site: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each of the eight logins counts as a failure until it succeeds.
    monkeypatch.setattr(rate_limits, "MAX_PER_ACCOUNT_AND_NETWORK", 100)
    register(open_browser(site))
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO sessions (id, user_id, idle_limit, expires_at)
            SELECT sha256(n::text::bytea), id, '2 hours', now() + interval '1 day'
              FROM users, generate_series(1, 97) AS n
            """
        )
    connection.close()
    browsers = [open_browser(site) for _ in range(8)]
    answers = run_simultaneously(*(partial(log_in, browser) for browser in browsers))
    assert [answer.status_int for answer in answers] == [303] * 8
    assert count_rows(url, "sessions") == 100
    assert all(browser.get("/account", status="*").status_int == 200 for browser in browsers)


def test_a_name_change_does_not_undo_a_simultaneous_address_change(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = open_browser(site)
    register(browser)
    lock_live = sessions.lock_live

    def change_address_first(db: Connection, session: Session) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(sessions, "lock_live", lock_live)
            other = open_browser(site)
            log_in(other)
            send(other, "/account/profile", email="new@example.com")
        return lock_live(db, session)

    with monkeypatch.context() as patch:
        patch.setattr(sessions, "lock_live", change_address_first)
        send(browser, "/account/profile", name="Augusta")
    log_in(open_browser(site), email="new@example.com")
    assert [each.get_text() for each in browser.get("/account").html("dd")[:2]] == [
        "Augusta",
        "new@example.com",
    ]


def test_a_wrong_password_is_recorded_even_if_the_session_ends_during_the_check(
    site: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = open_browser(site)
    register(browser)

    def end_sessions() -> None:
        connection = psycopg2.connect(url)
        with connection, connection.cursor() as cursor:
            cursor.execute("DELETE FROM sessions")
        connection.close()

    before_verifying(monkeypatch, end_sessions)
    change_password(browser, current="a wrong one", status=303)
    connection = psycopg2.connect(url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT event FROM account_events ORDER BY id")
        assert cursor.fetchall() == [("registered",), ("logged_in",), ("check_failed",)]
    connection.close()
