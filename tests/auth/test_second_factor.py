"""The second factors of an account: codes of its app, recovery codes, and passkeys beside them."""

import re

import pytest
from psycopg2.extensions import connection as Connection

from hello_login.auth import links, second_factor, totp
from hello_login.auth.audit import RETENTION
from hello_login.auth.clients import Client
from hello_login.auth.login import SecondFactorNeeded
from hello_login.auth.second_factor import CodeRefused, Factors
from hello_login.auth.totp import SecretBox
from hello_login.repositories import events, half_logins, recovery_codes, users
from hello_login.repositories import totp as table
from hello_login.repositories.sessions import Session
from tests.conftest import SECRET_KEY, OpenVisitor
from tests.functional.authenticator import BOX, Clock, Phone, add_app, begin_half_login
from tests.people import PASSWORD
from tests.rows import add_passkey, execute
from tests.visitor import Visitor

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def phone(visitor: Visitor, session: Session, clock: Clock) -> Phone:
    """Return the app of Ada's account, of which no code near to the current time was used."""
    phone, _ = add_app(visitor, session)
    clock.tick(1000)
    return phone


def register_grace(visitor: Visitor) -> Session:
    user_id = visitor.register(name="Grace", email="grace@example.com", password=PASSWORD)
    return visitor.begin_session(user_id)


def refusal(visitor: Visitor, user_id: int, code: str, *, box: SecretBox = BOX) -> str | None:
    """Use a code, and return the reason why it was refused, or None."""
    try:
        second_factor.use_code(visitor.actor, box, user_id, code)
    except CodeRefused as refused:
        return refused.reason
    return None


def event_names(visitor: Visitor, user_id: int) -> list[str]:
    """Return the names of the account's events, the latest first."""
    return [each.event for each in events.list_of_user(visitor.db, user_id, 100, RETENTION)]


# Codes of the app


@pytest.mark.parametrize("steps", range(-12, 13))
def test_a_code_is_accepted_one_step_around_its_time_and_gets_a_hint_up_to_ten(
    visitor: Visitor, session: Session, phone: Phone, steps: int
) -> None:
    expected = None if abs(steps) <= 1 else "clock" if abs(steps) <= 10 else "wrong"
    assert refusal(visitor, session.user.id, phone.code(steps)) == expected


def test_a_code_works_once(visitor: Visitor, session: Session, phone: Phone) -> None:
    code = phone.code()
    assert refusal(visitor, session.user.id, code) is None
    assert [refusal(visitor, session.user.id, code) for _ in range(3)] == ["used"] * 3


def test_no_code_works_after_the_code_of_a_later_step(
    visitor: Visitor, session: Session, phone: Phone, clock: Clock
) -> None:
    user_id = session.user.id
    assert refusal(visitor, user_id, phone.code(1)) is None
    earlier = [phone.code(steps) for steps in (-1, 0, 1)]
    assert [refusal(visitor, user_id, code) for code in earlier] == ["used"] * 3
    clock.tick()
    assert refusal(visitor, user_id, phone.code()) == "used"
    assert refusal(visitor, user_id, phone.code(1)) is None


def test_each_step_has_a_code_that_works(
    visitor: Visitor, session: Session, phone: Phone, clock: Clock
) -> None:
    for _ in range(5):
        clock.tick()
        assert refusal(visitor, session.user.id, phone.code()) is None


def test_the_code_that_added_the_app_does_not_work_again(
    visitor: Visitor, session: Session, clock: Clock
) -> None:
    phone, _ = add_app(visitor, session)
    assert refusal(visitor, session.user.id, phone.code(-1)) == "used"
    clock.tick()
    assert refusal(visitor, session.user.id, phone.code()) is None


@pytest.mark.parametrize("steps", range(2, 11))
@pytest.mark.parametrize("early", [1, 0, -1])
def test_a_code_that_got_a_hint_is_refused_when_its_time_comes(
    visitor: Visitor, session: Session, phone: Phone, clock: Clock, steps: int, early: int
) -> None:
    user_id, code = session.user.id, phone.code(steps)
    assert refusal(visitor, user_id, code) == "clock"
    clock.tick(steps - early)
    assert refusal(visitor, user_id, code) == "used"
    clock.tick(early + 1)
    assert refusal(visitor, user_id, phone.code()) is None


def test_there_is_no_second_hint_until_the_time_of_the_first_is_over(
    visitor: Visitor, session: Session, phone: Phone, clock: Clock
) -> None:
    user_id, code = session.user.id, phone.code(4)
    assert refusal(visitor, user_id, code) == "clock"
    assert refusal(visitor, user_id, phone.code(-5)) == "wrong"
    clock.tick(4)
    assert refusal(visitor, user_id, code) == "used"
    clock.tick(2)
    assert refusal(visitor, user_id, phone.code(-5)) == "clock"


def test_a_code_of_another_account_is_wrong(
    visitor: Visitor, session: Session, phone: Phone
) -> None:
    other, _ = add_app(visitor, register_grace(visitor))
    assert refusal(visitor, session.user.id, other.code()) == "wrong"
    assert refusal(visitor, session.user.id, phone.code()) is None


def test_every_code_of_an_account_without_a_factor_is_wrong(
    visitor: Visitor, session: Session
) -> None:
    assert refusal(visitor, session.user.id, "123456") == "wrong"
    assert refusal(visitor, session.user.id, "A" * 24) == "wrong"
    assert event_names(visitor, session.user.id) == ["logged_in", "registered"]


@pytest.mark.parametrize(
    "code",
    [
        "",
        "12345",
        "1234567",
        "12345A",
        "\u0661\u0662\u0663\u0664\u0665\u0666",
        "123456\n",
        "-12345",
    ],
)
def test_only_six_digits_are_an_apps_code(code: str) -> None:
    assert not second_factor.is_app_code(code)
    assert second_factor.is_app_code("012345")


@pytest.mark.parametrize(
    "code", ["", "A" * 23, "A" * 25, "a" * 24, "A" * 23 + "1", "A" * 23 + "\u00c4", "A" * 24 + "\n"]
)
def test_only_24_letters_and_digits_are_a_recovery_code(code: str) -> None:
    assert not second_factor.is_recovery_code(code)
    assert second_factor.is_recovery_code("ABCDEFGHIJKLMNOPQRST2347")


# Adding and removing


def test_a_wrong_first_code_adds_no_app(visitor: Visitor, session: Session) -> None:
    secret = totp.make_secret()
    phone = Phone(totp.as_text(secret))
    reasons = []
    for code in (Phone(totp.as_text(totp.make_secret())).code(), phone.code(4)):
        with pytest.raises(CodeRefused) as caught:
            second_factor.add_app(visitor.actor, BOX, session, secret, code)
        reasons.append(caught.value.reason)
    assert reasons == ["wrong", "clock"]
    assert second_factor.describe(visitor.db, session.user.id) == Factors(None, 0, None, [])
    assert event_names(visitor, session.user.id) == ["logged_in", "registered"]


def test_adding_an_app_ends_other_sessions_half_logins_and_links(
    visitor: Visitor, session: Session
) -> None:
    user = session.user
    other = visitor.begin_session(user.id)
    grace = register_grace(visitor)
    half = begin_half_login(visitor, user.id)
    graces_half = begin_half_login(visitor, grace.user.id)
    link = links.issue(visitor.db, "reset", user.email, user.id)
    graces_link = links.issue(visitor.db, "reset", grace.user.email, grace.user.id)
    add_app(visitor, session)
    assert live_sessions(visitor.db) == {session.id, grace.id}
    assert half_logins.find(visitor.db, half.id) is None
    assert half_logins.find(visitor.db, graces_half.id) == graces_half
    assert links.find(visitor.db, link) is None
    assert links.find(visitor.db, graces_link) is not None
    latest = events.list_of_user(visitor.db, user.id, 3, RETENTION)
    assert [(each.event, each.fingerprint) for each in latest] == [
        ("codes_made", session.fingerprint),
        ("session_ended", other.fingerprint),
        ("factor_added", session.fingerprint),
    ]


def live_sessions(db: Connection) -> set[bytes]:
    """Return the ids of the sessions of all accounts."""
    with db.cursor() as cursor:
        cursor.execute("SELECT id FROM sessions")
        return {bytes(session_id) for (session_id,) in cursor}


def test_removing_the_factor_ends_other_sessions_half_logins_and_links(
    visitor: Visitor, session: Session, phone: Phone
) -> None:
    user = session.user
    with visitor.db.cursor() as cursor:  # as one that began before the factor was added
        cursor.execute(
            """
            INSERT INTO sessions (id, user_id, idle_limit, expires_at)
            VALUES (sha256('other'), %s, '2 hours', now() + interval '1 day')
            """,
            [user.id],
        )
    half = begin_half_login(visitor, user.id)
    link = links.issue(visitor.db, "reset", user.email, user.id)
    assert second_factor.remove_app(visitor.actor, session)
    assert live_sessions(visitor.db) == {session.id}
    assert half_logins.find(visitor.db, half.id) is None
    assert links.find(visitor.db, link) is None
    assert second_factor.describe(visitor.db, user.id) == Factors(None, 0, None, [])
    assert event_names(visitor, user.id)[:2] == ["session_ended", "factor_removed"]
    assert refusal(visitor, user.id, phone.code()) == "wrong"
    assert visitor.complete_login(user.id).token


@pytest.mark.usefixtures("phone")
def test_an_operator_who_removes_the_factors_ends_all_sessions(
    visitor: Visitor, session: Session
) -> None:
    assert second_factor.remove_all(visitor.actor, session.user)
    assert live_sessions(visitor.db) == set()


def test_removing_a_factor_that_does_not_exist_changes_nothing(
    visitor: Visitor, session: Session
) -> None:
    assert not second_factor.remove_all(visitor.actor, session.user)
    assert not second_factor.remove_app(visitor.actor, session)
    assert live_sessions(visitor.db) == {session.id}
    assert event_names(visitor, session.user.id) == ["logged_in", "registered"]


# An app beside passkeys


def passkey_ids(visitor: Visitor, user_id: int) -> list[bytes]:
    """Return the ids of the account's passkeys, the oldest first."""
    return [each.id for each in second_factor.describe(visitor.db, user_id).passkeys]


def test_an_app_beside_a_passkey_ends_other_sessions_and_leaves_the_recovery_codes(
    visitor: Visitor, session: Session
) -> None:
    user_id = session.user.id
    old = second_factor.make_recovery_codes(visitor.actor, session)
    visitor.begin_session(user_id)
    add_passkey(visitor.db, user_id)
    _, codes = add_app(visitor, session)
    assert codes == []
    assert live_sessions(visitor.db) == {session.id}
    assert event_names(visitor, user_id).count("codes_made") == 1
    assert refusal(visitor, user_id, old[0]) is None


def test_an_account_that_keeps_a_passkey_keeps_its_second_step_and_its_recovery_codes(
    visitor: Visitor, session: Session
) -> None:
    phone, codes = add_app(visitor, session)
    user_id = session.user.id
    passkey_id = add_passkey(visitor.db, user_id)
    assert second_factor.remove_app(visitor.actor, session)
    assert second_factor.describe(visitor.db, user_id)[:2] == (None, 10)
    assert passkey_ids(visitor, user_id) == [passkey_id]
    with pytest.raises(SecondFactorNeeded):
        visitor.complete_login(user_id)
    assert refusal(visitor, user_id, phone.code()) == "wrong"
    assert refusal(visitor, user_id, codes[0]) is None


@pytest.mark.usefixtures("phone")
def test_an_operator_removes_the_app_and_the_passkeys_together(
    visitor: Visitor, session: Session
) -> None:
    user_id = session.user.id
    graces = register_grace(visitor).user.id
    others = add_passkey(visitor.db, graces, b"grace's")
    for passkey_id in (b"phone", b"key"):
        add_passkey(visitor.db, user_id, passkey_id)
    assert second_factor.remove_all(visitor.actor, session.user)
    assert second_factor.describe(visitor.db, user_id) == Factors(None, 0, None, [])
    removals = ["passkey_removed", "passkey_removed", "factor_removed"]
    assert event_names(visitor, user_id)[:4] == ["session_ended", *removals]
    assert passkey_ids(visitor, graces) == [others]


OLD, NEW = "1 day", "1 hour"
"""The age of a factor that was added before or after a time two hours ago."""


@pytest.mark.parametrize(
    ("app_age", "passkey_ages", "removals", "codes_stay"),
    [
        (NEW, [NEW], ["passkey_removed", "factor_removed"], False),
        (OLD, [NEW, OLD, NEW], ["passkey_removed", "passkey_removed"], True),
        (NEW, [OLD], ["factor_removed"], True),
        (OLD, [OLD], [], True),
    ],
)
@pytest.mark.usefixtures("phone")
def test_only_factors_that_were_added_after_a_time_are_removed(
    visitor: Visitor,
    session: Session,
    app_age: str,
    passkey_ages: list[str],
    removals: list[str],
    codes_stay: bool,
) -> None:
    user_id, stays = session.user.id, []
    execute(visitor.db, "UPDATE totp SET created_at = now() - %s::interval", app_age)
    for number, age in enumerate(passkey_ages):
        passkey_id = add_passkey(visitor.db, user_id, f"passkey {number}".encode())
        statement = "UPDATE passkeys SET created_at = now() - %s::interval WHERE id = %s"
        execute(visitor.db, statement, age, passkey_id)
        if age == OLD:
            stays.append(passkey_id)
    before = event_names(visitor, user_id)
    ((after,),) = execute(visitor.db, "SELECT now() - interval '2 hours'")
    assert second_factor.remove_all(visitor.actor, session.user, after=after) is bool(removals)
    added = event_names(visitor, user_id)[: -len(before)]
    assert added == (["session_ended", *removals] if removals else [])
    left = second_factor.describe(visitor.db, user_id)
    assert (left.app_added_at is not None) is (app_age == OLD)
    assert [each.id for each in left.passkeys] == stays
    assert left.recovery_codes == (10 if codes_stay else 0)


@pytest.mark.usefixtures("running_clock")
def test_every_change_of_the_factors_makes_all_devices_unknown(
    visitor: Visitor, session: Session
) -> None:
    user_id, hashes = session.user.id, []

    def note_hash() -> None:
        credentials = users.get_credentials_by_id(visitor.db, user_id)
        assert credentials is not None
        hashes.append(credentials.auth_hash)

    note_hash()
    add_app(visitor, session)
    note_hash()
    second_factor.record_added(visitor.actor, session, "passkey_added", is_first=False)
    note_hash()
    second_factor.remove_app(visitor.actor, session)
    note_hash()
    add_passkey(visitor.db, user_id)
    second_factor.remove_all(visitor.actor, session.user)
    note_hash()
    assert len(set(hashes)) == 5


# Recovery codes


def test_recovery_codes_are_ten_different_ones_of_120_bits(
    visitor: Visitor, session: Session
) -> None:
    _, codes = add_app(visitor, session)
    codes += second_factor.make_recovery_codes(visitor.actor, session)
    assert len(set(codes)) == 20
    assert all(re.fullmatch("[A-Z2-7]{24}", code) for code in codes)


def test_each_recovery_code_works_once(visitor: Visitor, session: Session) -> None:
    _, codes = add_app(visitor, session)
    user_id = session.user.id
    assert [refusal(visitor, user_id, code) for code in codes] == [None] * 10
    assert [refusal(visitor, user_id, code) for code in codes] == ["wrong"] * 10
    assert recovery_codes.count(visitor.db, user_id) == 0
    assert event_names(visitor, user_id).count("code_used") == 10


def test_new_recovery_codes_replace_the_earlier_ones(visitor: Visitor, session: Session) -> None:
    _, old = add_app(visitor, session)
    new = second_factor.make_recovery_codes(visitor.actor, session)
    user_id = session.user.id
    assert [refusal(visitor, user_id, code) for code in old] == ["wrong"] * 10
    assert [refusal(visitor, user_id, code) for code in new] == [None] * 10


def test_a_recovery_code_works_for_its_account_only(visitor: Visitor, session: Session) -> None:
    _, codes = add_app(visitor, session)
    grace = register_grace(visitor)
    add_app(visitor, grace)
    assert refusal(visitor, grace.user.id, codes[0]) == "wrong"
    assert refusal(visitor, session.user.id, codes[0]) is None


def test_new_recovery_codes_of_one_account_leave_those_of_another(
    visitor: Visitor, session: Session
) -> None:
    _, codes = add_app(visitor, session)
    add_app(visitor, register_grace(visitor))
    assert refusal(visitor, session.user.id, codes[0]) is None


# Secrets and their keys


def test_a_secret_that_cannot_be_decrypted_refuses_every_code_of_the_app_and_is_logged(
    visitor: Visitor, session: Session, phone: Phone, caplog: pytest.LogCaptureFixture
) -> None:
    user_id = session.user.id
    other_box = SecretBox(["another secret key, " * 2], "totp")
    stored = table.get(visitor.db, user_id)
    for code in (phone.code(), phone.code(5), "000000"):
        assert refusal(visitor, user_id, code, box=other_box) == "unreadable"
    assert table.get(visitor.db, user_id) == stored
    (message, *_) = caplog.messages
    assert f"account {user_id} can't be decrypted" in message
    assert "SECRET_KEY" in message
    assert refusal(visitor, user_id, phone.code()) is None


def test_a_recovery_code_works_although_the_secret_cannot_be_decrypted(
    visitor: Visitor, session: Session
) -> None:
    _, codes = add_app(visitor, session)
    other_box = SecretBox(["another secret key, " * 2], "totp")
    assert refusal(visitor, session.user.id, codes[0], box=other_box) is None


def test_the_encrypted_secret_of_another_account_is_not_accepted(
    visitor: Visitor, session: Session, phone: Phone
) -> None:
    grace = register_grace(visitor)
    graces_phone, _ = add_app(visitor, grace)
    app = table.get(visitor.db, grace.user.id)
    assert app is not None
    table.replace_secret(visitor.db, session.user.id, app.secret)
    for code in (phone.code(), graces_phone.code()):
        assert refusal(visitor, session.user.id, code) == "unreadable"


def test_renewed_secrets_need_the_newest_key_only(
    visitor: Visitor, session: Session, phone: Phone
) -> None:
    grace = register_grace(visitor)
    graces_phone, _ = add_app(visitor, grace)
    new_key = "a newer secret key, " * 2
    both = SecretBox([new_key, SECRET_KEY], "totp")
    assert refusal(visitor, session.user.id, phone.code(-1), box=both) is None
    assert second_factor.renew_secrets(visitor.db, both) == (2, [])
    newest = SecretBox([new_key], "totp")
    assert refusal(visitor, session.user.id, phone.code(), box=newest) is None
    assert refusal(visitor, grace.user.id, graces_phone.code(), box=newest) is None
    assert refusal(visitor, session.user.id, phone.code(), box=BOX) == "unreadable"


@pytest.mark.usefixtures("phone")
def test_secrets_that_cannot_be_renewed_are_named_and_stay(
    visitor: Visitor, session: Session
) -> None:
    stored = table.get(visitor.db, session.user.id)
    unrelated = SecretBox(["another secret key, " * 2], "totp")
    assert second_factor.renew_secrets(visitor.db, unrelated) == (0, [session.user.id])
    assert table.get(visitor.db, session.user.id) == stored


@pytest.mark.usefixtures("phone")
def test_the_factors_of_an_account_have_the_date_of_the_app_and_the_number_of_codes(
    visitor: Visitor, session: Session, open_visitor: OpenVisitor
) -> None:
    ((added_at,),) = execute(visitor.db, "SELECT created_at FROM totp")
    expected = Factors(added_at, 10, None, [])
    assert second_factor.describe(visitor.db, session.user.id) == expected
    grace = register_grace(open_visitor(Client("192.0.2.9")))
    assert second_factor.describe(visitor.db, grace.user.id) == Factors(None, 0, None, [])
