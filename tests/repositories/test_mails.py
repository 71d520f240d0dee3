"""The table mails."""

from datetime import timedelta

import psycopg2
from psycopg2.extensions import connection as Connection

from hello_login.repositories import mails, users
from tests.rows import add_user, execute

MINUTE = timedelta(minutes=1)
WAITS = [MINUTE, 3 * MINUTE]


def test_a_mail_is_claimed_with_its_facts_until_it_is_deleted(db: Connection) -> None:
    ada = add_user(db)
    mails.insert(db, "change", "new@example.com", user_id=ada, name="Ada", device=None)
    mail = mails.claim(db, WAITS)
    assert mail is not None
    ((now,),) = execute(db, "SELECT now()")
    assert mail[1:] == (
        "change",
        "new@example.com",
        ada,
        {"name": "Ada", "device": None},
        now,
        1,
        now + MINUTE,
    )
    assert mails.claim(db, WAITS) is None  # its next try is in a minute
    mails.delete(db, mail.id)
    assert mails.list_all(db, 10) == []


def test_each_try_has_its_wait_and_the_last_wait_is_that_of_all_further_tries(
    db: Connection,
) -> None:
    mails.insert(db, "register", "ada@example.com")
    waits = []
    for _ in range(3):
        mail = mails.claim(db, WAITS)
        assert mail is not None
        assert mail.try_at is not None
        waits.append(mail.try_at - mail.created_at)
        assert mails.claim(db, WAITS) is None
        execute(db, "UPDATE mails SET try_at = now()")
    assert waits == [MINUTE, 3 * MINUTE, 3 * MINUTE]
    assert mails.list_all(db, 10)[0].tries == 3


def test_the_mail_that_has_waited_longest_is_claimed_first(db: Connection) -> None:
    for kind in ("first", "second"):
        mails.insert(db, kind, "ada@example.com")
    execute(db, "UPDATE mails SET try_at = now() - interval '1 s' WHERE kind = 'second'")
    claimed = [mails.claim(db, WAITS) for _ in range(2)]
    assert [mail and mail.kind for mail in claimed] == ["second", "first"]


def test_two_processes_never_claim_one_mail(url: str) -> None:
    one, other = psycopg2.connect(url), psycopg2.connect(url)
    for kind in ("first", "second"):
        mails.insert(one, kind, "ada@example.com")
    one.commit()
    claimed = [mails.claim(each, WAITS) for each in (one, other, other)]
    assert [mail and mail.kind for mail in claimed] == ["first", "second", None]
    for each in (one, other):
        each.close()


def test_a_mail_that_is_given_up_is_not_claimed_and_is_deleted_when_it_is_old(
    db: Connection,
) -> None:
    for _ in range(12):
        mails.insert(db, "register", "ada@example.com")
    for mail in mails.list_all(db, 20):
        mails.give_up(db, mail.id)
    assert mails.claim(db, WAITS) is None
    assert {mail.try_at for mail in mails.list_all(db, 20)} == {None}
    mails.insert(db, "register", "waits@example.com")
    execute(db, "UPDATE mails SET created_at = now() - interval '2 days'")
    mails.delete_given_up(db, timedelta(days=3))
    assert len(mails.list_all(db, 20)) == 13
    mails.delete_given_up(db, timedelta(days=1))
    assert len(mails.list_all(db, 20)) == 3  # ten at once
    mails.delete_given_up(db, timedelta(days=1))
    (mail,) = mails.list_all(db, 20)
    assert mail.recipient == "waits@example.com"


def test_the_oldest_mails_are_listed_up_to_a_number(db: Connection) -> None:
    for kind in ("first", "second", "third"):
        mails.insert(db, kind, "ada@example.com")
    assert [mail.kind for mail in mails.list_all(db, 2)] == ["first", "second"]


def test_a_notice_goes_to_the_address_of_the_account_or_to_another_one(db: Connection) -> None:
    ada = add_user(db)
    mails.insert_notice(db, "password_changed", ada, device="Firefox")
    mails.insert_notice(db, "address_changed", ada, "old@example.com")
    mails.insert_notice(db, "password_changed", 0)
    listed = [(mail.kind, mail.recipient, mail.user_id) for mail in mails.list_all(db, 10)]
    assert listed == [
        ("password_changed", "ada@example.com", ada),
        ("address_changed", "old@example.com", ada),
    ]
    assert mails.list_all(db, 1)[0].facts == {"device": "Firefox"}


def test_mails_are_deleted_with_the_account_except_the_one_that_tells_of_that(
    db: Connection,
) -> None:
    ada = add_user(db)
    mails.insert_notice(db, "password_changed", ada)
    mails.insert_notice(db, "deleted", ada)
    users.delete(db, ada)
    assert [(mail.kind, mail.user_id) for mail in mails.list_all(db, 10)] == [("deleted", None)]


def test_waiting_mails_with_links_are_deleted_for_one_account(db: Connection) -> None:
    ada, grace = add_user(db), add_user(db, "grace@example.com")
    for user_id in (ada, grace):
        for kind in ("change", "confirm"):
            mails.insert(db, kind, "new@example.com", user_id=user_id)
        for kind in ("address_changed", "password_changed"):
            mails.insert_notice(db, kind, user_id)
    mails.delete_with_links(db, ada)
    of_ada = [mail.kind for mail in mails.list_all(db, 10) if mail.user_id == ada]
    assert of_ada == ["address_changed", "password_changed"]
    mails.delete_with_links(db, ada, mails.list_all(db, 10)[0].created_at)
    assert len(mails.list_all(db, 10)) == 6
    mails.delete_with_links(db, ada, mails.list_all(db, 10)[0].created_at - MINUTE)
    of_ada = [mail.kind for mail in mails.list_all(db, 10) if mail.user_id == ada]
    assert of_ada == ["password_changed"]


def test_alike_notices_wait_as_one_mail_for_each_recipient(db: Connection) -> None:
    ada = add_user(db)
    for recipient in (None, None, "old@example.com", "old@example.com"):
        mails.insert_notice(db, "new_device", ada, recipient, device="curl")
    mails.insert_notice(db, "new_device", ada, device="Firefox")
    assert [each.recipient for each in mails.list_all(db, 10)] == [
        "ada@example.com",
        "old@example.com",
        "ada@example.com",
    ]
