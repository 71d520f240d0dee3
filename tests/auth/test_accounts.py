"""Registration, changes, deactivation and deletion of an account."""

import pytest
from psycopg2.extensions import connection as Connection

from hello_login.auth import accounts, sessions
from hello_login.auth.accounts import EmailTaken
from hello_login.auth.passwords import PasswordRefused
from hello_login.repositories import users
from hello_login.repositories.events import Event
from tests.people import EMAIL, PASSWORD
from tests.visitor import Visitor


def test_an_address_can_be_registered_only_once(visitor: Visitor) -> None:
    visitor.register_ada()
    with pytest.raises(EmailTaken):
        visitor.register_ada()


def test_a_refused_password_creates_no_account(visitor: Visitor, db: Connection) -> None:
    with pytest.raises(PasswordRefused):
        visitor.register_ada(password="short")
    assert users.get_by_email(db, EMAIL) is None


def test_changing_the_password_ends_all_other_sessions(visitor: Visitor, db: Connection) -> None:
    user_id = visitor.register_ada()
    mine, other = (visitor.begin_session(user_id) for _ in range(2))
    visitor.change_password(visitor.user(), "staple battery horse", keep=mine)
    assert [each.fingerprint for each in sessions.list_live(db, user_id)] == [mine.fingerprint]
    assert mine.fingerprint != other.fingerprint
    assert visitor.can_log_in("staple battery horse")
    assert not visitor.can_log_in(PASSWORD)


def test_a_new_password_must_meet_the_rules(visitor: Visitor) -> None:
    visitor.register_ada()
    with pytest.raises(PasswordRefused):
        visitor.change_password(visitor.user(), EMAIL)
    assert visitor.can_log_in(PASSWORD)


def test_an_account_cannot_take_the_address_of_another_account(
    visitor: Visitor,
) -> None:
    session = visitor.begin_session(visitor.register_ada())
    visitor.register(name="Grace", email="grace@example.com", password=PASSWORD)
    with pytest.raises(EmailTaken):
        accounts.change_profile(visitor.actor, session, name="Ada", email="GRACE@example.com")
    assert visitor.user().email == EMAIL


def test_deactivating_an_account_ends_its_sessions_and_refuses_logins(
    visitor: Visitor,
) -> None:
    user_id = visitor.register_ada()
    token = visitor.complete_login(user_id).token
    accounts.deactivate(visitor.actor, visitor.user())
    assert visitor.find_session(token) is None
    assert not visitor.can_log_in(PASSWORD)
    accounts.reactivate(visitor.actor, visitor.user())
    assert visitor.find_session(token) is None
    assert visitor.can_log_in(PASSWORD)


def test_deleting_an_account_leaves_one_event_without_its_id(
    visitor: Visitor, db: Connection, logged_events: list[Event]
) -> None:
    user_id = visitor.register_ada()
    session = visitor.begin_session(user_id)
    accounts.delete(visitor.actor, visitor.user(), session)
    with db.cursor() as cursor:
        cursor.execute("SELECT event, user_id, host(address) FROM account_events")
        assert cursor.fetchall() == [("deleted", None, "192.0.2.1")]
        cursor.execute("SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM sessions)")
        assert cursor.fetchone() == (0,)
    assert logged_events[-1] == Event("deleted", user_id, session.fingerprint, "192.0.2.1", None)
