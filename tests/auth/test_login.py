"""Authentication and re-authentication with a password, and with a code after it."""

from collections.abc import Callable

import pytest
from passlib.context import CryptContext
from psycopg2.extensions import connection as Connection

from hello_login import settings
from hello_login.auth import accounts, links, login, second_factor, sessions
from hello_login.auth.audit import RETENTION
from hello_login.auth.login import AuthenticationFailed, HalfLoginEnded, SecondFactorNeeded
from hello_login.auth.passwords import Passwords
from hello_login.auth.rate_limits import RateLimited
from hello_login.auth.second_factor import CodeRefused
from hello_login.auth.totp import SecretBox
from hello_login.repositories import events, recovery_codes, users
from hello_login.repositories.events import Event
from hello_login.repositories.sessions import Session
from tests.conftest import MakeIni, OpenVisitor
from tests.functional.authenticator import (
    BOX,
    Clock,
    Phone,
    add_app,
    begin_half_login,
    complete,
)
from tests.people import EMAIL, NEW_PASSWORD, PASSWORD
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
    stored = [event.event for event in events.list_of_user(db, user_id, 100, RETENTION)]
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


# The second step


@pytest.fixture
def ada(session: Session) -> int:
    """Return the id of Ada's account."""
    return session.user.id


@pytest.fixture
def phone(visitor: Visitor, session: Session, clock: Clock) -> Phone:
    """Return the app of Ada's account, of which no code near to the current time was used."""
    phone, _ = add_app(visitor, session)
    clock.tick(1000)
    return phone


def events_of(visitor: Visitor, user_id: int) -> list[str]:
    """Return the names of the account's events, the latest first."""
    return [each.event for each in events.list_of_user(visitor.db, user_id, 100, RETENTION)]


@pytest.mark.usefixtures("phone")
def test_no_session_begins_without_the_second_factor(visitor: Visitor, ada: int) -> None:
    before = visitor.user(), events_of(visitor, ada)
    with pytest.raises(SecondFactorNeeded):
        visitor.complete_login(ada)
    assert (visitor.user(), events_of(visitor, ada)) == before


@pytest.mark.parametrize("remembered", [False, True])
def test_a_code_completes_a_half_login_once(
    visitor: Visitor, ada: int, phone: Phone, clock: Clock, remembered: bool
) -> None:
    half = begin_half_login(visitor, ada, remembered=remembered)
    issued = complete(visitor, half, phone.code())
    assert issued.remembered == remembered
    found = visitor.find_session(issued.token)
    assert found is not None
    assert found.user.id == ada
    clock.tick()
    with pytest.raises(HalfLoginEnded):
        complete(visitor, half, phone.code())
    # That code was not used.
    complete(visitor, begin_half_login(visitor, ada), phone.code())


def test_a_completed_half_login_ends_the_others_of_the_account(
    visitor: Visitor, ada: int, phone: Phone, clock: Clock
) -> None:
    first, second = begin_half_login(visitor, ada), begin_half_login(visitor, ada)
    complete(visitor, first, phone.code())
    clock.tick()
    with pytest.raises(HalfLoginEnded):
        complete(visitor, second, phone.code())


def test_a_half_login_goes_on_after_a_wrong_code(visitor: Visitor, ada: int, phone: Phone) -> None:
    half = begin_half_login(visitor, ada)
    for code in ("A" * 24, phone.code(500)):
        with pytest.raises(CodeRefused):
            complete(visitor, half, code)
    complete(visitor, half, phone.code())
    assert events_of(visitor, ada)[:3] == ["logged_in", "second_failed", "second_failed"]


def expire(visitor: Visitor, seconds: int) -> None:
    """Let this number of seconds pass for all half logins."""
    with visitor.db.cursor() as cursor:
        cursor.execute(
            "UPDATE half_logins SET expires_at = expires_at - %s * interval '1 second'", [seconds]
        )


def test_a_half_login_expires_after_ten_minutes(visitor: Visitor, ada: int, phone: Phone) -> None:
    half = begin_half_login(visitor, ada)
    expire(visitor, 599)
    with pytest.raises(CodeRefused):
        complete(visitor, half, phone.code(500))
    expire(visitor, 1)
    with pytest.raises(HalfLoginEnded):
        complete(visitor, half, phone.code())


def test_half_logins_delete_expired_ones(visitor: Visitor, ada: int) -> None:
    for _ in range(3):
        begin_half_login(visitor, ada)
    expire(visitor, 601)
    begin_half_login(visitor, ada)
    with visitor.db.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM half_logins")
        assert cursor.fetchone() == (1,)


def reset(visitor: Visitor) -> None:
    user = visitor.user()
    token = links.issue(visitor.db, "reset", user.email, user.id)
    accounts.reset_password(visitor.actor, visitor.passwords, token, "reset", user, NEW_PASSWORD)


def undo_address(visitor: Visitor) -> None:
    user = visitor.user()
    token = links.issue(visitor.db, "undo", user.email, user.id)
    accounts.undo_address(visitor.actor, visitor.passwords, token, user, user.email, NEW_PASSWORD)


ENDINGS: dict[str, Callable[[Visitor], object]] = {
    "a new password": lambda visitor: visitor.change_password(visitor.user(), NEW_PASSWORD),
    "a reset": reset,
    "an undone change of the address": undo_address,
    "a deactivation": lambda visitor: accounts.deactivate(visitor.actor, visitor.user()),
    "the end of all sessions": lambda visitor: sessions.end_all(visitor.actor, visitor.user()),
    "the removal of the factor": lambda visitor: second_factor.remove_all(
        visitor.actor, visitor.user()
    ),
    "the deletion of the account": lambda visitor: accounts.delete(visitor.actor, visitor.user()),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_half_login_ends_with(visitor: Visitor, ada: int, phone: Phone, ending: str) -> None:
    half = begin_half_login(visitor, ada)
    ENDINGS[ending](visitor)
    with pytest.raises(HalfLoginEnded):
        complete(visitor, half, phone.code())


def test_the_tokens_of_half_logins_sessions_and_links_are_not_interchangeable(
    visitor: Visitor, ada: int, phone: Phone
) -> None:
    token = login.begin_half_login(visitor.actor, ada, remembered=False)
    half = login.find_half_login(visitor.db, token)
    assert half is not None
    assert visitor.find_session(token) is None
    assert links.find(visitor.db, token) is None
    for purpose in links.LIFETIMES:
        assert links.use(visitor.db, token, purpose) is None
    link = links.issue(visitor.db, "reset", EMAIL, ada)
    issued = complete(visitor, half, phone.code())
    for other in (link, issued.token, half.id.hex(), ""):
        assert login.find_half_login(visitor.db, other) is None


def test_a_failure_to_decrypt_is_neither_counted_nor_recorded(
    visitor: Visitor, ada: int, phone: Phone
) -> None:
    half = begin_half_login(visitor, ada)
    for _ in range(4):
        with pytest.raises(CodeRefused):
            complete(visitor, half, phone.code(500))
    recorded = events_of(visitor, ada)
    for _ in range(10):
        with pytest.raises(CodeRefused) as caught:
            complete(visitor, half, phone.code(), box=SecretBox(["another key, " * 3], "totp"))
        assert caught.value.reason == "unreadable"
    assert events_of(visitor, ada) == recorded
    with pytest.raises(CodeRefused):  # It resets nothing either: this is the fifth wrong code.
        complete(visitor, half, phone.code(500))
    with pytest.raises(RateLimited):
        complete(visitor, half, phone.code())


# Re-authentication with a code


def reauthenticate(
    visitor: Visitor, session: Session, password: str, code: str, *, box: SecretBox = BOX
) -> None:
    attempt = visitor.rate_limiter.admit_reauthentication(session)
    login.reauthenticate(visitor.actor, visitor.passwords, attempt, password, code=code, box=box)


def test_reauthentication_with_a_factor_needs_the_password_and_an_unused_code(
    visitor: Visitor, session: Session, phone: Phone, clock: Clock
) -> None:
    reauthenticate(visitor, session, PASSWORD, phone.code())
    for code in (phone.code(), phone.code(500), "A" * 24, ""):
        with pytest.raises(CodeRefused):
            reauthenticate(visitor, session, PASSWORD, code)
    assert events_of(visitor, session.user.id)[:4] == ["check_failed"] * 4
    with pytest.raises(CodeRefused):
        reauthenticate(visitor, session, PASSWORD, phone.code(500))
    clock.tick()
    with pytest.raises(RateLimited):
        reauthenticate(visitor, session, PASSWORD, phone.code())
    complete(visitor, begin_half_login(visitor, session.user.id), phone.code())


def test_a_wrong_password_does_not_use_the_code_up(
    visitor: Visitor, session: Session, phone: Phone
) -> None:
    with pytest.raises(AuthenticationFailed):
        reauthenticate(visitor, session, "a wrong one", phone.code())
    reauthenticate(visitor, session, PASSWORD, phone.code())


def test_a_code_that_was_used_to_log_in_does_not_reauthenticate(
    visitor: Visitor, session: Session, phone: Phone
) -> None:
    complete(visitor, begin_half_login(visitor, session.user.id), phone.code())
    with pytest.raises(CodeRefused) as caught:
        reauthenticate(visitor, session, PASSWORD, phone.code())
    assert caught.value.reason == "used"


@pytest.mark.usefixtures("clock")
def test_reauthentication_with_a_recovery_code_uses_it_up(
    visitor: Visitor, session: Session
) -> None:
    _, codes = add_app(visitor, session)
    reauthenticate(visitor, session, PASSWORD, codes[0])
    with pytest.raises(CodeRefused):
        reauthenticate(visitor, session, PASSWORD, codes[0])
    assert recovery_codes.count(visitor.db, session.user.id) == 9


def test_a_failure_to_decrypt_at_reauthentication_is_neither_counted_nor_recorded(
    visitor: Visitor, session: Session, phone: Phone
) -> None:
    recorded = events_of(visitor, session.user.id)
    other_box = SecretBox(["another key, " * 3], "totp")
    for _ in range(10):
        with pytest.raises(CodeRefused) as caught:
            reauthenticate(visitor, session, PASSWORD, phone.code(), box=other_box)
        assert caught.value.reason == "unreadable"
    assert events_of(visitor, session.user.id) == recorded
    reauthenticate(visitor, session, PASSWORD, phone.code())
