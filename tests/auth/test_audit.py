"""The audit trail."""

from contextlib import closing

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from hello_login.auth import audit
from hello_login.auth.audit import RETENTION, make_event
from hello_login.auth.clients import Client
from hello_login.repositories import events
from tests.rows import DROP_NEXT_MONTH, execute
from tests.visitor import Visitor


def test_a_month_that_cannot_be_prepared_is_reported_if_it_is_the_next_one(
    database: Connection, url: str
) -> None:
    execute(database, DROP_NEXT_MONTH)
    execute(database, "SET statement_timeout = '60s'")  # ends a wait without a limit
    with closing(psycopg2.connect(url)) as reading:
        execute(reading, "SELECT FROM account_events_default")
        problem = audit.prepare_months(database)
    assert problem is not None
    assert problem.startswith(
        "The events of next month have no partition: canceling statement due to lock timeout: run "
    )
    assert audit.prepare_months(database) is None
    assert events.has_next_month(database)


def test_a_month_after_the_next_one_may_be_prepared_later(database: Connection, url: str) -> None:
    ((last,),) = execute(
        database,
        "SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = "
        "'account_events'::regclass AND inhrelid <> 'account_events_default'::regclass",
    )
    execute(database, f"DROP TABLE {last}")
    with closing(psycopg2.connect(url)) as reading:
        execute(reading, "SELECT FROM account_events_default")
        assert audit.prepare_months(database) is None
    assert execute(database, "SELECT to_regclass(%s)", last) == [(None,)]


def test_an_event_has_the_device_of_the_client(visitor: Visitor, db: Connection) -> None:
    user_id = visitor.register_ada()
    assert [event.device for event in events.list_of_user(db, user_id, 1, RETENTION)] == [
        "Firefox on Linux"
    ]


@pytest.mark.parametrize(
    ("client", "device"),
    [
        (Client(address="192.0.2.1"), "Unknown device"),
        (Client(request_id="a request from no IP address"), "Unknown device"),
        (Client(), None),
    ],
)
def test_only_an_event_of_an_operator_has_no_device(client: Client, device: str | None) -> None:
    assert make_event(client, "logged_in").device == device
