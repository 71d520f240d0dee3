"""Authentication and re-authentication with a password."""

import pytest
from passlib.context import CryptContext
from psycopg2.extensions import connection as Connection

from hello_login import settings
from hello_login.auth import accounts
from hello_login.auth.login import AuthenticationFailed
from hello_login.auth.passwords import Passwords
from hello_login.auth.rate_limits import RateLimited
from hello_login.repositories import events, users
from hello_login.repositories.events import Event
from tests.conftest import MakeIni, OpenVisitor
from tests.people import EMAIL, PASSWORD
from tests.visitor import Visitor


def test_the_right_password_authenticates_the_account(visitor: Visitor) -> None:
    user_id = visitor.register_ada()
    assert visitor.authenticate(email=EMAIL, password=PASSWORD) == user_id
    assert not visitor.can_log_in("another one")


def test_an_unknown_address_is_not_authenticated(visitor: Visitor) -> None:
    assert not visitor.can_log_in(PASSWORD)


def test_a_login_renews_a_hash_with_outdated_costs(
    visitor: Visitor, db: Connection, open_visitor: OpenVisitor, ini: MakeIni
) -> None:
    user_id = visitor.register_ada()
    stronger = open_visitor(passwords=Passwords(settings.load({}, ini(argon2_passes="2"), {})))
    assert stronger.authenticate(email=EMAIL, password=PASSWORD) == user_id
    credentials = users.get_credentials_by_email(db, EMAIL)
    assert credentials is not None
    assert "t=2" in credentials.password_hash


def test_a_deactivated_account_cannot_reauthenticate(
    visitor: Visitor,
) -> None:
    session = visitor.begin_session(visitor.register_ada())
    accounts.deactivate(visitor.actor, visitor.user())
    with pytest.raises(AuthenticationFailed):
        visitor.reauthenticate(session, PASSWORD)


def test_a_rate_limited_login_is_logged_but_not_stored(
    visitor: Visitor, db: Connection, logged_events: list[Event]
) -> None:
    user_id = visitor.register_ada()
    for _ in range(30):
        with pytest.raises((AuthenticationFailed, RateLimited)):
            visitor.authenticate(email=EMAIL, password="a wrong one")
    stored = [event.event for event in events.list_of_user(db, user_id, 100)]
    assert stored == ["login_failed"] * 5 + ["registered"]
    assert [event.event for event in logged_events].count("login_throttled") == 25


@pytest.mark.parametrize("email", [EMAIL, "nobody@example.com"])
def test_a_failed_login_costs_one_verification_whether_the_address_is_known_or_not(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, email: str
) -> None:
    visitor.register_ada()
    verified = []

    def verify(context: CryptContext, secret: str, password_hash: str) -> object:
        verified.append(password_hash)
        return real(context, secret, password_hash)

    real = CryptContext.verify_and_update
    monkeypatch.setattr(CryptContext, "verify_and_update", verify)
    with pytest.raises(AuthenticationFailed):
        visitor.authenticate(email=email, password="another one")
    (password_hash,) = verified
    assert password_hash.startswith("$argon2id$v=19$m=8,t=1,p=1$")
