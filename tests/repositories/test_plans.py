"""Each statement finds its rows by an index, also in large tables."""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from types import ModuleType
from typing import Any, cast

import pytest
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from hello_login.db import connections, migrations
from hello_login.db.batching import BatchingConnection
from hello_login.db.transactions import GENERIC_PLANS
from hello_login.repositories import (
    challenges,
    events,
    expired,
    half_logins,
    mails,
    passkeys,
    recovery_codes,
    sessions,
    throttles,
    tokens,
    totp,
    users,
)
from hello_login.repositories.events import Event
from hello_login.repositories.throttles import Limit
from tests.conftest import ROOT, NewDatabase
from tests.rows import add_passkey

FILL = """
    INSERT INTO users (email, name, password_hash)
    SELECT 'user' || n || '@example.com', 'User ' || n, 'hash ' || n
      FROM generate_series(1, 100000) AS n;

    INSERT INTO sessions (id, user_id, idle_limit, expires_at)
    SELECT sha256(n::text::bytea), 1 + n % 100000, '2 hours', now() + n * interval '1 second'
      FROM generate_series(1, 300000) AS n;

    INSERT INTO throttles (key, forget_at)
    SELECT sha256(n::text::bytea), now() + n * interval '1 second'
      FROM generate_series(1, 1000000) AS n;

    INSERT INTO account_events (event, user_id, happened_at)
    SELECT 'logged_in', 1 + n % 100000, now() + (n - 300000) * interval '10 seconds'
      FROM generate_series(1, 1300000) AS n;

    INSERT INTO tokens (id, purpose, user_id, address, expires_at)
    SELECT sha256(n::text::bytea), 'reset', 1 + n % 100000, 'ada@example.com',
           now() + n * interval '1 second'
      FROM generate_series(1, 300000) AS n;

    INSERT INTO totp (user_id, secret, last_step)
    SELECT n, 'a secret', 0
      FROM generate_series(3, 100000) AS n;

    INSERT INTO passkeys (id, user_id, public_key, sign_count, name, may_sync, synced, transports)
    SELECT sha256(n::text::bytea), 1 + n % 100000, 'a key', 0, 'Phone', false, false, '{}'
      FROM generate_series(1, 300000) AS n;

    INSERT INTO used_challenges (id, expires_at)
    SELECT sha256(n::text::bytea), now() + n * interval '1 second'
      FROM generate_series(1, 300000) AS n;

    INSERT INTO recovery_codes (id, user_id)
    SELECT sha256(n::text::bytea), 1 + n % 100000
      FROM generate_series(1, 1000000) AS n;

    INSERT INTO half_logins (id, user_id, remembered, expires_at)
    SELECT sha256(n::text::bytea), 1 + n % 100000, false, now() + n * interval '1 second'
      FROM generate_series(1, 300000) AS n;

    INSERT INTO mails (kind, recipient, user_id, try_at)
    SELECT 'new_device', 'ada@example.com', 1 + n % 100000,
           CASE WHEN n % 2 = 0 THEN 'infinity' ELSE now() + n * interval '1 second' END
      FROM generate_series(1, 300000) AS n;

    ANALYZE;
"""

FILL_WITH_EXPIRED_ROWS = """
    INSERT INTO users (email, name, password_hash)
    VALUES ('ada@example.com', 'Ada', 'a hash');

    CREATE TEMPORARY TABLE rows AS
    SELECT sha256(n::text::bytea) AS id,
           now() + (n * 7919 % 20000 - 6000) * interval '1 second' AS ends_at
      FROM generate_series(1, 20000) AS n;

    INSERT INTO sessions (id, user_id, idle_limit, expires_at)
    SELECT id, 1, '2 hours', ends_at FROM rows;

    INSERT INTO throttles (key, forget_at)
    SELECT id, ends_at FROM rows;

    INSERT INTO tokens (id, purpose, address, expires_at)
    SELECT id, 'register', 'ada@example.com', ends_at FROM rows;

    INSERT INTO half_logins (id, user_id, remembered, expires_at)
    SELECT id, 1, false, ends_at FROM rows;

    INSERT INTO used_challenges (id, expires_at)
    SELECT id, ends_at FROM rows;

    ANALYZE;
"""
"""Three rows in ten have expired, in no order.  PostgreSQL plans with these statistics until the
next ANALYZE, also when the expired rows are gone."""

SESSION, OTHER, NEW = bytes(range(32)), bytes(reversed(range(32))), b"n" * 32
LIMITS = [Limit(key, 5, timedelta(days=1), resets=(key,)) for key in (SESSION, OTHER)]
PERSON = {"name": "Ada", "email": "ada@example.com"}
LIFETIMES: dict[str, Any] = {"idle_limit": timedelta(hours=2), "limit": timedelta(hours=24)}
WAITS = {"first_wait": timedelta(minutes=1), "longest_wait": timedelta(hours=1)}
LINK: dict[str, Any] = {
    "purpose": "reset",
    "user_id": 2,
    "address": "user1@example.com",
    "lifetime": timedelta(hours=1),
}
NOW = datetime.now(timezone.utc)
AGE = timedelta(days=90)

Call = Callable[[Connection], object]

CALLS: dict[ModuleType, dict[str, Call]] = {
    users: {
        "insert": lambda db: users.insert(db, password_hash="a hash", **PERSON),
        "get_by_id": lambda db: users.get_by_id(db, 1),
        "get_by_email": lambda db: users.get_by_email(db, "user1@example.com"),
        "list_newest": lambda db: users.list_newest(db, before=2**63 - 1, number=50),
        "get_credentials_by_id": lambda db: users.get_credentials_by_id(db, 1),
        "get_credentials_by_email": lambda db: users.get_credentials_by_email(db, "u@example.com"),
        "get_credentials_by_passkey": lambda db: users.get_credentials_by_passkey(db, SESSION),
        "has_second_factor": lambda db: users.has_second_factor(db, 1),
        "record_factor_change": lambda db: users.record_factor_change(db, 1),
        "record_notice": lambda db: users.record_notice(db, 1, timedelta(hours=1)),
        "describe_factors": lambda db: users.describe_factors(db, 3),
        "make_handle": lambda db: users.make_handle(db, 1),
        "may_offer_passkey": lambda db: users.may_offer_passkey(db, 1),
        "decline_passkey": lambda db: users.decline_passkey(db, 1),
        "lock": lambda db: users.lock(db, 1),
        "lock_account": lambda db: users.lock_account(db, 1),
        "confirm": lambda db: users.confirm(db, 1),
        "update_password_hash": lambda db: users.update_password_hash(db, 1, "another hash"),
        "update_profile": lambda db: users.update_profile(db, 1, name="Ada", email="a@b.example"),
        "record_login": lambda db: users.record_login(db, 1),
        "deactivate": lambda db: users.deactivate(db, 1),
        "reactivate": lambda db: users.reactivate(db, 1),
        "delete": lambda db: users.delete(db, 1),
    },
    sessions: {
        "insert": lambda db: sessions.insert(
            db,
            session_id=SESSION,
            user_id=2,
            remembered=False,
            address=None,
            device="",
            **LIFETIMES,
        ),
        "find": lambda db: sessions.find(db, SESSION),
        "list_of_user": lambda db: sessions.list_of_user(db, 2, 100),
        "touch": lambda db: sessions.touch(db, SESSION, "192.0.2.1"),
        "exists": lambda db: sessions.exists(db, SESSION),
        "renew": lambda db: sessions.renew(db, SESSION, NEW, authenticated=True),
        "delete": lambda db: sessions.delete(db, SESSION),
        "delete_of_user": lambda db: sessions.delete_of_user(db, 2),
        "delete_of_user, one": lambda db: sessions.delete_of_user(db, 2, only="0" * 12),
        "delete_of_user, others": lambda db: sessions.delete_of_user(db, 2, keep=SESSION),
        "delete_least_recently_used": lambda db: sessions.delete_least_recently_used(
            db, 2, keep=99
        ),
    },
    throttles: {
        "count": lambda db: throttles.count(db, LIMITS, **WAITS),
        "insert": lambda db: throttles.insert(db, LIMITS),
        "take_back": lambda db: throttles.take_back(db, LIMITS),
        "delete_forgotten": throttles.delete_forgotten,
    },
    tokens: {
        "insert": lambda db: tokens.insert(db, NEW, **LINK),
        "insert_for_mail": lambda db: tokens.insert_for_mail(db, OTHER, mail_id=1, **LINK),
        "find": lambda db: tokens.find(db, SESSION),
        "take": lambda db: tokens.take(db, SESSION, "reset"),
        "delete_of_user": lambda db: tokens.delete_of_user(db, 2),
        "delete_of_user, undo": lambda db: tokens.delete_of_user(db, 2, NOW),
    },
    mails: {
        "insert": lambda db: mails.insert(db, "forgot", "ada@example.com"),
        "insert_notice": lambda db: mails.insert_notice(db, "new_device", 2),
        "claim": lambda db: mails.claim(db, [timedelta(minutes=1)]),
        "list_all": lambda db: mails.list_all(db, 100),
        "count": lambda db: mails.count(db, 1000),
        "delete": lambda db: mails.delete(db, 1),
        "delete_with_links": lambda db: mails.delete_with_links(db, 2),
        "delete_with_links, undo": lambda db: mails.delete_with_links(db, 2, NOW),
        "give_up": lambda db: mails.give_up(db, 2),
        "delete_given_up": lambda db: mails.delete_given_up(db, timedelta(days=30)),
    },
    expired: {
        "delete, half logins": lambda db: expired.delete(db, "half_logins"),
        "delete, sessions": lambda db: expired.delete(db, "sessions"),
        "delete, tokens": lambda db: expired.delete(db, "tokens"),
        "delete, challenges": lambda db: expired.delete(db, "used_challenges"),
    },
    events: {
        "insert": lambda db: events.insert(db, Event("logged_in", 2, address="192.0.2.1")),
        "list_of_user": lambda db: events.list_of_user(db, 2, 100, AGE),
        "list_with_failures": lambda db: events.list_with_failures(db, 2, 100, AGE),
        "find_login_before": lambda db: events.find_login_before(db, 2, SESSION, AGE),
        "prepare_months": lambda db: events.prepare_months(db, AGE),
        "has_next_month": events.has_next_month,
    },
    totp: {
        "insert": lambda db: totp.insert(db, 2, b"a secret", 0),
        "get": lambda db: totp.get(db, 3),
        "use_step": lambda db: totp.use_step(db, 3, 1),
        "store_hint": lambda db: totp.store_hint(db, 3, 1),
        "delete": lambda db: totp.delete(db, 3),
        "list_secrets": lambda db: totp.list_secrets(db, 0, 1000),
        "replace_secret": lambda db: totp.replace_secret(db, 4, b"another secret"),
    },
    passkeys: {
        "insert": lambda db: add_passkey(db, 2, NEW),
        "get": lambda db: passkeys.get(db, SESSION),
        "list_of_user": lambda db: passkeys.list_of_user(db, 2),
        "record_use": lambda db: passkeys.record_use(db, SESSION, 1, synced=True),
        "rename": lambda db: passkeys.rename(db, 2, SESSION, "Key"),
        "delete": lambda db: passkeys.delete(db, 2, [SESSION, OTHER]),
    },
    challenges: {
        "insert": lambda db: challenges.insert(db, NEW, timedelta(hours=1)),
    },
    recovery_codes: {
        "insert": lambda db: recovery_codes.insert(db, 2, [NEW]),
        "take": lambda db: recovery_codes.take(db, 2, SESSION),
        "count": lambda db: recovery_codes.count(db, 2),
        "delete_of_user": lambda db: recovery_codes.delete_of_user(db, 2),
    },
    half_logins: {
        "insert": lambda db: half_logins.insert(
            db, NEW, 2, remembered=False, lifetime=timedelta(minutes=10)
        ),
        "find": lambda db: half_logins.find(db, SESSION),
        "delete": lambda db: half_logins.delete(db, SESSION),
        "delete_of_user": lambda db: half_logins.delete_of_user(db, 2),
    },
}
"""A call of every repository function; a word after a comma distinguishes variants."""


class RecordingConnection(BatchingConnection):
    """A connection that records the statements that repositories execute."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.executed: list[bytes] = []

    def send(self, cursor: Cursor, statement: bytes) -> None:
        self.executed += [*self.waiting, statement]
        super().send(cursor, statement)

    def explain(self, statement: bytes) -> str:
        with self.cursor() as cursor:
            cursor.execute(b"EXPLAIN " + statement)
            return "\n".join(line for (line,) in cursor.fetchall())


@pytest.fixture(scope="module")
def large_db(new_database: NewDatabase) -> Iterator[RecordingConnection]:
    """Return a database with 100,000 users and apps each, 300,000 sessions, tokens, mails, half
    logins, passkeys and used challenges each, 1,000,000 throttles and recovery codes each, and
    1,300,000 events in all partitions.
    """
    with filled(new_database, FILL) as connection:
        yield connection


@pytest.fixture(scope="module")
def expired_db(new_database: NewDatabase) -> Iterator[RecordingConnection]:
    """Return a database in which 6,000 of 20,000 rows of each table with an end have expired."""
    with filled(new_database, FILL_WITH_EXPIRED_ROWS) as connection:
        yield connection


@contextmanager
def filled(new_database: NewDatabase, statements: str) -> Iterator[RecordingConnection]:
    """Return a connection to a new database that these statements have filled."""
    url = new_database()
    list(migrations.migrate(url, ROOT / "sql"))
    connection = cast(
        RecordingConnection, connections.connect(url, GENERIC_PLANS, RecordingConnection)
    )
    with closing(connection):
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statements)
        connection.begin()
        yield connection


def test_the_plan_of_every_repository_function_is_checked() -> None:
    for module, calls in CALLS.items():
        functions = {
            name
            for name, function in inspect.getmembers(module, inspect.isfunction)
            if function.__module__ == module.__name__
            and "db" in inspect.signature(function).parameters
        }
        assert functions == {name.partition(",")[0] for name in calls}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, calls in CALLS.items() for name in calls],
    ids=lambda each: each if isinstance(each, str) else each.__name__.rpartition(".")[2],
)
def test_no_statement_reads_a_whole_table(
    large_db: RecordingConnection, module: ModuleType, name: str
) -> None:
    large_db.executed.clear()
    CALLS[module][name](large_db)
    large_db.flush()
    statements = [each for each in large_db.executed if each.startswith(b"EXECUTE")]
    assert statements
    for statement in statements:
        plan = large_db.explain(statement)
        print(plan)  # noqa: T201 - pytest -rP shows it
        assert "Seq Scan" not in plan
        assert "Index" in plan or plan.startswith(("Insert", "Result"))


@pytest.mark.slow
def test_a_page_of_events_begins_at_its_place_in_the_index(large_db: RecordingConnection) -> None:
    events.list_of_user(large_db, 2, 51, AGE)
    plan = large_db.explain(large_db.executed[-1])
    assert re.search(r"Index Cond: .*ROW\(happened_at, id\) < ROW", plan)
    assert "Sort  (" not in plan


@pytest.mark.slow
@pytest.mark.parametrize(
    "read",
    [
        lambda db, age: events.list_of_user(db, 2, 100, age),
        lambda db, age: events.list_with_failures(db, 2, 100, age),
        lambda db, age: events.find_login_before(db, 2, SESSION, age),
    ],
)
def test_months_that_are_too_old_are_not_read(
    large_db: RecordingConnection, read: Callable[[Connection, timedelta], object]
) -> None:
    read(large_db, timedelta(days=-31))  # a time in the future: this month is too old
    plan = large_db.explain(large_db.executed[-1])
    assert "Subplans Removed: 1" in plan
    assert not re.search("account_events_before_(user_id|failed)_idx", plan)


@pytest.mark.slow
def test_failed_attempts_are_found_by_an_index_of_their_own(large_db: RecordingConnection) -> None:
    events.list_with_failures(large_db, 2, 100, AGE)
    plan = large_db.explain(large_db.executed[-1])
    # The names of a partition's indexes are PostgreSQL's, and end with a number if they are taken.
    assert plan.count("user_id_happened_at_id_idx1") == plan.count("user_id_happened_at_id_idx ")
    assert "account_events_before_failed_idx" in plan


@pytest.mark.slow
@pytest.mark.parametrize(
    "delete",
    [*CALLS[expired].values(), throttles.delete_forgotten],
    ids=[*CALLS[expired], "delete, throttles"],
)
def test_expired_rows_are_found_by_an_index_although_many_are_expected(
    expired_db: RecordingConnection, delete: Call
) -> None:
    delete(expired_db)
    expired_db.flush()
    assert "Seq Scan" not in expired_db.explain(expired_db.executed[-1])
