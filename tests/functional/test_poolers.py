"""Applications whose connections share sessions, through a real PgBouncer in transaction mode.

These tests are skipped if the program pgbouncer is missing.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from typing import Any

import psycopg2
import pytest
import webtest
from psycopg2.errors import InvalidSqlStatementName
from psycopg2.extensions import connection as Connection

import hello_login
from hello_login import settings
from hello_login.auth import sessions
from hello_login.db import transactions
from hello_login.db.connections import ConnectionPool
from hello_login.repositories import users
from hello_login.repositories.sessions import Session
from hello_login.scripts import initialize_db, manage_accounts
from tests.conftest import ROOT, MakeIni, NewDatabase
from tests.people import EMAIL, log_in, log_out, register, send
from tests.pooler import ROLE, PgBouncer, alter_role
from tests.rows import add_user, execute

PRODUCTION = str(ROOT / "production.ini")
SESSION_ID = "SELECT pg_backend_pid()"

StartPooler = Callable[..., PgBouncer]


@pytest.fixture
def start_pooler(server_url: str) -> Iterator[StartPooler]:
    """Return a function that starts PgBouncer with a number of sessions for each database.

    A connection never has one session twice if another is idle.
    """
    with ExitStack() as started:

        def start(sessions: int, **more: object) -> PgBouncer:
            size = {"default_pool_size": sessions, "server_round_robin": 1}
            pooler = PgBouncer(server_url, "transaction", **size, **more)
            return started.enter_context(closing(pooler))

        yield start


def open_browser(ini: dict[str, str], **environ: str) -> webtest.TestApp:
    """Return a browser of a new site, which has connections of its own."""
    site: Any = hello_login.main({}, **ini)
    headers = {"HTTP_HOST": "localhost", "HTTP_ACCEPT": "text/html"}
    return webtest.TestApp(site, extra_environ={**headers, **environ})


@pytest.mark.parametrize("prepares", [True, False])
def test_a_statement_that_another_connection_has_prepared_is_never_executed(
    start_pooler: StartPooler, url: str, database: Connection, *, prepares: bool
) -> None:
    url = start_pooler(2).url(url)
    user_id = add_user(database)
    with ExitStack() as opened:
        pool = ConnectionPool(url, prepares=prepares)
        one, other = (opened.enter_context(closing(pool.acquire())) for _ in range(2))
        holder = opened.enter_context(closing(psycopg2.connect(url)))
        held = first = execute(holder, SESSION_ID)
        users.lock(one, 0)
        one.flush()  # in the second session, because the first one is held
        while held == first:
            holder.rollback()
            held = execute(holder, SESSION_ID)
        users.delete(other, 0)
        other.flush()  # in the first session
        users.lock(one, user_id)
        with pytest.raises(InvalidSqlStatementName) if prepares else nullcontext():
            one.flush()  # in the first session
    assert users.get_by_id(database, user_id) is not None


def test_without_the_setting_each_error_is_reported_and_no_request_is_retried(
    start_pooler: StartPooler,
    url: str,
    ini: MakeIni,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = start_pooler(1, ignore_startup_parameters="options").url(url)
    place = {"database_url": url, "database_pooler": "session"}
    one, other = open_browser(ini(**place)), open_browser(ini(**place))
    register(one)
    one.get("/account")
    other.set_cookie("session", one.cookies["session"])
    requests = []
    find = sessions.find

    def count(db: Connection, token: str) -> Session | None:
        requests.append(db)
        return find(db, token)

    monkeypatch.setattr(sessions, "find", count)
    for person, reason in ((other, "already exists"), (one, "does not exist")):
        caplog.clear()
        assert person.get("/account", status=503).headers["Retry-After"] == "5"
        remedy = "let the pooler keep a session for each connection, or set DATABASE_POOLER="
        assert f"{reason}: {remedy}" in caplog.text
        with closing(psycopg2.connect(url)) as connection:
            execute(connection, "DEALLOCATE ALL")
            connection.commit()
    assert len(requests) == 2


def test_with_the_setting_many_people_use_two_sites_in_two_sessions(
    start_pooler: StartPooler,
    url: str,
    ini: MakeIni,
    database: Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = {"database_url": start_pooler(2).url(url), "database_pooler": "transaction"}
    alter_role(url)
    sites = [ini(**place), ini(**place)]
    browsers = [
        open_browser(sites[number % 2], REMOTE_ADDR=f"192.0.{number}.1") for number in range(6)
    ]
    done = []

    def visit(number: int, browser: webtest.TestApp) -> None:
        email = f"ada{number}@example.com"
        register(browser, email=email, name=f"Ada {number}")
        for turn in range(3):
            send(browser, "/account/profile", name=f"Ada {number}, {turn}")
            log_out(browser)
            log_in(browser, email=email)
            assert f"Ada {number}, {turn}" in browser.get("/account")
        done.append(number)

    threads = [threading.Thread(target=visit, args=each) for each in enumerate(browsers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(6))
    assert [each.message for each in caplog.records if each.levelname != "INFO"] == []
    statement = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND datname = %s"
    assert execute(database, statement, ROLE, database.info.dbname) == [(2,)]


def test_a_pooler_that_refuses_options_is_reported_at_start_with_the_setting(
    start_pooler: StartPooler, url: str, ini: MakeIni
) -> None:
    place = {"database_url": start_pooler(1).url(url), "database_pooler": "session"}
    with pytest.raises(SystemExit, match=r"startup parameter.* or set DATABASE_POOLER=transaction"):
        transactions.check_at_start(settings.load({}, ini(**place), {}), "my.ini")


def test_missing_timeouts_of_the_role_are_reported_until_the_pooler_reconnects(
    start_pooler: StartPooler, url: str, ini: MakeIni, caplog: pytest.LogCaptureFixture
) -> None:
    pooler = start_pooler(1, admin_users="postgres")
    place = {"database_url": pooler.url(url), "database_pooler": "transaction"}
    checked = settings.load({}, ini(**place), {})
    transactions.check_at_start(checked, "my.ini")
    alter_role(url)
    transactions.check_at_start(checked, "my.ini")
    assert len(caplog.messages) == 2
    for message in caplog.messages:
        assert f'run ALTER ROLE "{ROLE}" IN DATABASE ' in message
    caplog.clear()
    with closing(psycopg2.connect(pooler.url(url), dbname="pgbouncer")) as console:
        console.autocommit = True
        execute(console, "RECONNECT")
    transactions.check_at_start(checked, "my.ini")
    assert caplog.messages == []


def test_the_commands_of_the_operator_work_while_a_site_shares_their_session(
    start_pooler: StartPooler,
    new_database: NewDatabase,
    ini: MakeIni,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    direct = new_database()
    url = start_pooler(1).url(direct)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("DATABASE_POOLER", "transaction")
    monkeypatch.setenv("DATABASE_DIRECT_URL", direct.replace("postgres@", f"{ROLE}@"))
    monkeypatch.setenv("SECRET_KEY", "k" * 32)
    initialize_db.main([PRODUCTION])
    assert f'Executed ALTER ROLE "{ROLE}"' in capsys.readouterr().out
    place = {"database_url": url, "database_pooler": "transaction"}
    transactions.check_at_start(settings.load({}, ini(**place), {}), "my.ini")
    assert caplog.messages == []
    browser = open_browser(ini(**place))
    register(browser)
    for _ in range(2):
        for command in ("deactivate", "reactivate", "end-sessions"):
            manage_accounts.main([PRODUCTION, command, EMAIL])
            assert f"{command}: done for account 1" in capsys.readouterr().out
        log_in(browser)
        assert "Ada Lovelace" in browser.get("/account")
