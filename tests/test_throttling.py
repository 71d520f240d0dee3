"""How often what may fail, before it has to wait."""

import math
from collections.abc import Callable
from datetime import timedelta

import pytest
from psycopg2.extensions import connection as Connection

from hello_login import settings
from hello_login.accounts import Accounts, Refused
from hello_login.clients import Client, KnownDevice
from hello_login.repositories import users
from hello_login.throttling import Throttle
from tests.conftest import MakeIni, OpenAccounts
from tests.people import EMAIL, PASSWORD

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
NOTHING = timedelta(0)

Guess = Callable[..., timedelta]


def rounded(wait: timedelta) -> timedelta:
    """Up to a second, as it is told."""
    return timedelta(seconds=math.ceil(wait.total_seconds()))


@pytest.fixture
def guess(open_accounts: OpenAccounts) -> Guess:
    """Logs in from an address, and returns how long it has to wait instead."""

    def make(
        address: str = "192.0.2.1",
        password: str = "a wrong one",
        email: str = EMAIL,
        known: KnownDevice | None = None,
    ) -> timedelta:
        try:
            client = Client(address, known=known)
            open_accounts(client).authenticate(email=email, password=password)
        except Refused as refused:
            return rounded(refused.wait)
        return NOTHING

    return make


@pytest.fixture(autouse=True)
def ada(accounts: Accounts) -> int:
    """The id of an account."""
    return accounts.register(name="Ada", email=EMAIL, password=PASSWORD)


def pass_time(db: Connection, time: timedelta) -> None:
    with db.cursor() as cursor:
        cursor.execute(
            """
            UPDATE throttles
               SET blocked_until = blocked_until - %(time)s,
                   forget_at = forget_at - %(time)s
            """,
            {"time": time},
        )


def test_after_five_failures_each_further_one_doubles_the_wait_up_to_an_hour(
    guess: Guess, db: Connection
) -> None:
    assert [guess() for _ in range(5)] == [NOTHING] * 5
    waits = []
    for _ in range(8):
        waits.append(guess())
        pass_time(db, waits[-1])
        assert guess() == NOTHING
    assert waits == [n * MINUTE for n in (1, 2, 4, 8, 16, 32, 60, 60)]


def test_while_it_waits_nothing_is_counted_and_the_wait_grows_no_longer(
    guess: Guess, db: Connection
) -> None:
    assert [guess() for _ in range(30)] == [NOTHING] * 5 + [MINUTE] * 25
    pass_time(db, MINUTE - timedelta(seconds=1))
    assert guess() == timedelta(seconds=1)
    pass_time(db, timedelta(seconds=1))
    assert guess() == NOTHING


def test_the_right_password_is_not_looked_at_during_the_wait(guess: Guess, db: Connection) -> None:
    for _ in range(5):
        guess()
    assert guess(password=PASSWORD) == MINUTE
    pass_time(db, MINUTE)
    assert guess(password=PASSWORD) == NOTHING


def test_a_success_clears_what_failed_before(guess: Guess) -> None:
    for _ in range(4):
        guess()
    guess(password=PASSWORD)
    assert [guess() for _ in range(6)] == [NOTHING] * 5 + [MINUTE]


def test_failures_are_forgotten_after_a_day_without_one(guess: Guess, db: Connection) -> None:
    for _ in range(4):
        guess()
    pass_time(db, timedelta(days=1))
    assert [guess() for _ in range(6)] == [NOTHING] * 5 + [MINUTE]


def test_another_address_and_another_account_are_not_in_the_way(guess: Guess) -> None:
    for _ in range(6):
        guess()
    assert guess("192.0.2.2", password=PASSWORD) == NOTHING
    assert guess(email="grace@example.com") == NOTHING


def test_an_address_in_another_case_is_the_same_account(guess: Guess) -> None:
    for email in (EMAIL, EMAIL.upper(), EMAIL.title(), EMAIL, EMAIL.upper()):
        guess(email=email)
    assert guess(email=EMAIL.swapcase()) == MINUTE


def test_an_unknown_account_is_throttled_like_any_other(guess: Guess) -> None:
    nobody = "nobody@example.com"
    assert [guess(email=nobody) for _ in range(6)] == [NOTHING] * 5 + [MINUTE]


def test_one_password_over_many_accounts_is_throttled_by_network(guess: Guess) -> None:
    waits = [guess(email=f"{number}@example.com") for number in range(51)]
    assert waits == [NOTHING] * 50 + [MINUTE]
    assert guess(password=PASSWORD) == MINUTE
    assert guess("192.0.2.2", password=PASSWORD) == NOTHING


def test_the_64_bits_that_a_customer_has_of_ipv6_are_one_network(guess: Guess) -> None:
    waits = [guess(f"2001:db8::{number}") for number in range(1, 7)]
    assert waits == [NOTHING] * 5 + [MINUTE]
    assert guess("2001:db8:0:1::1") == NOTHING


def test_successes_do_not_wear_out_a_network_nor_clear_its_failures(guess: Guess) -> None:
    for number in range(49):
        guess(email=f"{number}@example.com")
    assert [guess(password=PASSWORD) for _ in range(5)] == [NOTHING] * 5
    assert [guess(email=f"again-{number}@example.com") for number in range(2)] == [NOTHING, MINUTE]


def test_an_account_is_throttled_after_a_hundred_failures_from_anywhere(
    guess: Guess, db: Connection
) -> None:
    waits = [guess(f"192.0.2.{number}") for number in range(101)]
    assert waits == [NOTHING] * 100 + [MINUTE]
    pass_time(db, timedelta(days=29))
    assert guess("198.51.100.1") == NOTHING
    assert guess("198.51.100.2") == 2 * MINUTE


def stamp(db: Connection) -> str:
    credentials = users.find_credentials(db, email=EMAIL)
    assert credentials is not None
    return credentials.stamp


def test_the_owners_own_device_is_not_locked_out_by_strangers(guess: Guess, db: Connection) -> None:
    for number in range(101):
        guess(f"192.0.2.{number}")
    for _ in range(5):
        guess("198.51.100.1")
    device = KnownDevice(stamp(db), "her own")
    assert guess("198.51.100.1", PASSWORD) == MINUTE
    assert guess("198.51.100.1", PASSWORD, known=device) == NOTHING


def test_a_known_device_has_five_failures_of_its_own(guess: Guess, db: Connection) -> None:
    waits = [guess(known=KnownDevice(stamp(db), "stolen")) for _ in range(6)]
    assert waits == [NOTHING] * 5 + [MINUTE]
    assert guess(known=KnownDevice(stamp(db), "her own")) == NOTHING
    assert guess() == NOTHING


def test_a_device_is_known_to_one_account_alone(
    guess: Guess, db: Connection, accounts: Accounts
) -> None:
    accounts.register(name="Grace", email="grace@example.com", password=PASSWORD)
    for _ in range(5):
        guess(email="grace@example.com")
    device = KnownDevice(stamp(db), "Ada's")
    assert guess(email="grace@example.com", known=device) == MINUTE


def test_a_new_password_makes_devices_unknown_and_ends_the_accounts_waits(
    guess: Guess, db: Connection, accounts: Accounts
) -> None:
    old = KnownDevice(stamp(db), "known to the old password")
    for number in range(101):
        guess(f"192.0.2.{number}")
    for _ in range(5):
        guess()
    user = users.find(db, email=EMAIL)
    assert user is not None
    accounts.change_password(user, "staple battery horse")
    assert guess(password="staple battery horse") == NOTHING
    waits = [guess(known=old._replace(id=f"{number}")) for number in range(6)]
    assert waits == [NOTHING] * 5 + [MINUTE]


def test_an_id_typed_as_an_address_is_nobodys_account(guess: Guess, ada: int) -> None:
    for _ in range(6):
        guess(email=str(ada))
    assert guess(password=PASSWORD) == NOTHING


def test_an_unknown_address_is_the_same_in_any_case(guess: Guess) -> None:
    for email in (
        "n@example.com",
        "N@example.com",
        "n@EXAMPLE.com",
        "N@EXAMPLE.COM",
        "n@Example.com",
    ):
        guess(email=email)
    assert guess(email="N@EXAMPLE.com") == MINUTE


def test_registrations_are_throttled_by_network(open_accounts: OpenAccounts) -> None:
    for _ in range(20):
        open_accounts().admit_registration()
    with pytest.raises(Refused) as caught:
        open_accounts().admit_registration()
    assert rounded(caught.value.wait) == MINUTE
    open_accounts(Client("192.0.2.2")).admit_registration()


def test_asking_who_is_logged_in_for_the_password_is_throttled(
    accounts: Accounts, open_accounts: OpenAccounts, ada: int
) -> None:
    session = accounts.find_session(accounts.begin_session(ada).token)
    assert session is not None

    def wait(address: str, password: str) -> timedelta:
        with pytest.raises(Refused) as caught:
            open_accounts(Client(address)).check_password(session.user, password)
        return rounded(caught.value.wait)

    assert [wait(f"192.0.2.{number}", "wrong") for number in range(6)] == [NOTHING] * 5 + [MINUTE]


def test_asking_for_the_password_is_throttled_by_network(
    accounts: Accounts, open_accounts: OpenAccounts
) -> None:
    waits = []
    for number in range(21):
        email = f"{number}@example.com"
        user_id = accounts.register(name="Ada", email=email, password=PASSWORD)
        session = accounts.find_session(accounts.begin_session(user_id).token)
        assert session is not None
        with pytest.raises(Refused) as caught:
            open_accounts().check_password(session.user, "wrong")
        waits.append(rounded(caught.value.wait))
    assert waits == [NOTHING] * 20 + [MINUTE]


def test_the_right_password_clears_what_failed_for_the_account_but_not_for_the_network(
    accounts: Accounts, open_accounts: OpenAccounts, ada: int
) -> None:
    session = accounts.find_session(accounts.begin_session(ada).token)
    assert session is not None
    for _ in range(4):
        for _ in range(4):
            with pytest.raises(Refused):
                open_accounts().check_password(session.user, "wrong")
        open_accounts().check_password(session.user, PASSWORD)
    for _ in range(4):
        with pytest.raises(Refused) as caught:
            open_accounts().check_password(session.user, "wrong")
        assert caught.value.wait == NOTHING
    with pytest.raises(Refused) as caught:
        open_accounts().check_password(session.user, PASSWORD)
    assert rounded(caught.value.wait) == MINUTE


def test_the_figures_are_settings(db: Connection, ini: MakeIni) -> None:
    changes = {
        "throttle_registration": "2",
        "throttle_wait_seconds": "7",
        "throttle_longest_wait_seconds": "10",
    }
    throttle = Throttle(settings.load({}, ini(**changes), {}))
    limits = throttle.registration(Client("192.0.2.1"))
    waits = [throttle.count(db, limits) for _ in range(3)]
    pass_time(db, timedelta(seconds=7))
    waits += [throttle.count(db, limits) for _ in range(2)]
    assert [rounded(wait).total_seconds() for wait in waits] == [0, 0, 7, 0, 10]


def test_nothing_that_was_typed_can_be_read_in_the_table(guess: Guess, db: Connection) -> None:
    guess(email="my password, in the wrong field")
    with db.cursor() as cursor:
        cursor.execute("SELECT throttles::text FROM throttles")
        rows = str(cursor.fetchall())
    assert "password" not in rows
    assert b"password".hex() not in rows


def test_rows_that_no_longer_count_are_deleted(guess: Guess, db: Connection) -> None:
    for number in range(4):
        guess(email=f"{number}@example.com")
    pass_time(db, timedelta(days=31))
    guess("198.51.100.1")
    with db.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM throttles")
        assert cursor.fetchone() == (3,)
