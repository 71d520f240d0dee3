"""Links in mails: one-time tokens."""

from datetime import timedelta

import pytest
from psycopg2.extensions import connection as Connection

from hello_login.auth import links
from hello_login.repositories import mails
from hello_login.repositories.tokens import Link
from tests.people import EMAIL
from tests.visitor import Visitor


@pytest.fixture
def ada(visitor: Visitor) -> int:
    """Return the id of Ada's account."""
    return visitor.register_ada()


def issue_undo(db: Connection, user_id: int, address: str, *, days_ago: int) -> str | None:
    """Queue the notice of a change that happened some days ago, and issue its link."""
    mails.insert_notice(db, "address_changed", user_id, address)
    mail = mails.list_all(db, 100)[-1]
    with db.cursor() as cursor:
        age = timedelta(days=days_ago)
        cursor.execute("UPDATE mails SET created_at = now() - %s WHERE id = %s", [age, mail.id])
    return links.issue_for_mail(db, mail.id, "undo", address, user_id)


def test_a_link_is_used_once_by_its_token(db: Connection, ada: int) -> None:
    token = links.issue(db, "recover", EMAIL, ada)
    found = links.find(db, token)
    assert found is not None
    assert found[:3] == ("recover", ada, EMAIL)
    assert links.find(db, token) == found
    assert links.use(db, token, "reset") is None
    assert links.use(db, token, "recover") == found
    assert links.find(db, token) is None
    assert links.use(db, token, "recover") is None


def test_tokens_have_256_random_bits_and_are_not_stored(db: Connection, ada: int) -> None:
    issued = {links.issue(db, "recover", EMAIL, ada) for _ in range(20)}
    assert len(issued) == 20
    assert {len(token) for token in issued} == {43}
    with db.cursor() as cursor:
        cursor.execute("SELECT tokens::text FROM tokens")
        rows = str(cursor.fetchall())
    assert not any(token in rows for token in issued)


@pytest.mark.parametrize("purpose", links.LIFETIMES)
def test_a_link_expires_after_the_lifetime_of_its_purpose(
    db: Connection, ada: int, purpose: str
) -> None:
    token = links.issue(db, purpose, EMAIL, ada)
    with db.cursor() as cursor:
        cursor.execute("SELECT expires_at - now() FROM tokens")
        assert cursor.fetchall() == [(links.LIFETIMES[purpose],)]
        cursor.execute("UPDATE tokens SET expires_at = expires_at - %s", [links.LIFETIMES[purpose]])
    assert links.find(db, token) is None
    assert links.use(db, token, purpose) is None


def test_a_mail_gets_a_new_link_with_each_try_as_long_as_it_waits(db: Connection) -> None:
    mails.insert(db, "register", EMAIL)
    (mail,) = mails.list_all(db, 1)
    issued = [links.issue_for_mail(db, mail.id, "register", EMAIL, None) for _ in range(2)]
    for token in issued:
        assert token is not None
        found = links.find(db, token)
        assert found is not None
        assert found[:3] == ("register", None, EMAIL)
    mails.delete(db, mail.id)
    assert links.issue_for_mail(db, mail.id, "register", EMAIL, None) is None


def test_voiding_the_links_of_an_account_keeps_those_that_undo_a_change(
    db: Connection, ada: int, visitor: Visitor
) -> None:
    grace = visitor.register(name="Grace", email="grace@example.com", password="a long password")
    mine = [links.issue(db, purpose, EMAIL, ada) for purpose in ("reset", "recover", "change")]
    undo = issue_undo(db, ada, "old@example.com", days_ago=0)
    hers = links.issue(db, "reset", "grace@example.com", grace)
    mails.insert(db, "change", "new@example.com", user_id=ada)
    mails.insert(db, "change", "new@example.com", user_id=grace)
    links.void(db, ada)
    assert [links.find(db, token) for token in mine] == [None] * 3
    assert undo is not None
    assert links.find(db, undo) is not None
    assert links.find(db, hers) is not None
    waiting = [(mail.kind, mail.user_id) for mail in mails.list_all(db, 10)]
    assert waiting == [("address_changed", ada), ("change", grace)]


def test_an_undone_change_voids_the_links_of_later_changes_only(db: Connection, ada: int) -> None:
    issued = [
        issue_undo(db, ada, address, days_ago=days)
        for address, days in (
            ("first@example.com", 3),
            ("second@example.com", 2),
            ("third@example.com", 1),
        )
    ]
    reset = links.issue(db, "reset", EMAIL, ada)
    first, second, third = [token or "" for token in issued]
    used = links.use(db, second, "undo")
    assert isinstance(used, Link)
    links.void_after_undo(db, ada, used)
    assert links.find(db, first) is not None
    assert links.find(db, third) is None
    assert links.find(db, reset) is None
    # The sender may try the mail of the first change again, but not that of the third.
    assert [mail.recipient for mail in mails.list_all(db, 10)] == [
        "first@example.com",
        "second@example.com",
    ]
