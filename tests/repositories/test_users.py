"""The table users."""

import threading
import time

import psycopg2
from psycopg2.extensions import connection as Connection

from hello_login.repositories import totp, users


def add(db: Connection, email: str = "ada@example.com") -> int | None:
    return users.insert(db, email=email, name="Ada", password_hash="a hash")


def test_the_credentials_of_a_user_are_found_by_address(db: Connection) -> None:
    user_id = add(db)
    assert users.get_credentials_by_email(db, "ada@example.com") == (user_id, "a hash", None)


def test_the_credentials_of_a_user_tell_when_the_second_factor_was_added(db: Connection) -> None:
    user_id = add(db)
    assert user_id is not None
    totp.insert(db, user_id, b"a secret", 0)
    added_at = totp.get_created_at(db, user_id)
    assert added_at is not None
    expected = users.Credentials(user_id, "a hash", added_at)
    assert users.get_credentials_by_email(db, "ada@example.com") == expected
    assert users.get_credentials_by_id(db, user_id) == expected
    assert users.record_login(db, user_id, second_step=True) == (expected, True)
    assert expected.auth_hash != expected._replace(factor_added_at=None).auth_hash


def test_a_login_to_an_account_with_a_second_factor_is_not_recorded_without_it(
    db: Connection,
) -> None:
    user_id = add(db)
    assert user_id is not None
    totp.insert(db, user_id, b"a secret", 0)
    assert users.record_login(db, user_id, second_step=False) is None
    user = users.get_by_id(db, user_id)
    assert user is not None
    assert user.last_login_at is None


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
