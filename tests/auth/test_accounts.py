"""Registration, changes, deactivation and deletion of an account."""

import dataclasses
from functools import partial

import pytest
from psycopg2.extensions import connection as Connection

from hello_login.auth import accounts, links, sessions
from hello_login.auth.accounts import EmailTaken, LinkExpired
from hello_login.auth.clients import DeviceCookie
from hello_login.auth.passwords import PasswordRefused
from hello_login.repositories import mails, users
from hello_login.repositories.events import Event
from hello_login.repositories.users import User
from tests.conftest import CLIENT
from tests.people import EMAIL, PASSWORD
from tests.rows import add_passkey, execute
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
    event = Event("deleted", user_id, session.fingerprint, CLIENT.address, device=CLIENT.device)
    assert logged_events[-1] == event


# Mail


@pytest.fixture
def mailing(visitor: Visitor) -> Visitor:
    """Return the visitor of a site that sends mail, where Ada has registered."""
    visitor.register_ada()
    visitor.actor = dataclasses.replace(visitor.actor, sends_mail=True)
    return visitor


def notices(db: Connection) -> list[tuple[str, str]]:
    """Return the kind and the recipient of each mail that waits, and delete them."""
    waiting = mails.list_all(db, 100)
    for mail in waiting:
        mails.delete(db, mail.id)
    return [(mail.kind, mail.recipient) for mail in waiting]


def link_for(visitor: Visitor, purpose: str, address: str = EMAIL) -> tuple[str, User]:
    """Return the token of a link for Ada's account, and the account."""
    user = visitor.user()
    token = links.issue(visitor.db, purpose, address, user.id)
    return token, user


def names(logged_events: list[Event]) -> list[str]:
    return [event.event for event in logged_events]


def test_without_mail_nobody_is_told_of_anything(visitor: Visitor, db: Connection) -> None:
    user_id = visitor.register_ada()
    visitor.change_password(visitor.user(), "staple battery horse")
    visitor.complete_login(user_id)
    accounts.deactivate(visitor.actor, visitor.user())
    accounts.delete(visitor.actor, visitor.user())
    assert notices(db) == []


def test_the_owner_is_told_of_each_change_of_the_account(mailing: Visitor, db: Connection) -> None:
    user = mailing.user()
    mailing.change_password(user, "staple battery horse")
    accounts.deactivate(mailing.actor, user)
    accounts.reactivate(mailing.actor, user)
    accounts.delete(mailing.actor, user)
    assert notices(db) == [("deleted", EMAIL)]  # the others are deleted with the account
    mailing.register_ada()
    user = mailing.user()
    mailing.change_password(user, "staple battery horse")
    accounts.deactivate(mailing.actor, user)
    accounts.reactivate(mailing.actor, user)
    (first, *_) = mails.list_all(db, 10)
    assert first.facts == {"from_address": "192.0.2.1", "device": "Firefox on Linux"}
    assert notices(db) == [
        ("password_changed", EMAIL),
        ("deactivated", EMAIL),
        ("reactivated", EMAIL),
    ]


def test_the_owner_is_told_of_a_login_unless_the_device_has_logged_in_with_this_password(
    mailing: Visitor, db: Connection
) -> None:
    user_id = mailing.user().id
    with db.cursor() as cursor:
        # Otherwise all of a test happens at one time, and the account was registered just now.
        cursor.execute("UPDATE users SET created_at = created_at - interval '1 minute'")
    auth_hash = mailing.complete_login(user_id).auth_hash
    assert notices(db) == [("new_device", EMAIL)]
    mailing.actor = dataclasses.replace(
        mailing.actor, client=mailing.actor.client._replace(known=DeviceCookie(auth_hash, "id"))
    )
    mailing.complete_login(user_id)
    assert notices(db) == []
    mailing.change_password(mailing.user(), "staple battery horse")
    mailing.complete_login(user_id)
    assert notices(db) == [("password_changed", EMAIL), ("new_device", EMAIL)]


def test_the_owner_of_a_new_account_is_not_told_of_the_first_login(
    mailing: Visitor, db: Connection
) -> None:
    mailing.complete_login(mailing.user().id)
    assert notices(db) == []


def test_a_link_registers_an_account_with_a_confirmed_address(
    visitor: Visitor, db: Connection
) -> None:
    mails.insert(db, "register", EMAIL)
    (mail,) = mails.list_all(db, 1)
    token = links.issue_for_mail(db, mail.id, "register", EMAIL, None)
    assert token is not None
    link = links.find(db, token)
    assert link is not None
    typed = {"name": "Ada", "password": PASSWORD}
    user_id = accounts.register_by_link(visitor.actor, visitor.passwords, token, link, **typed)
    assert (visitor.user().id, visitor.user().confirmed_at is None) == (user_id, False)
    assert visitor.can_log_in(PASSWORD)
    with pytest.raises(LinkExpired):
        accounts.register_by_link(visitor.actor, visitor.passwords, token, link, **typed)
    token = links.issue_for_mail(db, mail.id, "register", EMAIL, None)
    assert token is not None
    with pytest.raises(LinkExpired):  # the address has an account now
        accounts.register_by_link(visitor.actor, visitor.passwords, token, link, **typed)


@pytest.mark.parametrize(("purpose", "confirms"), [("reset", True), ("recover", False)])
def test_a_reset_ends_all_sessions_and_confirms_the_address_if_its_link_was_mailed(
    mailing: Visitor, db: Connection, logged_events: list[Event], purpose: str, confirms: bool
) -> None:
    token, user = link_for(mailing, purpose)
    other, _ = link_for(mailing, purpose)
    mailing.complete_login(user.id)
    reset = partial(accounts.reset_password, mailing.actor, mailing.passwords)
    reset(token, purpose, user, "staple battery horse")
    assert sessions.list_live(db, user.id) == []
    assert mailing.can_log_in("staple battery horse")
    assert (mailing.user().confirmed_at is not None) is confirms
    assert "password_reset" in names(logged_events)
    assert notices(db) == [("password_reset", EMAIL)]
    for used in (token, other):
        with pytest.raises(LinkExpired):
            reset(used, purpose, user, "yet another passphrase")
    assert mailing.can_log_in("staple battery horse")


@pytest.mark.parametrize(
    ("purpose", "was_confirmed", "stays"),
    [("reset", False, False), ("reset", True, True), ("recover", False, True)],
)
def test_a_reset_removes_second_factors_if_the_address_was_not_confirmed_before(
    mailing: Visitor, db: Connection, purpose: str, was_confirmed: bool, stays: bool
) -> None:
    # Somebody else may have registered the address, and added a factor.
    if was_confirmed:
        users.confirm(db, mailing.user().id)
    token, user = link_for(mailing, purpose)
    add_passkey(db, user.id)
    accounts.reset_password(
        mailing.actor, mailing.passwords, token, purpose, user, "staple battery horse"
    )
    assert users.has_second_factor(db, user.id) is stays
    assert (("passkey_removed", EMAIL) in notices(db)) is not stays


def test_a_reset_needs_a_reset_link_and_a_good_password(mailing: Visitor) -> None:
    token, user = link_for(mailing, "change")
    reset = partial(accounts.reset_password, mailing.actor, mailing.passwords)
    with pytest.raises(LinkExpired):
        reset(token, "reset", user, "staple battery horse")
    token, _ = link_for(mailing, "reset")
    with pytest.raises(PasswordRefused):
        reset(token, "reset", user, EMAIL)
    reset(token, "reset", user, "staple battery horse")


def test_a_reset_link_to_an_earlier_address_does_nothing(mailing: Visitor) -> None:
    token, user = link_for(mailing, "reset", "old@example.com")
    with pytest.raises(LinkExpired):
        accounts.reset_password(
            mailing.actor, mailing.passwords, token, "reset", user, "staple battery horse"
        )
    assert mailing.can_log_in(PASSWORD)


def test_a_changed_address_is_confirmed_and_the_earlier_address_gets_a_notice(
    mailing: Visitor, db: Connection, logged_events: list[Event]
) -> None:
    token, user = link_for(mailing, "change", "new@example.com")
    reset, _ = link_for(mailing, "reset")
    accounts.change_address(mailing.actor, token, user)
    changed = users.get_by_id(db, user.id)
    assert changed is not None
    assert (changed.email, changed.confirmed_at is None) == ("new@example.com", False)
    assert notices(db) == [("address_changed", EMAIL)]
    assert names(logged_events)[-1] == "address_changed"
    assert links.find(db, reset) is None
    with pytest.raises(LinkExpired):
        accounts.change_address(mailing.actor, token, user)


def test_confirming_an_address_sends_no_notice_of_a_change(
    mailing: Visitor, db: Connection, logged_events: list[Event]
) -> None:
    token, user = link_for(mailing, "change")
    accounts.change_address(mailing.actor, token, user)
    assert mailing.user().confirmed_at is not None
    assert notices(db) == []
    assert "address_changed" not in names(logged_events)


def test_a_change_to_a_taken_address_changes_nothing_and_sends_no_notice(
    mailing: Visitor, db: Connection
) -> None:
    mailing.register(name="Grace", email="grace@example.com", password=PASSWORD)
    token, user = link_for(mailing, "change", "GRACE@example.com")
    with pytest.raises(LinkExpired):
        accounts.change_address(mailing.actor, token, user)
    assert mailing.user().email == EMAIL
    assert notices(db) == []


def test_an_undone_change_restores_the_address_and_sets_a_password(
    mailing: Visitor, db: Connection
) -> None:
    token, user = link_for(mailing, "undo", "old@example.com")
    mailing.complete_login(user.id)
    undo = partial(accounts.undo_address, mailing.actor, mailing.passwords)
    with pytest.raises(PasswordRefused):
        undo(token, user, "old@example.com", "old@example.com")
    undo(token, user, "old@example.com", "staple battery horse")
    restored = users.get_by_id(db, user.id)
    assert restored is not None
    assert (restored.email, restored.confirmed_at is None) == ("old@example.com", False)
    assert sessions.list_live(db, user.id) == []
    assert notices(db) == [("address_restored", EMAIL), ("password_reset", "old@example.com")]
    with pytest.raises(LinkExpired):
        undo(token, user, "old@example.com", "yet another passphrase")


@pytest.mark.parametrize(("age", "stays"), [("8 days", True), ("6 days", False)])
def test_an_undone_change_removes_the_second_factors_of_the_week_before_it(
    mailing: Visitor, db: Connection, age: str, stays: bool
) -> None:
    token, user = link_for(mailing, "undo", "old@example.com")
    add_passkey(db, user.id)
    execute(db, "UPDATE passkeys SET created_at = created_at - %s::interval", age)
    undo = partial(accounts.undo_address, mailing.actor, mailing.passwords)
    undo(token, user, "old@example.com", "staple battery horse")
    assert users.has_second_factor(db, user.id) is stays
    assert (("passkey_removed", "old@example.com") in notices(db)) is not stays


def test_a_change_is_not_undone_if_the_earlier_address_is_taken(
    mailing: Visitor, db: Connection
) -> None:
    mailing.register(name="Grace", email="old@example.com", password=PASSWORD)
    token, user = link_for(mailing, "undo", "old@example.com")
    with pytest.raises(LinkExpired):
        accounts.undo_address(
            mailing.actor, mailing.passwords, token, user, "old@example.com", "staple battery horse"
        )
    assert mailing.can_log_in(PASSWORD)
    assert notices(db) == []


def test_a_link_of_a_deleted_account_has_expired(mailing: Visitor) -> None:
    token, user = link_for(mailing, "change", "new@example.com")
    accounts.delete(mailing.actor, user)
    with pytest.raises(LinkExpired):
        accounts.change_address(mailing.actor, token, user)


def test_a_request_for_another_address_sends_a_link_to_it_and_a_notice_to_the_present_one(
    mailing: Visitor, db: Connection
) -> None:
    accounts.ask_for_address(mailing.actor, mailing.user(), "new@example.com")
    assert notices(db) == [("change", "new@example.com"), ("change_asked", EMAIL)]
    assert mailing.user().email == EMAIL


@pytest.mark.parametrize("change", ["password", "address", "state"])
def test_a_change_of_password_address_or_state_voids_the_links_of_the_account(
    mailing: Visitor, db: Connection, change: str
) -> None:
    token, user = link_for(mailing, "reset")
    accounts.ask_for_address(mailing.actor, user, "thief@example.com")
    if change == "password":
        mailing.change_password(user, "staple battery horse")
    elif change == "address":
        session = mailing.begin_session(user.id)
        accounts.change_profile(mailing.actor, session, name="Ada", email="new@example.com")
    else:
        accounts.deactivate(mailing.actor, user)
    assert links.find(db, token) is None
    assert ("change", "thief@example.com") not in notices(db)


def test_an_address_that_is_stored_without_a_link_is_not_confirmed(
    visitor: Visitor, db: Connection
) -> None:
    session = visitor.begin_session(visitor.register_ada())
    users.confirm(db, session.user.id)
    accounts.change_profile(visitor.actor, session, name="Augusta", email=EMAIL)
    assert visitor.user().confirmed_at is not None
    accounts.change_profile(visitor.actor, session, name="Augusta", email="new@example.com")
    changed = users.get_by_id(db, session.user.id)
    assert changed is not None
    assert (changed.email, changed.confirmed_at) == ("new@example.com", None)
