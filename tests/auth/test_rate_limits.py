"""Rate limits for login, re-authentication, registration and changes of a profile."""

import math
from collections.abc import Callable
from datetime import timedelta

import pytest
from psycopg2.extensions import connection as Connection

from hello_login.auth import rate_limits
from hello_login.auth.clients import Client, DeviceCookie
from hello_login.auth.login import AuthenticationFailed
from hello_login.auth.passwords import Passwords
from hello_login.auth.rate_limits import FOREVER, RateLimited
from hello_login.repositories import users
from hello_login.repositories.events import Event
from hello_login.repositories.sessions import Session
from hello_login.repositories.throttles import Limit
from tests.conftest import OpenVisitor
from tests.people import EMAIL, PASSWORD
from tests.visitor import Visitor

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
NOTHING = timedelta(0)

Guess = Callable[..., timedelta]


def rounded(wait: timedelta) -> timedelta:
    """Up to a second, as it is told."""
    if wait == FOREVER:
        return wait
    return timedelta(seconds=math.ceil(wait.total_seconds()))


@pytest.fixture
def guess(open_visitor: OpenVisitor) -> Guess:
    """Logs in from an address, and returns how long it has to wait instead."""

    def make(
        address: str = "192.0.2.1",
        password: str = "a wrong one",
        email: str = EMAIL,
        known: DeviceCookie | None = None,
    ) -> timedelta:
        try:
            client = Client(address, known=known)
            open_visitor(client).authenticate(email=email, password=password)
        except RateLimited as limited:
            return rounded(limited.wait)
        except AuthenticationFailed:
            return NOTHING
        return NOTHING

    return make


@pytest.fixture(autouse=True)
def ada(visitor: Visitor) -> int:
    """The id of an account."""
    return visitor.register(name="Ada", email=EMAIL, password=PASSWORD)


Check = Callable[..., timedelta]


@pytest.fixture
def session(visitor: Visitor, ada: int) -> Session:
    """A session of that account."""
    return visitor.begin_session(ada)


@pytest.fixture
def check(open_visitor: OpenVisitor) -> Check:
    """Types the password in a session, and returns how long it has to wait instead."""

    def make(
        session: Session, address: str = "192.0.2.1", password: str = "a wrong one"
    ) -> timedelta:
        try:
            open_visitor(Client(address)).reauthenticate(session, password)
        except RateLimited as limited:
            return rounded(limited.wait)
        except AuthenticationFailed:
            return NOTHING
        return NOTHING

    return make


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


def in_a_56(number: int) -> str:
    """An address of another /64 for each number below 256, all of the same /56."""
    return f"2001:db8:0:{number:x}::1"


def in_a_48(number: int) -> str:
    """An address of another /56 for each number below 256, all of the same /48."""
    return f"2001:db8:0:{number:x}00::1"


WIDER_NETWORKS = pytest.mark.parametrize(("address", "factor"), [(in_a_56, 2), (in_a_48, 4)])


@WIDER_NETWORKS
def test_the_wider_networks_of_an_ipv6_customer_have_higher_limits_for_an_account(
    guess: Guess, address: Callable[[int], str], factor: int
) -> None:
    free = 5 * factor
    waits = [guess(address(number)) for number in range(free + 1)]
    assert waits == [NOTHING] * free + [MINUTE]
    assert guess("2001:db8:1::1", PASSWORD) == NOTHING


@WIDER_NETWORKS
def test_the_wider_networks_of_an_ipv6_customer_have_higher_limits_for_all_accounts(
    guess: Guess, address: Callable[[int], str], factor: int
) -> None:
    free = 50 * factor
    waits = [guess(address(each), email=f"{each}@example.com") for each in range(free + 1)]
    assert waits == [NOTHING] * free + [MINUTE]


@WIDER_NETWORKS
def test_the_wider_networks_of_an_ipv6_customer_have_higher_limits_for_registrations(
    open_visitor: OpenVisitor, address: Callable[[int], str], factor: int
) -> None:
    for number in range(20 * factor):
        open_visitor(Client(address(number))).rate_limiter.admit_registration()
    with pytest.raises(RateLimited):
        open_visitor(Client(address(255))).rate_limiter.admit_registration()


@WIDER_NETWORKS
def test_the_wider_networks_of_an_ipv6_customer_have_higher_limits_for_the_password_in_a_session(
    session: Session, check: Check, address: Callable[[int], str], factor: int
) -> None:
    free = 5 * factor
    waits = [check(session, address(number)) for number in range(free + 1)]
    assert waits == [NOTHING] * free + [MINUTE]


def test_successes_do_not_wear_out_a_network_nor_clear_its_failures(guess: Guess) -> None:
    for number in range(49):
        guess(email=f"{number}@example.com")
    assert [guess(password=PASSWORD) for _ in range(5)] == [NOTHING] * 5
    assert [guess(email=f"again-{number}@example.com") for number in range(2)] == [NOTHING, MINUTE]


@pytest.mark.parametrize("email", [EMAIL, "nobody@example.com"])
def test_after_a_hundred_failures_for_an_account_no_password_is_evaluated_however_long_ago(
    guess: Guess, db: Connection, email: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = [guess(f"192.0.2.{number}", email=email) for number in range(101)]
    assert waits == [NOTHING] * 100 + [FOREVER]
    monkeypatch.delattr(Passwords, "verify")
    for time in (HOUR, timedelta(days=29), timedelta(days=2), timedelta(days=3650)):
        pass_time(db, time)
        assert guess("198.51.100.1", PASSWORD, email) == FOREVER


def test_an_accounts_failures_are_forgotten_after_thirty_days_without_one(
    guess: Guess, db: Connection
) -> None:
    for number in range(99):
        guess(f"192.0.2.{number}")
    pass_time(db, timedelta(days=31))
    assert [guess(f"192.0.2.{number}") for number in range(2)] == [NOTHING] * 2


def test_a_locked_accounts_rows_are_not_deleted_with_those_that_no_longer_count(
    guess: Guess, db: Connection
) -> None:
    for number in range(100):
        guess(f"192.0.2.{number}")
    pass_time(db, timedelta(days=3650))
    for number in range(12):  # each deletes ten rows
        guess(f"198.51.100.{number}", email=f"{number}@example.com")
    assert guess("203.0.113.1", PASSWORD) == FOREVER


def test_a_login_on_a_known_device_unlocks_the_account(guess: Guess, db: Connection) -> None:
    for number in range(100):
        guess(f"192.0.2.{number}")
    assert guess("198.51.100.1", PASSWORD) == FOREVER
    device = DeviceCookie(auth_hash(db), "her own")
    assert guess("198.51.100.1", known=device) == NOTHING
    assert guess("198.51.100.1", PASSWORD) == FOREVER  # a failure there unlocks nothing
    assert guess("198.51.100.1", PASSWORD, known=device) == NOTHING
    assert [guess(f"203.0.113.{number}") for number in range(101)] == [NOTHING] * 100 + [FOREVER]


def test_an_unlocked_account_is_forgotten_like_any_other(guess: Guess, db: Connection) -> None:
    for number in range(100):
        guess(f"192.0.2.{number}")
    guess(password=PASSWORD, known=DeviceCookie(auth_hash(db), "her own"))
    with db.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM throttles WHERE forget_at > now() + interval '30 days'"
        )
        assert cursor.fetchone() == (0,)


def test_a_login_on_a_known_device_clears_what_failed_elsewhere(
    guess: Guess, db: Connection
) -> None:
    for number in range(60):
        guess(f"192.0.2.{number}")
    for _ in range(4):
        guess("198.51.100.1")
    guess("198.51.100.1", PASSWORD, known=DeviceCookie(auth_hash(db), "her own"))
    assert [guess("198.51.100.1") for _ in range(6)] == [NOTHING] * 5 + [MINUTE]
    assert [guess(f"203.0.113.{number}") for number in range(96)] == [NOTHING] * 95 + [FOREVER]


def test_a_known_device_is_locked_after_a_hundred_failures_of_its_own(
    guess: Guess, db: Connection
) -> None:
    stolen = DeviceCookie(auth_hash(db), "stolen")
    for _ in range(100):
        assert guess(known=stolen) == NOTHING
        pass_time(db, HOUR)
    pass_time(db, timedelta(days=3650))
    assert guess(password=PASSWORD, known=stolen) == FOREVER
    assert guess(password=PASSWORD, known=DeviceCookie(auth_hash(db), "her own")) == NOTHING
    assert guess(password=PASSWORD) == NOTHING


def auth_hash(db: Connection) -> str:
    credentials = users.get_credentials_by_email(db, EMAIL)
    assert credentials is not None
    return credentials.auth_hash


def test_the_owners_own_device_is_not_locked_out_by_strangers(guess: Guess, db: Connection) -> None:
    for number in range(101):
        guess(f"192.0.2.{number}")
    for _ in range(5):
        guess("198.51.100.1")
    device = DeviceCookie(auth_hash(db), "her own")
    assert guess("198.51.100.1", PASSWORD) == FOREVER
    assert guess("198.51.100.1", PASSWORD, known=device) == NOTHING


def test_a_known_device_has_five_failures_of_its_own(guess: Guess, db: Connection) -> None:
    waits = [guess(known=DeviceCookie(auth_hash(db), "stolen")) for _ in range(6)]
    assert waits == [NOTHING] * 5 + [MINUTE]
    assert guess(known=DeviceCookie(auth_hash(db), "her own")) == NOTHING
    assert guess() == NOTHING


def test_a_device_is_known_to_one_account_alone(
    guess: Guess, db: Connection, visitor: Visitor
) -> None:
    visitor.register(name="Grace", email="grace@example.com", password=PASSWORD)
    for _ in range(5):
        guess(email="grace@example.com")
    device = DeviceCookie(auth_hash(db), "Ada's")
    assert guess(email="grace@example.com", known=device) == MINUTE


def test_a_new_password_makes_devices_unknown_and_ends_the_accounts_waits(
    guess: Guess, db: Connection, visitor: Visitor
) -> None:
    old = DeviceCookie(auth_hash(db), "known to the old password")
    for number in range(101):
        guess(f"192.0.2.{number}")
    for _ in range(5):
        guess()
    user = users.get_by_email(db, EMAIL)
    assert user is not None
    visitor.change_password(user, "staple battery horse")
    assert guess(password="staple battery horse") == NOTHING
    assert guess("198.51.100.1", "staple battery horse") == NOTHING
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


def test_registrations_are_throttled_by_network(open_visitor: OpenVisitor) -> None:
    for _ in range(20):
        open_visitor().rate_limiter.admit_registration()
    with pytest.raises(RateLimited) as caught:
        open_visitor().rate_limiter.admit_registration()
    assert rounded(caught.value.wait) == MINUTE
    open_visitor(Client("192.0.2.2")).rate_limiter.admit_registration()


def test_asking_for_the_password_is_throttled_by_session_and_network(
    session: Session, check: Check
) -> None:
    assert [check(session) for _ in range(6)] == [NOTHING] * 5 + [MINUTE]


def test_a_stolen_session_does_not_use_up_the_owners_tries(
    visitor: Visitor, ada: int, session: Session, check: Check
) -> None:
    for number in range(9):
        for _ in range(6):
            check(session, f"203.0.113.{number}")
    assert check(session, "192.0.2.1", PASSWORD) == NOTHING
    other = visitor.begin_session(ada)
    assert check(other, "192.0.2.1", PASSWORD) == NOTHING


def test_after_a_hundred_failures_in_a_session_no_password_is_evaluated_in_it(
    visitor: Visitor, ada: int, session: Session, check: Check, db: Connection
) -> None:
    waits = [check(session, f"203.0.113.{number}") for number in range(101)]
    assert waits == [NOTHING] * 100 + [FOREVER]
    pass_time(db, timedelta(days=3650))
    assert check(session, "192.0.2.1", PASSWORD) == FOREVER
    other = visitor.begin_session(ada)
    assert check(other, "192.0.2.1", PASSWORD) == NOTHING


def test_asking_for_the_password_is_throttled_by_network(
    visitor: Visitor, open_visitor: OpenVisitor
) -> None:
    waits = []
    for number in range(21):
        email = f"{number}@example.com"
        user_id = visitor.register(name="Ada", email=email, password=PASSWORD)
        session = visitor.begin_session(user_id)
        with pytest.raises((AuthenticationFailed, RateLimited)) as caught:
            open_visitor().reauthenticate(session, "wrong")
        waits.append(rounded(getattr(caught.value, "wait", NOTHING)))
    assert waits == [NOTHING] * 20 + [MINUTE]


def test_the_right_password_clears_what_failed_in_the_session_but_not_for_the_network(
    session: Session, check: Check
) -> None:
    for _ in range(4):
        assert [check(session) for _ in range(4)] == [NOTHING] * 4
        assert check(session, password=PASSWORD) == NOTHING
    assert [check(session) for _ in range(4)] == [NOTHING] * 4
    assert check(session, password=PASSWORD) == MINUTE


def test_changes_of_a_profile_are_limited_in_each_session(
    visitor: Visitor, open_visitor: OpenVisitor, session: Session
) -> None:
    for number in range(20):
        open_visitor(Client(f"192.0.2.{number}")).rate_limiter.admit_profile_change(session)
    with pytest.raises(RateLimited) as caught:
        open_visitor().rate_limiter.admit_profile_change(session)
    assert rounded(caught.value.wait) == MINUTE
    # Who has stolen that session's cookie does not keep the owner from changing the profile.
    other = visitor.begin_session(session.user.id)
    visitor.rate_limiter.admit_profile_change(other)


@pytest.mark.parametrize(
    ("address", "alike", "different"),
    [
        ("Susan@example.org", "sUSAN@example.org", "\u017fusan@example.org"),
        ("\u017fusan@example.org", "\u017fUSAN@example.org", "susan@example.org"),
        ("\u0130nci@example.org", "inci@example.org", "i\u0307nci@example.org"),
        ("\u03a3\u03a3@example.org", "\u03c3\u03c3@example.org", "\u03c3\u03c2@example.org"),
    ],
)
def test_addresses_share_a_limit_only_if_they_would_share_an_account(
    db: Connection, visitor: Visitor, address: str, alike: str, different: str
) -> None:
    def keys(email: str) -> list[bytes]:
        return [limit.key for limit in visitor.rate_limiter.login_limits(email, None)]

    with db.cursor() as cursor:
        cursor.execute("SELECT lower(%s) = lower(%s)", (address, alike))
        assert cursor.fetchone() == (True,)
        cursor.execute("SELECT lower(%s) = lower(%s)", (address, different))
        assert cursor.fetchone() == (False,)
    assert keys(address) == keys(alike)
    assert keys(address)[0] != keys(different)[0]


def rows(db: Connection) -> list[tuple[int, int]]:
    """How many rate limits and events there are."""
    with db.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM throttles), (SELECT count(*) FROM account_events)"
        )
        return cursor.fetchall()


def test_a_refused_login_adds_no_rows(guess: Guess, db: Connection) -> None:
    for number in range(50):
        guess(email=f"{number}@example.com")
    for number in range(100):
        guess(f"198.51.100.{number}")
    before = rows(db)
    for number in range(20):
        assert guess(email=f"again-{number}@example.com") > NOTHING  # a blocked network
        assert guess(f"203.0.113.{number}") == FOREVER  # a locked account, from new networks
        assert guess(f"2001:db8:{number}::1") == FOREVER
    assert rows(db) == before


def test_a_refused_registration_check_or_change_adds_no_rows(
    open_visitor: OpenVisitor, session: Session, check: Check, db: Connection
) -> None:
    for _ in range(20):
        check(session)
        open_visitor().rate_limiter.admit_registration()
        open_visitor().rate_limiter.admit_profile_change(session)
    before = rows(db)
    assert check(session) > NOTHING
    with pytest.raises(RateLimited):
        open_visitor().rate_limiter.admit_registration()
    with pytest.raises(RateLimited):
        open_visitor(Client("198.51.100.1")).rate_limiter.admit_profile_change(session)
    assert rows(db) == before


def test_the_wait_doubles_up_to_the_longest(
    db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "FIRST_WAIT", timedelta(seconds=7))
    monkeypatch.setattr(rate_limits, "LONGEST_WAIT", timedelta(seconds=10))
    limits = [Limit(b"k" * 32, max_failures=2, reset_after=HOUR)]
    waits = [rate_limits.count(db, limits) for _ in range(3)]
    pass_time(db, timedelta(seconds=7))
    waits += [rate_limits.count(db, limits) for _ in range(2)]
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


def test_a_rate_limited_registration_is_logged(visitor: Visitor, happened: list[Event]) -> None:
    for _ in range(20):
        visitor.rate_limiter.admit_registration()
    with pytest.raises(RateLimited):
        visitor.rate_limiter.admit_registration()
    assert happened[1:] == [Event("registration_throttled", address="192.0.2.1")]
