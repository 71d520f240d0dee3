"""The audit trail."""

import pytest
from psycopg2.extensions import connection as Connection

from hello_login.auth.audit import make_event
from hello_login.auth.clients import Client
from hello_login.repositories import events
from tests.visitor import Visitor


def test_events_older_than_90_days_are_deleted_when_another_is_recorded(
    visitor: Visitor, db: Connection
) -> None:
    user_id = visitor.register_ada()
    with db.cursor() as cursor:
        cursor.execute("UPDATE account_events SET happened_at = now() - interval '91 days'")
    visitor.complete_login(user_id)
    assert [event.event for event in events.list_of_user(db, user_id, 100)] == ["logged_in"]


def test_an_event_has_the_device_of_the_client(visitor: Visitor, db: Connection) -> None:
    user_id = visitor.register_ada()
    assert [event.device for event in events.list_of_user(db, user_id, 1)] == ["Firefox on Linux"]


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
