"""Rate limits for logins, codes, passkeys, re-authentication, registration and changes."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from hello_login.auth import rate_limits
from hello_login.auth.accounts import EmailTaken
from hello_login.auth.audit import make_event
from hello_login.auth.clients import Client, DeviceCookie
from hello_login.auth.login import AuthenticationFailed
from hello_login.auth.passwords import Passwords
from hello_login.auth.rate_limits import RateLimited
from hello_login.auth.second_factor import CodeRefused
from hello_login.repositories import throttles, users
from hello_login.repositories.events import Event
from hello_login.repositories.sessions import Session
from hello_login.repositories.throttles import FOREVER, Limit
from tests.conftest import CLIENT, SECRET_KEY, OpenVisitor
from tests.functional.authenticator import add_app, begin_half_login, complete
from tests.people import EMAIL, NEW_PASSWORD, PASSWORD
from tests.rows import add_expired_limit, add_passkey, execute
from tests.visitor import Visitor

pytestmark = pytest.mark.usefixtures("clock")

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
NO_WAIT = timedelta(0)

Guess = Callable[..., timedelta]


@pytest.fixture
def guess(open_visitor: OpenVisitor) -> Guess:
    """Return a function that tries to log in, and returns the wait if it is rate-limited."""

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
            return limited.wait
        except AuthenticationFailed:
            return NO_WAIT
        return NO_WAIT

    return make


@pytest.fixture(autouse=True)
def ada(visitor: Visitor) -> int:
    """Register Ada, and return the id of her account."""
    return visitor.register(name="Ada", email=EMAIL, password=PASSWORD)


Reauthenticate = Callable[..., timedelta]


@pytest.fixture
def session(visitor: Visitor, ada: int) -> Session:
    """Return a session of Ada's account."""
    return visitor.begin_session(ada)


@pytest.fixture
def reauthenticate(open_visitor: OpenVisitor) -> Reauthenticate:
    """Return a function that re-authenticates a session, and returns the wait if rate-limited."""

    def make(
        session: Session, address: str = "192.0.2.1", password: str = "a wrong one"
    ) -> timedelta:
        try:
            open_visitor(Client(address)).reauthenticate(session, password)
        except RateLimited as limited:
            return limited.wait
        except AuthenticationFailed:
            return NO_WAIT
        return NO_WAIT

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
    assert [guess() for _ in range(5)] == [NO_WAIT] * 5
    waits = []
    for _ in range(8):
        waits.append(guess())
        pass_time(db, waits[-1])
        assert guess() == NO_WAIT
    assert waits == [n * MINUTE for n in (1, 2, 4, 8, 16, 32, 60, 60)]


def test_attempts_during_a_wait_are_not_counted(guess: Guess, db: Connection) -> None:
    assert [guess() for _ in range(30)] == [NO_WAIT] * 5 + [MINUTE] * 25
    pass_time(db, MINUTE - timedelta(seconds=1))
    assert guess() == timedelta(seconds=1)
    pass_time(db, timedelta(seconds=1))
    assert guess() == NO_WAIT


def test_the_right_password_is_refused_during_a_wait(guess: Guess, db: Connection) -> None:
    for _ in range(5):
        guess()
    assert guess(password=PASSWORD) == MINUTE
    pass_time(db, MINUTE)
    assert guess(password=PASSWORD) == NO_WAIT


def test_a_successful_login_resets_the_failures(guess: Guess) -> None:
    for _ in range(4):
        guess()
    guess(password=PASSWORD)
    assert [guess() for _ in range(6)] == [NO_WAIT] * 5 + [MINUTE]


def test_failures_are_forgotten_after_a_day_without_one(guess: Guess, db: Connection) -> None:
    for _ in range(4):
        guess()
    pass_time(db, timedelta(days=1))
    assert [guess() for _ in range(6)] == [NO_WAIT] * 5 + [MINUTE]


def test_other_networks_and_other_accounts_do_not_wait(guess: Guess) -> None:
    for _ in range(6):
        guess()
    assert guess("192.0.2.2", password=PASSWORD) == NO_WAIT
    assert guess(email="grace@example.com") == NO_WAIT


def test_an_address_in_another_case_is_the_same_account(guess: Guess) -> None:
    for email in (EMAIL, EMAIL.upper(), EMAIL.title(), EMAIL, EMAIL.upper()):
        guess(email=email)
    assert guess(email=EMAIL.swapcase()) == MINUTE


def test_an_unknown_account_is_rate_limited_like_any_other(guess: Guess) -> None:
    nobody = "nobody@example.com"
    assert [guess(email=nobody) for _ in range(6)] == [NO_WAIT] * 5 + [MINUTE]


def test_guesses_at_many_accounts_are_rate_limited_by_network(guess: Guess) -> None:
    waits = [guess(email=f"{number}@example.com") for number in range(51)]
    assert waits == [NO_WAIT] * 50 + [MINUTE]
    assert guess(password=PASSWORD) == MINUTE
    assert guess("192.0.2.2", password=PASSWORD) == NO_WAIT


def test_an_ipv6_64_counts_as_one_network(guess: Guess) -> None:
    waits = [guess(f"2001:db8::{number}") for number in range(1, 7)]
    assert waits == [NO_WAIT] * 5 + [MINUTE]
    assert guess("2001:db8:0:1::1") == NO_WAIT


def in_a_56(number: int) -> str:
    """Return an address in a /64 of its own for each number below 256, all in one /56."""
    return f"2001:db8:0:{number:x}::1"


def in_a_48(number: int) -> str:
    """Return an address in a /56 of its own for each number below 256, all in one /48."""
    return f"2001:db8:0:{number:x}00::1"


WIDER_NETWORKS = pytest.mark.parametrize(("address", "factor"), [(in_a_56, 2), (in_a_48, 4)])


@WIDER_NETWORKS
def test_an_ipv6_56_and_48_have_higher_limits_for_one_account(
    guess: Guess, address: Callable[[int], str], factor: int
) -> None:
    free = 5 * factor
    waits = [guess(address(number)) for number in range(free + 1)]
    assert waits == [NO_WAIT] * free + [MINUTE]
    assert guess("2001:db8:1::1", PASSWORD) == NO_WAIT


@WIDER_NETWORKS
def test_an_ipv6_56_and_48_have_higher_limits_for_all_accounts(
    guess: Guess, address: Callable[[int], str], factor: int
) -> None:
    free = 50 * factor
    waits = [guess(address(each), email=f"{each}@example.com") for each in range(free + 1)]
    assert waits == [NO_WAIT] * free + [MINUTE]


@WIDER_NETWORKS
def test_an_ipv6_56_and_48_have_higher_limits_for_registrations(
    open_visitor: OpenVisitor, address: Callable[[int], str], factor: int
) -> None:
    for number in range(20 * factor):
        open_visitor(Client(address(number))).rate_limiter.admit_registration()
    with pytest.raises(RateLimited):
        open_visitor(Client(address(255))).rate_limiter.admit_registration()


@WIDER_NETWORKS
def test_an_ipv6_56_and_48_have_higher_limits_for_reauthentication(
    session: Session, reauthenticate: Reauthenticate, address: Callable[[int], str], factor: int
) -> None:
    free = 5 * factor
    waits = [reauthenticate(session, address(number)) for number in range(free + 1)]
    assert waits == [NO_WAIT] * free + [MINUTE]


def test_a_successful_login_neither_counts_for_its_network_nor_resets_it(guess: Guess) -> None:
    for number in range(49):
        guess(email=f"{number}@example.com")
    assert [guess(password=PASSWORD) for _ in range(5)] == [NO_WAIT] * 5
    assert [guess(email=f"again-{number}@example.com") for number in range(2)] == [NO_WAIT, MINUTE]


@pytest.mark.parametrize("email", [EMAIL, "nobody@example.com"])
def test_a_hundred_failures_lock_an_account_without_time_limit(
    guess: Guess, db: Connection, email: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = [guess(f"192.0.2.{number}", email=email) for number in range(101)]
    assert waits == [NO_WAIT] * 100 + [FOREVER]
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
    assert [guess(f"192.0.2.{number}") for number in range(2)] == [NO_WAIT] * 2


def test_deleting_expired_rate_limits_keeps_those_of_locked_accounts(
    guess: Guess, db: Connection
) -> None:
    for number in range(100):
        guess(f"192.0.2.{number}")
    pass_time(db, timedelta(days=3650))
    for number in range(12):  # each login deletes ten rows
        guess(f"198.51.100.{number}", email=f"{number}@example.com")
    assert guess("203.0.113.1", PASSWORD) == FOREVER


def test_a_login_on_a_known_device_unlocks_the_account(guess: Guess, db: Connection) -> None:
    for number in range(100):
        guess(f"192.0.2.{number}")
    assert guess("198.51.100.1", PASSWORD) == FOREVER
    device = DeviceCookie(auth_hash(db), "her own")
    assert guess("198.51.100.1", known=device) == NO_WAIT
    assert guess("198.51.100.1", PASSWORD) == FOREVER  # a failed login unlocks nothing
    assert guess("198.51.100.1", PASSWORD, known=device) == NO_WAIT
    assert [guess(f"203.0.113.{number}") for number in range(101)] == [NO_WAIT] * 100 + [FOREVER]


def test_the_rate_limits_of_an_unlocked_account_expire(guess: Guess, db: Connection) -> None:
    for number in range(100):
        guess(f"192.0.2.{number}")
    guess(password=PASSWORD, known=DeviceCookie(auth_hash(db), "her own"))
    with db.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM throttles WHERE forget_at > now() + interval '30 days'"
        )
        assert cursor.fetchone() == (0,)


def test_a_login_on_a_known_device_resets_failures_from_elsewhere(
    guess: Guess, db: Connection
) -> None:
    for number in range(60):
        guess(f"192.0.2.{number}")
    for _ in range(4):
        guess("198.51.100.1")
    guess("198.51.100.1", PASSWORD, known=DeviceCookie(auth_hash(db), "her own"))
    assert [guess("198.51.100.1") for _ in range(6)] == [NO_WAIT] * 5 + [MINUTE]
    assert [guess(f"203.0.113.{number}") for number in range(96)] == [NO_WAIT] * 95 + [FOREVER]


def test_a_known_device_is_locked_after_a_hundred_failures_of_its_own(
    guess: Guess, db: Connection
) -> None:
    stolen = DeviceCookie(auth_hash(db), "stolen")
    for _ in range(100):
        assert guess(known=stolen) == NO_WAIT
        pass_time(db, HOUR)
    pass_time(db, timedelta(days=3650))
    assert guess(password=PASSWORD, known=stolen) == FOREVER
    assert guess(password=PASSWORD, known=DeviceCookie(auth_hash(db), "her own")) == NO_WAIT
    assert guess(password=PASSWORD) == NO_WAIT


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
    assert guess("198.51.100.1", PASSWORD, known=device) == NO_WAIT


def test_a_known_device_has_a_rate_limit_of_its_own(guess: Guess, db: Connection) -> None:
    waits = [guess(known=DeviceCookie(auth_hash(db), "stolen")) for _ in range(6)]
    assert waits == [NO_WAIT] * 5 + [MINUTE]
    assert guess(known=DeviceCookie(auth_hash(db), "her own")) == NO_WAIT
    assert guess() == NO_WAIT


def test_a_device_is_known_to_only_one_account(
    guess: Guess, db: Connection, visitor: Visitor
) -> None:
    visitor.register(name="Grace", email="grace@example.com", password=PASSWORD)
    for _ in range(5):
        guess(email="grace@example.com")
    device = DeviceCookie(auth_hash(db), "Ada's")
    assert guess(email="grace@example.com", known=device) == MINUTE


def test_a_new_password_revokes_known_devices_and_resets_the_accounts_waits(
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
    assert guess(password="staple battery horse") == NO_WAIT
    assert guess("198.51.100.1", "staple battery horse") == NO_WAIT
    waits = [guess(known=old._replace(id=f"{number}")) for number in range(6)]
    assert waits == [NO_WAIT] * 5 + [MINUTE]


def test_failures_with_an_id_as_the_address_do_not_count_for_the_account(
    guess: Guess, ada: int
) -> None:
    for _ in range(6):
        guess(email=str(ada))
    assert guess(password=PASSWORD) == NO_WAIT


def test_an_unknown_address_in_another_case_counts_as_the_same(guess: Guess) -> None:
    for email in (
        "n@example.com",
        "N@example.com",
        "n@EXAMPLE.com",
        "N@EXAMPLE.COM",
        "n@Example.com",
    ):
        guess(email=email)
    assert guess(email="N@EXAMPLE.com") == MINUTE


def test_registrations_are_rate_limited_by_network(open_visitor: OpenVisitor) -> None:
    for _ in range(20):
        open_visitor().rate_limiter.admit_registration()
    with pytest.raises(RateLimited) as caught:
        open_visitor().rate_limiter.admit_registration()
    assert caught.value.wait == MINUTE
    open_visitor(Client("192.0.2.2")).rate_limiter.admit_registration()


def test_reauthentication_is_rate_limited_by_session_and_network(
    session: Session, reauthenticate: Reauthenticate
) -> None:
    assert [reauthenticate(session) for _ in range(6)] == [NO_WAIT] * 5 + [MINUTE]


def test_a_stolen_session_does_not_use_up_the_owners_attempts(
    visitor: Visitor, ada: int, session: Session, reauthenticate: Reauthenticate
) -> None:
    for number in range(9):
        for _ in range(6):
            reauthenticate(session, f"203.0.113.{number}")
    assert reauthenticate(session, "192.0.2.1", PASSWORD) == NO_WAIT
    other = visitor.begin_session(ada)
    assert reauthenticate(other, "192.0.2.1", PASSWORD) == NO_WAIT


def test_a_hundred_failures_lock_reauthentication_in_a_session(
    visitor: Visitor, ada: int, session: Session, reauthenticate: Reauthenticate, db: Connection
) -> None:
    waits = [reauthenticate(session, f"203.0.113.{number}") for number in range(101)]
    assert waits == [NO_WAIT] * 100 + [FOREVER]
    pass_time(db, timedelta(days=3650))
    assert reauthenticate(session, "192.0.2.1", PASSWORD) == FOREVER
    other = visitor.begin_session(ada)
    assert reauthenticate(other, "192.0.2.1", PASSWORD) == NO_WAIT


def test_reauthentication_is_rate_limited_by_network(
    visitor: Visitor, open_visitor: OpenVisitor
) -> None:
    waits = []
    for number in range(21):
        email = f"{number}@example.com"
        user_id = visitor.register(name="Ada", email=email, password=PASSWORD)
        session = visitor.begin_session(user_id)
        with pytest.raises((AuthenticationFailed, RateLimited)) as caught:
            open_visitor().reauthenticate(session, "wrong")
        waits.append(getattr(caught.value, "wait", NO_WAIT))
    assert waits == [NO_WAIT] * 20 + [MINUTE]


def test_reauthentication_resets_the_failures_of_the_session_but_not_of_the_network(
    session: Session, reauthenticate: Reauthenticate
) -> None:
    for _ in range(4):
        assert [reauthenticate(session) for _ in range(4)] == [NO_WAIT] * 4
        assert reauthenticate(session, password=PASSWORD) == NO_WAIT
    assert [reauthenticate(session) for _ in range(4)] == [NO_WAIT] * 4
    assert reauthenticate(session, password=PASSWORD) == MINUTE


def test_profile_changes_are_rate_limited_by_session(
    visitor: Visitor, open_visitor: OpenVisitor, session: Session
) -> None:
    for number in range(20):
        open_visitor(Client(f"192.0.2.{number}")).rate_limiter.admit_profile_change(session)
    with pytest.raises(RateLimited) as caught:
        open_visitor().rate_limiter.admit_profile_change(session)
    assert caught.value.wait == MINUTE
    # A thief of that session's cookie does not keep the owner from changing the profile.
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


def count_rows(db: Connection) -> list[tuple[int, int]]:
    """Return the numbers of rate limits and of events."""
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
    before = count_rows(db)
    for number in range(20):
        assert guess(email=f"again-{number}@example.com") > NO_WAIT  # a blocked network
        assert guess(f"203.0.113.{number}") == FOREVER  # a locked account, from new networks
        assert guess(f"2001:db8:{number}::1") == FOREVER
    assert count_rows(db) == before


def test_a_refused_registration_reauthentication_or_profile_change_adds_no_rows(
    open_visitor: OpenVisitor, session: Session, reauthenticate: Reauthenticate, db: Connection
) -> None:
    for _ in range(20):
        reauthenticate(session)
        open_visitor().rate_limiter.admit_registration()
        open_visitor().rate_limiter.admit_profile_change(session)
    before = count_rows(db)
    assert reauthenticate(session) > NO_WAIT
    with pytest.raises(RateLimited):
        open_visitor().rate_limiter.admit_registration()
    with pytest.raises(RateLimited):
        open_visitor(Client("198.51.100.1")).rate_limiter.admit_profile_change(session)
    assert count_rows(db) == before


def test_the_wait_doubles_up_to_the_longest_wait(
    db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "FIRST_WAIT", timedelta(seconds=7))
    monkeypatch.setattr(rate_limits, "LONGEST_WAIT", timedelta(seconds=10))
    limits = [Limit(b"k" * 32, max_failures=2, forget_after=HOUR)]
    waits = [rate_limits.count_failure(db, limits) for _ in range(3)]
    pass_time(db, timedelta(seconds=7))
    waits += [rate_limits.count_failure(db, limits) for _ in range(2)]
    assert [wait.total_seconds() for wait in waits] == [0, 0, 7, 0, 10]


def test_rate_limits_store_no_typed_text(guess: Guess, db: Connection) -> None:
    guess(email="my password, in the wrong field")
    with db.cursor() as cursor:
        cursor.execute("SELECT throttles::text FROM throttles")
        rows = str(cursor.fetchall())
    assert "password" not in rows
    assert b"password".hex() not in rows


def test_expired_rate_limits_are_deleted(guess: Guess, db: Connection) -> None:
    for number in range(4):
        guess(email=f"{number}@example.com")
    pass_time(db, timedelta(days=31))
    guess("198.51.100.1")
    with db.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM throttles")
        assert cursor.fetchone() == (3,)


def test_a_login_and_a_refused_registration_delete_expired_rate_limits(
    visitor: Visitor, ada: int, db: Connection
) -> None:
    def register_again() -> None:
        with pytest.raises(EmailTaken):
            visitor.register_ada()

    for act in (lambda: visitor.complete_login(ada), register_again):
        add_expired_limit(db)
        act()
        assert execute(db, "SELECT FROM throttles") == []


def test_a_rate_limited_registration_is_logged(
    visitor: Visitor, logged_events: list[Event]
) -> None:
    for _ in range(20):
        visitor.rate_limiter.admit_registration()
    with pytest.raises(RateLimited):
        visitor.rate_limiter.admit_registration()
    assert logged_events[1:] == [make_event(CLIENT, "registration_throttled")]


# Codes of the second factor


class Factor:
    """The second factor of an account, and the codes that people try."""

    def __init__(self, open_visitor: OpenVisitor, session: Session) -> None:
        self._open_visitor = open_visitor
        self.user_id = session.user.id
        self.phone, self.recovery_codes = add_app(open_visitor(), session)

    def type(
        self, code: str, address: str = "192.0.2.1", known: DeviceCookie | None = None
    ) -> timedelta:
        """Try a code in a new half login; return the wait if it is rate-limited."""
        visitor = self._open_visitor(Client(address, known=known))
        try:
            complete(visitor, begin_half_login(visitor, self.user_id), code)
        except RateLimited as limited:
            return limited.wait
        except CodeRefused as refused:
            if refused.reason != "wrong":
                raise
        return NO_WAIT

    def guess(self, address: str = "192.0.2.1", known: DeviceCookie | None = None) -> timedelta:
        """Try a wrong code of the app."""
        return self.type(self.phone.code(500), address, known)

    def lock(self) -> None:
        """Guess from many networks until the codes of the app are locked."""
        for number in range(100):
            assert self.guess(f"192.0.2.{number}") == NO_WAIT


@pytest.fixture
def factor(open_visitor: OpenVisitor, session: Session) -> Factor:
    """Return the second factor of Ada's account."""
    return Factor(open_visitor, session)


def test_wrong_codes_are_rate_limited_like_wrong_passwords(factor: Factor, db: Connection) -> None:
    assert [factor.guess() for _ in range(30)] == [NO_WAIT] * 5 + [MINUTE] * 25
    pass_time(db, MINUTE)
    assert [factor.guess() for _ in range(2)] == [NO_WAIT, 2 * MINUTE]


def test_the_right_code_is_refused_during_a_wait_and_ends_it_afterwards(
    factor: Factor, db: Connection
) -> None:
    for _ in range(5):
        factor.guess()
    assert factor.type(factor.phone.code()) == MINUTE
    pass_time(db, MINUTE)
    assert factor.type(factor.phone.code()) == NO_WAIT
    assert [factor.guess() for _ in range(6)] == [NO_WAIT] * 5 + [MINUTE]


def test_wrong_codes_count_for_the_account_and_not_for_the_half_login(
    factor: Factor, visitor: Visitor
) -> None:
    half = begin_half_login(visitor, factor.user_id)
    for _ in range(3):
        with pytest.raises(CodeRefused):
            complete(visitor, half, factor.phone.code(500))
    assert [factor.guess() for _ in range(3)] == [NO_WAIT] * 2 + [MINUTE]


def test_wrong_codes_and_wrong_passwords_are_counted_separately(
    factor: Factor, guess: Guess
) -> None:
    assert [factor.guess() for _ in range(6)] == [NO_WAIT] * 5 + [MINUTE]
    assert [guess() for _ in range(6)] == [NO_WAIT] * 5 + [MINUTE]


def test_wrong_codes_in_other_networks_and_for_other_accounts_do_not_wait(
    factor: Factor, open_visitor: OpenVisitor, visitor: Visitor
) -> None:
    for _ in range(6):
        factor.guess()
    assert factor.type(factor.phone.code(), "192.0.2.2") == NO_WAIT
    assert other_factor(visitor, open_visitor, 1).guess() == NO_WAIT


def other_factor(visitor: Visitor, open_visitor: OpenVisitor, number: int) -> Factor:
    """Register another account with a second factor."""
    email = f"{number}@example.com"
    user_id = visitor.register(name="Other", email=email, password=PASSWORD)
    return Factor(open_visitor, visitor.begin_session(user_id))


def test_wrong_codes_for_many_accounts_are_rate_limited_by_network(
    factor: Factor, open_visitor: OpenVisitor, visitor: Visitor
) -> None:
    others = [other_factor(visitor, open_visitor, number) for number in range(10)]
    assert [other.guess() for other in others for _ in range(5)] == [NO_WAIT] * 50
    assert factor.type(factor.phone.code()) == MINUTE
    assert factor.type(factor.recovery_codes[0]) == MINUTE
    assert factor.type(factor.phone.code(), "192.0.2.2") == NO_WAIT


@WIDER_NETWORKS
def test_an_ipv6_56_and_48_have_higher_limits_for_codes(
    open_visitor: OpenVisitor, session: Session, address: Callable[[int], str], factor: int
) -> None:
    free, own = 5 * factor, Factor(open_visitor, session)
    waits = [own.guess(address(number)) for number in range(free + 1)]
    assert waits == [NO_WAIT] * free + [MINUTE]


def test_a_hundred_wrong_codes_lock_the_app_for_unknown_devices_without_time_limit(
    factor: Factor, db: Connection
) -> None:
    factor.lock()
    for time in (NO_WAIT, timedelta(days=29), timedelta(days=3650)):
        pass_time(db, time)
        assert factor.type(factor.phone.code(), "198.51.100.1") == FOREVER


def test_a_recovery_code_works_although_the_app_is_locked_and_unlocks_it(factor: Factor) -> None:
    factor.lock()
    for _ in range(3):
        assert factor.type("A" * 24, "198.51.100.1") == NO_WAIT
    assert factor.guess("198.51.100.1") == FOREVER  # a wrong recovery code unlocks nothing
    assert factor.type(factor.recovery_codes[0], "198.51.100.1") == NO_WAIT
    assert factor.type(factor.phone.code(), "198.51.100.1") == NO_WAIT
    waits = [factor.guess(f"203.0.113.{number}") for number in range(101)]
    assert waits == [NO_WAIT] * 100 + [FOREVER]


def test_a_recovery_code_ends_the_wait_of_its_network(factor: Factor) -> None:
    for _ in range(6):
        factor.guess()
    assert factor.type(factor.recovery_codes[0]) == NO_WAIT
    assert factor.type(factor.phone.code()) == NO_WAIT


def test_wrong_recovery_codes_are_rate_limited_by_network_and_do_not_lock_the_app(
    factor: Factor,
) -> None:
    assert [factor.type("A" * 24) for _ in range(51)] == [NO_WAIT] * 50 + [MINUTE]
    for number in range(100):
        assert factor.type("A" * 24, f"198.51.100.{number}") == NO_WAIT
    assert factor.type(factor.phone.code(), "203.0.113.1") == NO_WAIT


def test_right_recovery_codes_do_not_count_for_their_network(factor: Factor) -> None:
    for _ in range(49):
        factor.type("A" * 24)
    assert [factor.type(code) for code in factor.recovery_codes] == [NO_WAIT] * 10
    assert [factor.type("A" * 24) for _ in range(2)] == [NO_WAIT, MINUTE]


def test_codes_on_a_known_device_have_a_rate_limit_of_their_own(
    factor: Factor, db: Connection
) -> None:
    device = DeviceCookie(auth_hash(db), "her own")
    for _ in range(6):
        factor.guess()
    assert [factor.guess(known=device) for _ in range(6)] == [NO_WAIT] * 5 + [MINUTE]
    other = DeviceCookie(auth_hash(db), "her other one")
    assert factor.type(factor.phone.code(), known=other) == NO_WAIT


def test_a_code_on_a_known_device_works_although_the_app_is_locked_and_unlocks_it(
    factor: Factor, db: Connection
) -> None:
    factor.lock()
    device = DeviceCookie(auth_hash(db), "her own")
    assert factor.guess("198.51.100.1", known=device) == NO_WAIT
    assert factor.guess("198.51.100.1") == FOREVER
    assert factor.type(factor.phone.code(), "198.51.100.1", known=device) == NO_WAIT
    assert factor.type(factor.phone.code(1), "198.51.100.2") == NO_WAIT


def test_a_known_device_is_locked_after_a_hundred_wrong_codes_of_its_own(
    factor: Factor, db: Connection
) -> None:
    stolen = DeviceCookie(auth_hash(db), "stolen")
    for _ in range(100):
        assert factor.guess(known=stolen) == NO_WAIT
        pass_time(db, HOUR)
    assert factor.type(factor.phone.code(), known=stolen) == FOREVER
    other = DeviceCookie(auth_hash(db), "her own")
    assert factor.type(factor.phone.code(), known=other) == NO_WAIT


def test_a_new_password_does_not_reset_the_count_of_wrong_codes(
    factor: Factor, visitor: Visitor, db: Connection
) -> None:
    stolen = DeviceCookie(auth_hash(db), "stolen")
    for number in range(99):
        factor.guess(f"192.0.2.{number}")
    for _ in range(4):
        factor.guess("198.51.100.1", known=stolen)
    visitor.change_password(visitor.user(), NEW_PASSWORD)
    assert [factor.guess("198.51.100.1", known=stolen) for _ in range(2)] == [NO_WAIT, FOREVER]
    assert factor.type(factor.phone.code(), "203.0.113.1") == FOREVER


def test_an_operator_unlocks_the_codes_of_an_account(factor: Factor, db: Connection) -> None:
    factor.lock()
    rate_limits.unlock_codes(db, SECRET_KEY.encode(), factor.user_id + 1)
    assert factor.guess("198.51.100.1") == FOREVER
    rate_limits.unlock_codes(db, SECRET_KEY.encode(), factor.user_id)
    assert factor.type(factor.phone.code(), "198.51.100.1") == NO_WAIT


def test_a_rate_limited_code_is_logged_and_adds_no_rows(
    factor: Factor, db: Connection, logged_events: list[Event]
) -> None:
    for _ in range(5):
        factor.guess()
    before = count_rows(db)
    for _ in range(20):
        assert factor.guess() == MINUTE
    assert count_rows(db) == before
    refused = [each for each in logged_events if each.event == "second_rate_limited"]
    assert refused == [make_event(Client("192.0.2.1"), "second_rate_limited", factor.user_id)] * 20


# Passkeys


UsePasskey = Callable[..., timedelta]


@pytest.fixture
def use_passkey(open_visitor: OpenVisitor, db: Connection) -> UsePasskey:
    """Return a function that uses a passkey, and returns the wait if it is rate-limited.

    whose: the passkey's id, or the account of the session or half login.
    """

    def make(
        address: str = "192.0.2.1",
        known: DeviceCookie | None = None,
        *,
        is_accepted: bool = False,
        **whose: Any,
    ) -> timedelta:
        try:
            visitor = open_visitor(Client(address, known=known))
            attempt = visitor.rate_limiter.admit_passkey(**whose)
        except RateLimited as limited:
            return limited.wait
        if is_accepted:
            throttles.take_back(db, attempt.limits)
        return NO_WAIT

    return make


def test_passkeys_are_rate_limited_by_network(use_passkey: UsePasskey, db: Connection) -> None:
    assert [use_passkey() for _ in range(60)] == [NO_WAIT] * 50 + [MINUTE] * 10
    assert use_passkey("192.0.2.2") == NO_WAIT
    pass_time(db, MINUTE)
    assert [use_passkey() for _ in range(2)] == [NO_WAIT, 2 * MINUTE]


@WIDER_NETWORKS
def test_an_ipv6_56_and_48_have_higher_limits_for_passkeys(
    use_passkey: UsePasskey, address: Callable[[int], str], factor: int
) -> None:
    free = 50 * factor
    waits = [use_passkey(address(number % 20)) for number in range(free + 1)]
    assert waits == [NO_WAIT] * free + [MINUTE]


def test_accepted_passkeys_do_not_count_for_their_network(use_passkey: UsePasskey) -> None:
    for _ in range(49):
        use_passkey()
    assert [use_passkey(is_accepted=True) for _ in range(10)] == [NO_WAIT] * 10
    assert [use_passkey() for _ in range(2)] == [NO_WAIT, MINUTE]


@pytest.mark.parametrize("told_by", ["passkey", "session"])
def test_passkeys_on_a_known_device_have_a_rate_limit_of_their_own(
    use_passkey: UsePasskey, db: Connection, ada: int, told_by: str
) -> None:
    phone = add_passkey(db, ada)
    whose = {"passkey_id": phone} if told_by == "passkey" else {"user_id": ada}
    for _ in range(51):
        use_passkey()
    assert use_passkey(**whose) == MINUTE
    device = DeviceCookie(auth_hash(db), "her own")
    waits = [use_passkey(known=device, **whose) for _ in range(6)]
    assert waits == [NO_WAIT] * 5 + [MINUTE]
    other = DeviceCookie(auth_hash(db), "her other one")
    assert use_passkey(known=other, **whose) == NO_WAIT


def test_an_accepted_passkey_resets_the_failures_of_its_known_device(
    use_passkey: UsePasskey, db: Connection, ada: int
) -> None:
    device = DeviceCookie(auth_hash(db), "her own")
    for _ in range(4):
        use_passkey(known=device, user_id=ada)
    assert use_passkey(known=device, user_id=ada, is_accepted=True) == NO_WAIT
    waits = [use_passkey(known=device, user_id=ada) for _ in range(6)]
    assert waits == [NO_WAIT] * 5 + [MINUTE]


def test_a_device_is_not_known_to_the_owner_of_another_passkey(
    use_passkey: UsePasskey, visitor: Visitor, ada: int
) -> None:
    grace = visitor.register(name="Grace", email="grace@example.com", password=PASSWORD)
    phones = [add_passkey(visitor.db, ada), add_passkey(visitor.db, grace, b"grace's")]
    adas_device = DeviceCookie(auth_hash(visitor.db), "her own")
    for _ in range(50):
        use_passkey()
    waits = [use_passkey(known=adas_device, passkey_id=each) for each in (*phones, b"unknown")]
    assert waits == [NO_WAIT, MINUTE, MINUTE]


def test_a_passkey_in_a_session_or_half_login_counts_for_its_account(
    use_passkey: UsePasskey, visitor: Visitor, ada: int, logged_events: list[Event]
) -> None:
    # The id of the passkey does not decide here, because anybody can send any id.
    grace = visitor.register(name="Grace", email="grace@example.com", password=PASSWORD)
    phone = add_passkey(visitor.db, ada)
    for _ in range(50):
        use_passkey()
    device = DeviceCookie(auth_hash(visitor.db), "her own")
    assert use_passkey(known=device, user_id=grace, passkey_id=phone) == MINUTE
    assert logged_events[-1].user_id == grace


def test_passkeys_count_neither_as_wrong_passwords_nor_as_wrong_codes(
    use_passkey: UsePasskey, guess: Guess, factor: Factor
) -> None:
    for _ in range(51):
        use_passkey(user_id=factor.user_id)
    assert guess() == NO_WAIT
    assert factor.type(factor.phone.code()) == NO_WAIT
    assert use_passkey(user_id=factor.user_id) == MINUTE


def test_a_rate_limited_passkey_is_logged_and_adds_no_rows(
    use_passkey: UsePasskey, db: Connection, ada: int, logged_events: list[Event]
) -> None:
    phone = add_passkey(db, ada)
    for _ in range(50):
        use_passkey()
    before = count_rows(db)
    for passkey_id in (phone, b"unknown"):
        assert use_passkey(passkey_id=passkey_id) == MINUTE
    assert count_rows(db) == before
    assert logged_events[-2:] == [
        make_event(Client("192.0.2.1"), "passkey_rate_limited", ada),
        make_event(Client("192.0.2.1"), "passkey_rate_limited"),
    ]
