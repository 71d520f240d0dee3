"""Sessions: tokens, limits, renewal and the maximum number."""

from datetime import timedelta

from psycopg2.extensions import connection as Connection

from hello_login.auth import sessions
from hello_login.auth.audit import RETENTION
from hello_login.repositories import events
from hello_login.repositories.events import Event
from tests.conftest import CLIENT, OpenVisitor
from tests.people import PASSWORD
from tests.visitor import Visitor


def test_a_session_begins_with_a_login_and_ends_with_a_logout(visitor: Visitor) -> None:
    user_id = visitor.register_ada()
    issued = visitor.complete_login(user_id)
    session = visitor.find_session(issued.token)
    assert session is not None
    assert session.user.id == user_id
    assert session.user.last_login_at is not None
    sessions.end(visitor.actor, session)
    assert visitor.find_session(issued.token) is None


def test_each_session_has_a_token_of_256_random_bits(visitor: Visitor) -> None:
    user_id = visitor.register_ada()
    tokens = {visitor.complete_login(user_id).token for _ in range(3)}
    assert len(tokens) == 3
    assert all(len(token) == 43 for token in tokens)  # of 6 bits each


def test_the_database_does_not_hold_the_token(visitor: Visitor, db: Connection) -> None:
    token = visitor.complete_login(visitor.register_ada()).token
    with db.cursor() as cursor:
        cursor.execute("SELECT sessions::text FROM sessions")
        rows = str(cursor.fetchall())
    assert token not in rows
    assert token.encode().hex() not in rows


def test_the_use_of_a_session_is_recorded_once_a_minute_with_the_address(
    visitor: Visitor, db: Connection, open_visitor: OpenVisitor
) -> None:
    user_id = visitor.register_ada()
    token = visitor.complete_login(user_id).token
    elsewhere = open_visitor(CLIENT._replace(address="192.0.2.2"))

    def is_recorded(seconds_ago: int) -> bool:
        """Use the session this long after its last use; return whether the new use is recorded."""
        with db.cursor() as cursor:
            cursor.execute(
                "UPDATE sessions SET last_seen_at = now() - %s", (timedelta(seconds=seconds_ago),)
            )
        session = elsewhere.find_session(token)
        assert session is not None
        sessions.record_use(db, session, elsewhere.actor.client)
        with db.cursor() as cursor:
            cursor.execute("SELECT last_seen_at = now(), host(address) FROM sessions")
            return cursor.fetchone() == (True, "192.0.2.2")

    assert not is_recorded(59)
    assert is_recorded(61)


def test_a_renewed_session_has_a_new_token_and_the_same_limits(
    visitor: Visitor, db: Connection
) -> None:
    old = visitor.complete_login(visitor.register_ada(), remembered=True)
    with db.cursor() as cursor:
        cursor.execute(
            """
            UPDATE sessions
               SET authenticated_at = now() - interval '2 days',
                   expires_at = expires_at - interval '2 days'
            """
        )
    session = visitor.find_session(old.token)
    assert session is not None
    assert session.login_age == timedelta(days=2)
    new = sessions.renew(db, session)
    assert visitor.find_session(old.token) is None
    session = visitor.find_session(new.token)
    assert session is not None
    assert session.login_age == timedelta(days=2)
    assert (new.remembered, new.remaining) == (True, timedelta(days=28))
    newest = sessions.renew(db, session, authenticated=True)
    assert visitor.find_session(new.token) is None
    session = visitor.find_session(newest.token)
    assert session is not None
    assert session.login_age == timedelta(0)
    assert newest.remaining == timedelta(days=28)


def test_an_account_has_at_most_a_hundred_sessions(
    visitor: Visitor, db: Connection, logged_events: list[Event]
) -> None:
    user_id = visitor.register_ada()
    grace = visitor.register(name="Grace", email="grace@example.com", password=PASSWORD)
    her_session = visitor.begin_session(grace)
    tokens = []
    for _ in range(100):
        tokens.append(visitor.complete_login(user_id).token)
        with db.cursor() as cursor:
            cursor.execute(
                """
                UPDATE sessions
                   SET last_seen_at = last_seen_at - interval '1 millisecond'
                 WHERE id <> %s
                """,
                (her_session.id,),
            )
    assert all(map(visitor.find_session, tokens))
    oldest = visitor.find_session(tokens[0])
    assert oldest is not None
    visitor.complete_login(user_id)
    assert [token for token in tokens if visitor.find_session(token) is None] == [tokens[0]]
    assert len(sessions.list_live(db, user_id)) == 100
    assert len(sessions.list_live(db, grace)) == 1
    name, device = "session_ended_by_limit", CLIENT.device
    ended = Event(name, user_id, oldest.fingerprint, CLIENT.address, device=device)
    assert logged_events[-2] == ended
    recorded = events.list_of_user(db, user_id, 2, RETENTION)
    assert [event.event for event in recorded] == ["logged_in", "session_ended_by_limit"]
