"""What an account can do."""

from datetime import timedelta

import pytest
from passlib.context import CryptContext
from psycopg2.extensions import connection as Connection

from hello_login.auth.accounts import Accounts, AuthenticationFailed, EmailTaken, RateLimited
from hello_login.auth.passwords import PasswordRefused
from hello_login.repositories import events, sessions, users
from hello_login.repositories.events import Event
from hello_login.repositories.sessions import Session
from hello_login.repositories.users import User
from tests.conftest import CLIENT, OpenAccounts
from tests.people import EMAIL, PASSWORD


def register(accounts: Accounts, password: str = PASSWORD) -> int:
    return accounts.register(name="Ada", email=EMAIL, password=password)


def user(db: Connection) -> User:
    found = users.get_by_email(db, EMAIL)
    assert found is not None
    return found


def begin_session(accounts: Accounts, user_id: int) -> Session:
    session = accounts.find_session(accounts.begin_session(user_id).token)
    assert session is not None
    return session


def can_log_in(accounts: Accounts, password: str) -> bool:
    try:
        return accounts.authenticate(email=EMAIL, password=password) > 0
    except RateLimited:
        return True  # it was not refused for the password
    except AuthenticationFailed:
        return False


def test_who_registered_is_authenticated_by_the_password(accounts: Accounts) -> None:
    user_id = register(accounts)
    assert accounts.authenticate(email=EMAIL, password=PASSWORD) == user_id
    assert not can_log_in(accounts, "another one")


def test_nobody_is_authenticated_by_an_unknown_address(accounts: Accounts) -> None:
    assert not can_log_in(accounts, PASSWORD)


def test_an_address_registers_once(accounts: Accounts) -> None:
    register(accounts)
    with pytest.raises(EmailTaken):
        register(accounts)


def test_a_refused_password_registers_nobody(accounts: Accounts, db: Connection) -> None:
    with pytest.raises(PasswordRefused):
        register(accounts, password="short")
    assert users.get_by_email(db, EMAIL) is None


def test_logging_in_renews_a_hash_of_older_costs(
    accounts: Accounts, db: Connection, open_accounts: OpenAccounts
) -> None:
    user_id = register(accounts)
    dearer = open_accounts(argon2_passes="2")
    assert dearer.authenticate(email=EMAIL, password=PASSWORD) == user_id
    credentials = users.get_credentials_by_email(db, EMAIL)
    assert credentials is not None
    assert "t=2" in credentials.password_hash


def test_a_session_begins_with_a_login_and_ends_with_a_logout(accounts: Accounts) -> None:
    user_id = register(accounts)
    issued = accounts.begin_session(user_id)
    session = accounts.find_session(issued.token)
    assert session is not None
    assert session.user.id == user_id
    assert session.user.last_login_at is not None
    accounts.end_session(session)
    assert accounts.find_session(issued.token) is None


def test_each_session_has_a_token_of_256_random_bits(accounts: Accounts) -> None:
    user_id = register(accounts)
    tokens = {accounts.begin_session(user_id).token for _ in range(3)}
    assert len(tokens) == 3
    assert all(len(token) == 43 for token in tokens)  # of 6 bits each


def test_the_database_does_not_hold_the_token(accounts: Accounts, db: Connection) -> None:
    token = accounts.begin_session(register(accounts)).token
    with db.cursor() as cursor:
        cursor.execute("SELECT sessions::text FROM sessions")
        rows = str(cursor.fetchall())
    assert token not in rows
    assert token.encode().hex() not in rows


def test_use_of_a_session_is_written_once_a_minute_with_the_address(
    accounts: Accounts, db: Connection, open_accounts: OpenAccounts
) -> None:
    user_id = register(accounts)
    token = accounts.begin_session(user_id).token
    elsewhere = open_accounts(CLIENT._replace(address="192.0.2.2"))

    def seen(seconds_ago: int) -> bool:
        """Whether the session, when it is used after so many seconds, is noted as used now."""
        with db.cursor() as cursor:
            cursor.execute(
                "UPDATE sessions SET last_seen_at = now() - %s", (timedelta(seconds=seconds_ago),)
            )
            session = elsewhere.find_session(token)
            assert session is not None
            elsewhere.record_session_use(session)
            cursor.execute("SELECT last_seen_at = now(), host(address) FROM sessions")
            return cursor.fetchone() == (True, "192.0.2.2")

    assert not seen(59)
    assert seen(61)


def test_a_renewed_session_has_another_token_and_the_same_limits(
    accounts: Accounts, db: Connection
) -> None:
    old = accounts.begin_session(register(accounts), remembered=True)
    with db.cursor() as cursor:
        cursor.execute(
            """
            UPDATE sessions
               SET authenticated_at = now() - interval '2 days',
                   expires_at = expires_at - interval '2 days'
            """
        )
    session = accounts.find_session(old.token)
    assert session is not None
    assert session.login_age == timedelta(days=2)
    new = accounts.renew_session(session)
    assert accounts.find_session(old.token) is None
    session = accounts.find_session(new.token)
    assert session is not None
    assert session.login_age == timedelta(0)
    assert (new.remembered, new.remaining) == (True, timedelta(days=28))


def test_a_changed_password_ends_all_sessions_but_the_one_that_changed_it(
    accounts: Accounts, db: Connection
) -> None:
    user_id = register(accounts)
    mine, other = (begin_session(accounts, user_id) for _ in range(2))
    accounts.change_password(user(db), "staple battery horse", but=mine)
    assert [each.fingerprint for each in sessions.list_of_user(db, user_id, 10)] == [
        mine.fingerprint
    ]
    assert mine.fingerprint != other.fingerprint
    assert can_log_in(accounts, "staple battery horse")
    assert not can_log_in(accounts, PASSWORD)


def test_a_changed_password_must_meet_the_rules(accounts: Accounts, db: Connection) -> None:
    register(accounts)
    with pytest.raises(PasswordRefused):
        accounts.change_password(user(db), EMAIL)
    assert can_log_in(accounts, PASSWORD)


def test_an_address_that_another_account_has_is_not_taken_over(
    accounts: Accounts, db: Connection
) -> None:
    session = begin_session(accounts, register(accounts))
    accounts.register(name="Grace", email="grace@example.com", password=PASSWORD)
    with pytest.raises(EmailTaken):
        accounts.change_profile(session, name="Ada", email="GRACE@example.com")
    assert user(db).email == EMAIL


def test_nobody_logs_in_to_a_deactivated_account_nor_stays_logged_in(
    accounts: Accounts, db: Connection
) -> None:
    user_id = register(accounts)
    token = accounts.begin_session(user_id).token
    accounts.set_active(user(db), False)
    assert accounts.find_session(token) is None
    assert not can_log_in(accounts, PASSWORD)
    accounts.set_active(user(db), True)
    assert accounts.find_session(token) is None
    assert can_log_in(accounts, PASSWORD)


def test_nobodys_password_is_that_of_an_account_that_was_deactivated_meanwhile(
    accounts: Accounts, db: Connection
) -> None:
    session = begin_session(accounts, register(accounts))
    accounts.set_active(user(db), False)
    with pytest.raises(AuthenticationFailed):
        accounts.reauthenticate(session, PASSWORD)


def test_of_a_deleted_account_nothing_stays_but_that_one_was_deleted(
    accounts: Accounts, db: Connection, happened: list[Event]
) -> None:
    user_id = register(accounts)
    session = begin_session(accounts, user_id)
    accounts.delete(user(db), session)
    with db.cursor() as cursor:
        cursor.execute("SELECT event, user_id, host(address) FROM account_events")
        assert cursor.fetchall() == [("deleted", None, "192.0.2.1")]
        cursor.execute("SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM sessions)")
        assert cursor.fetchone() == (0,)
    assert happened[-1] == Event("deleted", user_id, session.fingerprint, "192.0.2.1", None)


def test_a_refused_login_is_an_event_for_the_log_alone(
    accounts: Accounts, db: Connection, happened: list[Event]
) -> None:
    user_id = register(accounts)
    for _ in range(30):
        with pytest.raises((AuthenticationFailed, RateLimited)):
            accounts.authenticate(email=EMAIL, password="a wrong one")
    noted = [event.event for event in events.list_of_user(db, user_id, 100)]
    assert noted == ["login_failed"] * 5 + ["registered"]
    assert [event.event for event in happened].count("login_throttled") == 25


def test_old_events_are_forgotten_when_another_is_noted(accounts: Accounts, db: Connection) -> None:
    user_id = register(accounts)
    with db.cursor() as cursor:
        cursor.execute("UPDATE account_events SET happened_at = now() - interval '91 days'")
    accounts.begin_session(user_id)
    assert [event.event for event in events.list_of_user(db, user_id, 100)] == ["logged_in"]


def test_an_account_has_at_most_a_hundred_sessions(
    accounts: Accounts, db: Connection, happened: list[Event]
) -> None:
    user_id = register(accounts)
    grace = accounts.register(name="Grace", email="grace@example.com", password=PASSWORD)
    hers = begin_session(accounts, grace)
    begun = []
    for _ in range(100):
        begun.append(accounts.begin_session(user_id).token)
        with db.cursor() as cursor:
            cursor.execute(
                """
                UPDATE sessions
                   SET last_seen_at = last_seen_at - interval '1 millisecond'
                 WHERE id <> %s
                """,
                (hers.id,),
            )
    assert all(map(accounts.find_session, begun))
    oldest = accounts.find_session(begun[0])
    assert oldest is not None
    accounts.begin_session(user_id)
    assert [token for token in begun if accounts.find_session(token) is None] == [begun[0]]
    assert len(sessions.list_of_user(db, user_id, 1000)) == 100
    assert len(sessions.list_of_user(db, grace, 1000)) == 1
    ended = Event("session_ended_by_limit", user_id, oldest.fingerprint, CLIENT.address)
    assert happened[-2] == ended
    noted = events.list_of_user(db, user_id, 2)
    assert [event.event for event in noted] == ["logged_in", "session_ended_by_limit"]


@pytest.mark.parametrize("email", [EMAIL, "nobody@example.com"])
def test_a_failed_login_costs_one_verification_whether_the_address_is_known_or_not(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch, email: str
) -> None:
    register(accounts)
    verified = []

    def verify(context: CryptContext, secret: str, password_hash: str) -> object:
        verified.append(password_hash)
        return real(context, secret, password_hash)

    real = CryptContext.verify_and_update
    monkeypatch.setattr(CryptContext, "verify_and_update", verify)
    with pytest.raises(AuthenticationFailed):
        accounts.authenticate(email=email, password="another one")
    (password_hash,) = verified
    assert password_hash.startswith("$argon2id$v=19$m=8,t=1,p=1$")


def test_a_throttled_registration_is_noted(accounts: Accounts, happened: list[Event]) -> None:
    for _ in range(20):
        accounts.admit_registration()
    with pytest.raises(RateLimited):
        accounts.admit_registration()
    assert happened == [Event("registration_throttled", address="192.0.2.1")]
