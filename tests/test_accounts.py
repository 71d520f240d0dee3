"""What an account can do."""

from datetime import timedelta

import pytest
from passlib.context import CryptContext
from psycopg2.extensions import connection as Connection

from hello_login import accounts, settings
from hello_login.passwords import PasswordRefused, Passwords
from tests.conftest import MakeIni
from tests.people import EMAIL, PASSWORD

LIMITS = {"idle_limit": timedelta(hours=1), "limit": timedelta(hours=2)}


def register(db: Connection, passwords: Passwords, password: str = PASSWORD) -> int:
    return accounts.register(db, passwords, name="Ada", email=EMAIL, password=password)


def test_who_registered_is_authenticated_by_the_password(
    db: Connection, passwords: Passwords
) -> None:
    user_id = register(db, passwords)
    assert accounts.authenticate(db, passwords, email=EMAIL, password=PASSWORD) == user_id
    assert accounts.authenticate(db, passwords, email=EMAIL, password="another one") is None


def test_nobody_is_authenticated_by_an_unknown_address(
    db: Connection, passwords: Passwords
) -> None:
    assert accounts.authenticate(db, passwords, email=EMAIL, password=PASSWORD) is None


def test_an_address_registers_once(db: Connection, passwords: Passwords) -> None:
    register(db, passwords)
    with pytest.raises(accounts.EmailTaken):
        register(db, passwords)


def test_a_refused_password_registers_nobody(db: Connection, passwords: Passwords) -> None:
    with pytest.raises(PasswordRefused):
        register(db, passwords, password="short")
    assert accounts.authenticate(db, passwords, email=EMAIL, password="short") is None


def test_logging_in_renews_a_hash_of_older_costs(
    db: Connection, passwords: Passwords, ini: MakeIni
) -> None:
    user_id = register(db, passwords)
    dearer = Passwords(settings.load({}, ini(argon2_passes="2"), {}))
    assert accounts.authenticate(db, dearer, email=EMAIL, password=PASSWORD) == user_id
    with db.cursor() as cursor:
        cursor.execute("SELECT password_hash FROM users")
        row = cursor.fetchone()
    assert row is not None
    assert "t=2" in row[0]


def test_a_session_begins_with_a_login_and_ends_with_its_token(
    db: Connection, passwords: Passwords
) -> None:
    user_id = register(db, passwords)
    token = accounts.begin_session(db, user_id, **LIMITS)
    session = accounts.find_session(db, token)
    assert session is not None
    assert session.user.id == user_id
    assert session.user.last_login_at is not None
    accounts.end_session(db, token)
    assert accounts.find_session(db, token) is None


def test_each_session_has_a_token_of_256_random_bits(db: Connection, passwords: Passwords) -> None:
    user_id = register(db, passwords)
    tokens = {accounts.begin_session(db, user_id, **LIMITS) for _ in range(3)}
    assert len(tokens) == 3
    assert all(len(token) == 43 for token in tokens)  # of 6 bits each


def test_the_database_does_not_hold_the_token(db: Connection, passwords: Passwords) -> None:
    token = accounts.begin_session(db, register(db, passwords), **LIMITS)
    with db.cursor() as cursor:
        cursor.execute("SELECT sessions::text FROM sessions")
        rows = str(cursor.fetchall())
    assert token not in rows
    assert token.encode().hex() not in rows


def test_use_of_a_session_is_written_once_a_minute(db: Connection, passwords: Passwords) -> None:
    token = accounts.begin_session(db, register(db, passwords), **LIMITS)

    def seen(seconds_ago: int) -> bool:
        """Whether the session, when it is used after so many seconds, is noted as used now."""
        with db.cursor() as cursor:
            cursor.execute(
                "UPDATE sessions SET last_seen_at = now() - %s", (timedelta(seconds=seconds_ago),)
            )
            accounts.find_session(db, token)
            cursor.execute("SELECT last_seen_at = now() FROM sessions")
            return cursor.fetchone() == (True,)

    assert not seen(59)
    assert seen(61)


@pytest.mark.parametrize("email", [EMAIL, "nobody@example.com"])
def test_a_failed_login_costs_one_verification_whether_the_address_is_known_or_not(
    db: Connection, passwords: Passwords, monkeypatch: pytest.MonkeyPatch, email: str
) -> None:
    register(db, passwords)
    verified = []

    def verify(context: CryptContext, secret: str, password_hash: str) -> object:
        verified.append(password_hash)
        return real(context, secret, password_hash)

    real = CryptContext.verify_and_update
    monkeypatch.setattr(CryptContext, "verify_and_update", verify)
    assert accounts.authenticate(db, passwords, email=email, password="another one") is None
    (password_hash,) = verified
    assert password_hash.startswith("$argon2id$v=19$m=8,t=1,p=1$")
