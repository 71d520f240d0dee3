"""The audit trail."""

from psycopg2.extensions import connection as Connection

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
