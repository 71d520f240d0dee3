"""The table users."""

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from hello_login.repositories import recovery_codes, sessions, totp, users
from tests.rows import add_passkey, add_user, execute


def add(db: Connection, email: str = "ada@example.com") -> int | None:
    return users.insert(db, email=email, name="Ada", password_hash="a hash")


def lock(db: Connection, user_id: int) -> users.LockedAccount:
    account = users.lock_account(db, user_id)
    assert account is not None
    return account


def last_login(db: Connection, user_id: int) -> datetime | None:
    user = users.get_by_id(db, user_id)
    assert user is not None
    return user.last_login_at


def test_the_credentials_of_a_user_are_found_by_address(db: Connection) -> None:
    user_id = add(db)
    assert users.get_credentials_by_email(db, "ada@example.com") == (user_id, "a hash", None)


def test_the_credentials_of_a_user_tell_when_the_second_factors_last_changed(
    db: Connection,
) -> None:
    ada, grace = add_user(db), add_user(db, "grace@example.com")
    phone = add_passkey(db, ada)
    users.record_factor_change(db, ada)
    ((changed_at,),) = execute(db, "SELECT factors_changed_at FROM users WHERE id = %s", ada)
    assert changed_at is not None
    expected = users.Credentials(ada, "a hash", changed_at)
    assert users.get_credentials_by_email(db, "ada@example.com") == expected
    assert users.get_credentials_by_id(db, ada) == expected
    assert users.get_credentials_by_passkey(db, phone) == expected
    assert lock(db, ada).credentials == expected
    assert users.get_credentials_by_id(db, grace) == (grace, "a hash", None)


@pytest.mark.usefixtures("running_clock")
def test_an_app_of_the_version_before_passkeys_counts_as_a_change_when_it_was_added(
    db: Connection,
) -> None:
    ada = add_user(db)
    add_app(db, ada)
    ((added_at,),) = execute(db, "SELECT created_at FROM totp")
    expected = users.Credentials(ada, "a hash", added_at)
    assert users.get_credentials_by_email(db, "ada@example.com") == expected
    assert users.get_credentials_by_id(db, ada) == expected
    assert lock(db, ada).credentials == expected
    users.record_factor_change(db, ada)
    changed = users.get_credentials_by_id(db, ada)
    assert changed is not None
    assert changed != expected
    assert users.get_credentials_by_email(db, "ada@example.com") == changed
    assert lock(db, ada).credentials == changed


@pytest.mark.usefixtures("running_clock")
def test_each_change_of_the_second_factors_changes_the_hash_of_the_credentials(
    db: Connection,
) -> None:
    ada = add_user(db)
    hashes = set()
    for _ in range(3):  # in one transaction
        credentials = users.get_credentials_by_id(db, ada)
        assert credentials is not None
        hashes.add(credentials.auth_hash)
        users.record_factor_change(db, ada)
    assert len(hashes) == 3


def test_a_passkey_that_no_active_account_has_leads_to_no_credentials(db: Connection) -> None:
    ada = add_user(db)
    phone = add_passkey(db, ada)
    assert users.get_credentials_by_passkey(db, b"another") is None
    users.deactivate(db, ada)
    assert users.get_credentials_by_passkey(db, phone) is None


AddFactor = Callable[[Connection, int], object]


def add_app(db: Connection, user_id: int) -> None:
    totp.insert(db, user_id, b"a secret", 0)


@pytest.mark.parametrize("add_factor", [add_app, add_passkey])
def test_an_account_has_a_second_factor_if_it_has_an_app_or_a_passkey(
    db: Connection, add_factor: AddFactor
) -> None:
    ada, grace = add_user(db), add_user(db, "grace@example.com")
    assert not users.has_second_factor(db, ada)
    add_factor(db, ada)
    assert users.has_second_factor(db, ada)
    assert not users.has_second_factor(db, grace)


@pytest.mark.parametrize("add_factor", [add_app, add_passkey])
def test_a_locked_account_tells_what_a_login_needs_to_know(
    db: Connection, add_factor: AddFactor
) -> None:
    ada, grace = add_user(db), add_user(db, "grace@example.com")
    credentials = users.Credentials(ada, "a hash", None)
    assert lock(db, ada) == users.LockedAccount(
        credentials, is_active=True, is_new=True, has_second_factor=False, sessions=0
    )
    add_factor(db, ada)
    for number in range(2):
        sessions.insert(
            db,
            session_id=bytes([number]) * 32,
            user_id=ada,
            idle_limit=timedelta(hours=1),
            limit=timedelta(hours=1),
            remembered=False,
            address=None,
            device="Firefox",
        )
    users.deactivate(db, ada)
    execute(db, "UPDATE users SET created_at = now() - interval '1 second' WHERE id = %s", ada)
    account = lock(db, ada)
    assert (account.is_active, account.is_new) == (False, False)
    assert (account.has_second_factor, account.sessions) == (True, 2)
    assert lock(db, grace).sessions == 0
    assert users.lock_account(db, 0) is None


def test_a_login_is_recorded(db: Connection) -> None:
    ada = add_user(db)
    assert last_login(db, ada) is None
    users.record_login(db, ada)
    assert last_login(db, ada) is not None


def test_the_second_factors_of_an_account_are_described(db: Connection) -> None:
    ada, grace = add_user(db), add_user(db, "grace@example.com")
    assert users.describe_factors(db, ada) == (None, 0, None, False)
    add_app(db, ada)
    recovery_codes.insert(db, ada, [b"1" * 32, b"2" * 32])
    handle = users.make_handle(db, ada)
    ((added_at,),) = execute(db, "SELECT created_at FROM totp")
    assert users.describe_factors(db, ada) == (added_at, 2, handle, False)
    add_passkey(db, ada)
    assert users.describe_factors(db, ada) == (added_at, 2, handle, True)
    assert users.describe_factors(db, grace) == (None, 0, None, False)
    users.delete(db, ada)
    assert users.describe_factors(db, ada) == (None, 0, None, False)


def test_a_handle_is_random_and_stays_the_same(db: Connection) -> None:
    ada, grace = add_user(db), add_user(db, "grace@example.com")
    handle = users.make_handle(db, ada)
    assert len(handle) == 16
    assert users.make_handle(db, ada) == handle
    assert users.make_handle(db, grace) != handle


def test_an_account_that_was_deleted_just_now_gets_no_handle(db: Connection) -> None:
    ada = add_user(db)
    users.delete(db, ada)
    assert users.make_handle(db, ada) == b""


def test_a_notice_of_a_failed_second_step_waits_for_its_interval(db: Connection) -> None:
    ada, grace = add_user(db), add_user(db, "grace@example.com")
    hour = timedelta(hours=1)
    assert [users.record_notice(db, ada, hour) for _ in range(2)] == [True, False]
    assert users.record_notice(db, grace, hour)
    for past, told in (("59 minutes", False), ("1 minute", True)):
        statement = "UPDATE users SET told_of_failure_at = told_of_failure_at - %s::interval"
        execute(db, statement, past)
        assert users.record_notice(db, ada, hour) is told


def test_a_passkey_is_offered_until_the_account_has_one_or_its_owner_declines(
    db: Connection,
) -> None:
    ada, grace, eve = (add_user(db, f"{name}@example.com") for name in ("ada", "grace", "eve"))
    add_app(db, ada)
    assert [users.may_offer_passkey(db, each) for each in (ada, grace, eve)] == [True] * 3
    add_passkey(db, ada)
    users.decline_passkey(db, grace)
    assert [users.may_offer_passkey(db, each) for each in (ada, grace, eve)] == [False, False, True]


def test_an_address_is_found_in_upper_or_lower_case(db: Connection) -> None:
    user_id = add(db, "Ada@example.com")
    credentials = users.get_credentials_by_email(db, "aDA@EXAMPLE.com")
    assert credentials is not None
    assert credentials.user_id == user_id


def test_an_unknown_address_has_no_credentials(db: Connection) -> None:
    assert users.get_credentials_by_email(db, "ada@example.com") is None


def test_a_taken_address_in_another_case_adds_no_user(db: Connection) -> None:
    add(db, "ada@example.com")
    assert add(db, "ADA@example.com") is None


def test_an_address_is_never_executed_as_sql(db: Connection) -> None:
    add(db)
    assert users.get_credentials_by_email(db, "' OR true --") is None


def test_a_password_hash_is_replaced_for_one_user_only(db: Connection) -> None:
    ada, grace = add(db), add(db, "grace@example.com")
    assert ada is not None
    users.update_password_hash(db, ada, "another hash")
    assert users.get_credentials_by_email(db, "ada@example.com") == (ada, "another hash", None)
    assert users.get_credentials_by_email(db, "grace@example.com") == (grace, "a hash", None)


def test_a_user_is_found_by_id_and_by_address(db: Connection) -> None:
    ada = add(db)
    assert ada is not None
    by_id, by_email = users.get_by_id(db, ada), users.get_by_email(db, "ADA@example.com")
    assert by_id is not None
    assert by_id == by_email
    assert (by_id.id, by_id.name, by_id.deactivated_at) == (ada, "Ada", None)
    assert users.get_by_id(db, 0) is None


def test_users_are_listed_newest_first(db: Connection) -> None:
    ada, grace, katherine = (add(db, f"{name}@example.com") for name in ("a", "g", "k"))
    assert katherine is not None
    listed = users.list_newest(db, before=katherine, number=2)
    assert [user.id for user in listed] == [grace, ada]
    assert len(users.list_newest(db, before=2**63 - 1, number=1)) == 1


def test_a_deactivated_user_has_no_credentials_until_reactivated(db: Connection) -> None:
    ada = add(db)
    assert ada is not None
    users.deactivate(db, ada)
    assert users.get_credentials_by_id(db, ada) is None
    found = users.get_by_id(db, ada)
    assert found is not None
    assert found.deactivated_at is not None
    users.reactivate(db, ada)
    assert users.get_credentials_by_id(db, ada) is not None


def test_a_taken_address_changes_nothing_and_leaves_the_transaction_usable(db: Connection) -> None:
    ada, _ = add(db), add(db, "grace@example.com")
    assert ada is not None
    assert not users.update_profile(db, ada, name="Grace", email="Grace@example.com")
    found = users.get_by_id(db, ada)
    assert found is not None
    assert (found.name, found.email) == ("Ada", "ada@example.com")
    assert users.update_profile(db, ada, name="Augusta", email="ADA@example.com")


def test_two_users_cannot_change_to_the_same_address_at_once(url: str) -> None:
    faster, slower = psycopg2.connect(url), psycopg2.connect(url)
    ada, grace = add(faster), add(faster, "grace@example.com")
    assert ada is not None
    assert grace is not None
    faster.commit()
    assert users.update_profile(faster, ada, email="new@example.com")
    changed = []

    def race() -> None:
        changed.append(users.update_profile(slower, grace, email="NEW@example.com"))
        slower.commit()

    racing = threading.Thread(target=race)
    racing.start()
    time.sleep(0.2)
    assert changed == []
    faster.commit()
    racing.join()
    assert changed == [False]
    found = users.get_by_id(slower, grace)
    assert found is not None
    assert found.email == "grace@example.com"
    for connection in (faster, slower):
        connection.close()
