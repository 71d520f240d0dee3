"""The table users."""

from psycopg2.extensions import connection as Connection

from hello_login.repositories import users


def add(db: Connection, email: str = "ada@example.com") -> int | None:
    return users.insert(db, email=email, name="Ada", password_hash="a hash")


def test_a_user_that_was_added_is_found_by_his_address(db: Connection) -> None:
    user_id = add(db)
    assert users.find_credentials(db, "ada@example.com") == (user_id, "a hash")


def test_an_address_is_found_whatever_its_case(db: Connection) -> None:
    user_id = add(db, "Ada@example.com")
    credentials = users.find_credentials(db, "aDA@EXAMPLE.com")
    assert credentials is not None
    assert credentials.user_id == user_id


def test_an_unknown_address_is_nobodys(db: Connection) -> None:
    assert users.find_credentials(db, "ada@example.com") is None


def test_a_taken_address_adds_nobody_whatever_its_case(db: Connection) -> None:
    add(db, "ada@example.com")
    assert add(db, "ADA@example.com") is None


def test_an_address_is_text_and_never_sql(db: Connection) -> None:
    add(db)
    assert users.find_credentials(db, "' OR true --") is None


def test_a_password_hash_is_replaced_for_one_user_alone(db: Connection) -> None:
    ada, grace = add(db), add(db, "grace@example.com")
    assert ada is not None
    users.update_password_hash(db, ada, "another hash")
    assert users.find_credentials(db, "ada@example.com") == (ada, "another hash")
    assert users.find_credentials(db, "grace@example.com") == (grace, "a hash")
