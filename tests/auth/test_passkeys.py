"""The passkeys of an account."""

from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from hello_login.auth import accounts, login, passkeys, second_factor
from hello_login.auth.ceremonies import Ceremony, Purpose, RelyingParty
from hello_login.auth.webauthn import PasskeyRefused
from hello_login.repositories import passkeys as table
from hello_login.repositories import users
from hello_login.repositories.passkeys import Passkey
from hello_login.repositories.sessions import Session
from tests.functional.authenticator import BOX, add_app, begin_half_login, complete
from tests.functional.software_key import ORIGIN, SoftwareKey
from tests.people import PASSWORD
from tests.rows import add_expired_limit, execute
from tests.visitor import Visitor

SITE = RelyingParty("Hello Login", ORIGIN, ("a secret key",))


def ceremony(purpose: Purpose) -> Ceremony:
    return Ceremony(SITE, purpose, "a token")


def add(visitor: Visitor, session: Session, key: SoftwareKey) -> list[str]:
    """Add a passkey, and return the recovery codes."""
    handle = users.make_handle(visitor.db, session.user.id)
    options = ceremony("add").creation_options(session.user, handle, [])
    return passkeys.add(visitor.actor, ceremony("add"), session, key.create(options))


def log_in(visitor: Visitor, key: SoftwareKey, **forged: Any) -> int:
    """Log in with a passkey, and return the account's id."""
    credential = key.get(ceremony("log in").request_options(), **forged)
    attempt = visitor.rate_limiter.admit_passkey(passkey_id=key.passkey_id)
    actor = visitor.actor
    account = login.authenticate_with_passkey(actor, ceremony("log in"), attempt, credential)
    return account.credentials.user_id


def refusal(visitor: Visitor, key: SoftwareKey, **forged: Any) -> str:
    """Log in with a passkey that is refused, and return the reason."""
    with pytest.raises(PasskeyRefused) as raised:
        log_in(visitor, key, **forged)
    return raised.value.reason


@pytest.fixture
def key(visitor: Visitor, session: Session) -> SoftwareKey:
    """Return the authenticator of Ada's passkey."""
    key = SoftwareKey()
    assert len(add(visitor, session, key)) == 10
    return key


def only(visitor: Visitor, session: Session) -> Passkey:
    """Return the account's only passkey."""
    (passkey,) = table.list_of_user(visitor.db, session.user.id)
    return passkey


def grace(visitor: Visitor) -> Session:
    user_id = visitor.register(name="Grace", email="grace@example.com", password=PASSWORD)
    return visitor.begin_session(user_id)


def test_a_passkey_logs_in_to_its_account(
    visitor: Visitor, session: Session, key: SoftwareKey
) -> None:
    assert log_in(visitor, key) == session.user.id


def test_a_passkey_that_is_removed_after_the_limits_were_checked_is_unknown(
    visitor: Visitor, session: Session, key: SoftwareKey
) -> None:
    attempt = visitor.rate_limiter.admit_passkey(passkey_id=key.passkey_id)
    credential = key.get(ceremony("log in").request_options())
    assert passkeys.remove(visitor.actor, session, only(visitor, session))
    with pytest.raises(PasskeyRefused) as raised:
        login.authenticate_with_passkey(visitor.actor, ceremony("log in"), attempt, credential)
    assert raised.value.reason == "unknown"


def test_a_refused_passkey_deletes_expired_rate_limits(visitor: Visitor, key: SoftwareKey) -> None:
    add_expired_limit(visitor.db)
    assert refusal(visitor, key, counter=0) == "copied"
    assert execute(visitor.db, "SELECT FROM throttles WHERE forget_at < now()") == []


def test_a_passkey_of_an_account_that_is_reactivated_meanwhile_is_refused(
    visitor: Visitor, session: Session, key: SoftwareKey
) -> None:
    # The account's row is not locked, so only the next try can find the account active.
    execute(visitor.db, "UPDATE users SET deactivated_at = now()")
    attempt = visitor.rate_limiter.admit_passkey(passkey_id=key.passkey_id)
    assert attempt.user_id is None
    users.reactivate(visitor.db, session.user.id)
    credential = key.get(ceremony("log in").request_options())
    with pytest.raises(PasskeyRefused) as raised:
        login.authenticate_with_passkey(visitor.actor, ceremony("log in"), attempt, credential)
    assert raised.value.reason == "other_account"
    assert log_in(visitor, key) == session.user.id


def test_a_copy_of_an_authenticator_that_counts_is_found(
    visitor: Visitor, key: SoftwareKey
) -> None:
    copied_at = key.counter
    log_in(visitor, key)
    key.counter = copied_at
    assert refusal(visitor, key) == "copied"
    log_in(visitor, key)
    assert refusal(visitor, key, counter=0) == "copied"


def test_an_authenticator_that_does_not_count_is_accepted(
    visitor: Visitor, session: Session
) -> None:
    key = SoftwareKey(counts=False)
    add(visitor, session, key)
    for _ in range(2):
        assert log_in(visitor, key) == session.user.id


def test_a_passkey_is_removed_once(visitor: Visitor, session: Session) -> None:
    add(visitor, session, SoftwareKey())
    passkey = only(visitor, session)
    assert passkeys.remove(visitor.actor, session, passkey)
    changed = "SELECT factors_changed_at FROM users"
    before = execute(visitor.db, changed)
    assert not passkeys.remove(visitor.actor, session, passkey)
    assert execute(visitor.db, changed) == before


def test_only_the_owner_of_a_passkey_changes_it(visitor: Visitor, session: Session) -> None:
    add(visitor, session, SoftwareKey())
    passkey, other = only(visitor, session), grace(visitor)
    assert not passkeys.rename(visitor.actor, other, passkey, "Grace's")
    assert not passkeys.remove(visitor.actor, other, passkey)
    assert only(visitor, session) == passkey


def test_a_page_that_was_opened_before_the_twentieth_passkey_adds_no_other(
    visitor: Visitor, session: Session
) -> None:
    # The page is not shown to an account that has twenty.
    for _ in range(20):
        add(visitor, session, SoftwareKey())
    with pytest.raises(PasskeyRefused) as raised:
        add(visitor, session, SoftwareKey())
    assert raised.value.reason == "too_many"
    assert len(table.list_of_user(visitor.db, session.user.id)) == 20


def test_a_passkey_that_is_removed_is_not_renamed(visitor: Visitor, session: Session) -> None:
    add(visitor, session, SoftwareKey())
    passkey = only(visitor, session)
    assert passkeys.remove(visitor.actor, session, passkey)
    assert not passkeys.rename(visitor.actor, session, passkey, "Another name")


def test_a_passkey_is_known_until_it_is_removed(
    visitor: Visitor, session: Session, key: SoftwareKey
) -> None:
    assert table.get(visitor.db, key.passkey_id) is not None
    assert table.get(visitor.db, b"x") is None
    passkeys.remove(visitor.actor, session, only(visitor, session))
    assert table.get(visitor.db, key.passkey_id) is None


def test_the_passkeys_of_a_deleted_account_are_deleted(
    visitor: Visitor, session: Session, key: SoftwareKey, db: Connection
) -> None:
    accounts.delete(visitor.actor, session.user, session)
    assert execute(db, "SELECT count(*) FROM passkeys") == [(0,)]
    assert refusal(visitor, key) == "unknown"


@pytest.mark.usefixtures("clock")
def test_an_operator_removes_all_second_factors_at_once(
    visitor: Visitor, session: Session, key: SoftwareKey
) -> None:
    add(visitor, session, SoftwareKey())
    assert add_app(visitor, session)[1] == []
    assert second_factor.remove_all(visitor.actor, session.user)
    factors = second_factor.describe(visitor.db, session.user.id)
    assert (factors.app_added_at, factors.recovery_codes, factors.passkeys) == (None, 0, [])
    assert factors.handle == key.handle
    assert not second_factor.remove_all(visitor.actor, session.user)
    assert visitor.complete_login(session.user.id)


def test_a_recovery_code_of_an_account_without_an_app_works_once(
    visitor: Visitor, session: Session
) -> None:
    code, *_ = add(visitor, session, SoftwareKey())
    assert complete(visitor, begin_half_login(visitor, session.user.id), code, box=BOX)
    with pytest.raises(second_factor.CodeRefused):
        complete(visitor, begin_half_login(visitor, session.user.id), code, box=BOX)


def test_the_ids_of_models_have_the_format_of_attested_data() -> None:
    for model in passkeys.MODELS:
        assert model == model.lower()
        assert [len(part) for part in model.split("-")] == [8, 4, 4, 4, 12]
        assert len(bytes.fromhex(model.replace("-", ""))) == 16
