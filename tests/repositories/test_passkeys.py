"""The table passkeys."""

import hashlib
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from hello_login.repositories import passkeys, users
from tests.rows import add_passkey, add_user, execute

BYTES = bytes(range(256))
"""Text could not keep all of these."""


def test_a_passkey_is_found_with_what_verifies_its_use(db: Connection) -> None:
    ada = add_user(db)
    handle = users.make_handle(db, ada)
    add_passkey(db, ada, BYTES, public_key=BYTES, may_sync=True)
    assert passkeys.get(db, BYTES) == (ada, handle, BYTES, True, False)
    assert passkeys.get(db, b"another") is None
    users.deactivate(db, ada)
    assert passkeys.get(db, BYTES) == (ada, handle, BYTES, True, True)


def test_a_passkey_has_one_account(db: Connection) -> None:
    ada, grace = add_user(db), add_user(db, "grace@example.com")
    phone = add_passkey(db, ada)
    before = execute(db, "TABLE passkeys")
    fields: dict[str, Any] = {"public_key": b"another key", "sign_count": 0, "name": "Stolen"}
    fields |= {"may_sync": True, "synced": True, "transports": ["usb"]}
    for user_id in (ada, grace):
        assert not passkeys.insert(db, phone, user_id, **fields)
    assert execute(db, "TABLE passkeys") == before


@pytest.mark.parametrize("length", [0, 1024])
def test_the_id_of_a_passkey_has_1_to_1023_bytes(db: Connection, length: int) -> None:
    ada = add_user(db)
    with pytest.raises(psycopg2.errors.CheckViolation):
        add_passkey(db, ada, b"x" * length)
    db.rollback()
    assert add_passkey(db, add_user(db), b"x" * 1023)


def test_the_passkeys_of_one_account_are_listed_with_the_oldest_first(db: Connection) -> None:
    ada, grace = add_user(db), add_user(db, "grace@example.com")
    first = add_passkey(db, ada, b"b", may_sync=True, synced=True, transports=["usb", "nfc"])
    execute(db, "UPDATE passkeys SET created_at = created_at - interval '1 hour'")
    second = add_passkey(db, ada, b"a")
    add_passkey(db, grace, b"c")
    listed = passkeys.list_of_user(db, ada)
    assert [(each.id, each.synced, each.transports) for each in listed] == [
        (first, True, ["usb", "nfc"]),
        (second, False, []),
    ]
    assert listed[0].created_at < listed[1].created_at
    assert [each.last_used_at for each in listed] == [None, None]


def test_a_fingerprint_names_a_passkey_in_urls(db: Connection) -> None:
    ada = add_user(db)
    add_passkey(db, ada, BYTES)
    (listed,) = passkeys.list_of_user(db, ada)
    assert listed.fingerprint == hashlib.sha256(BYTES).hexdigest()[:12]


@pytest.mark.parametrize(
    ("stored", "sent", "accepted"),
    [
        (0, 0, True),
        (0, 1, True),
        (5, 6, True),
        (5, 2**32 - 1, True),
        (5, 5, False),
        (5, 4, False),
        (5, 0, False),
    ],
)
def test_the_counter_of_a_passkey_must_go_up_unless_it_does_not_count(
    db: Connection, stored: int, sent: int, accepted: bool
) -> None:
    ada = add_user(db)
    phone = add_passkey(db, ada, sign_count=stored)
    other = add_passkey(db, ada, b"other", sign_count=stored)
    assert passkeys.record_use(db, phone, sent, synced=True) is accepted
    rows = execute(db, "SELECT id, sign_count, synced, last_used_at = now() FROM passkeys")
    used = (phone, sent, True, True) if accepted else (phone, stored, False, None)
    assert {(bytes(row[0]), *row[1:]) for row in rows} == {used, (other, stored, False, None)}


def test_a_use_of_a_passkey_that_is_removed_is_not_recorded(db: Connection) -> None:
    assert not passkeys.record_use(db, b"removed", 1, synced=False)


def test_only_the_owner_of_a_passkey_renames_and_deletes_it(db: Connection) -> None:
    ada, grace = add_user(db), add_user(db, "grace@example.com")
    phone, key = add_passkey(db, ada), add_passkey(db, ada, b"key", name="Key")
    assert not passkeys.rename(db, grace, phone, "Mine")
    assert passkeys.delete(db, grace, [phone, key]) == 0
    assert {each.name for each in passkeys.list_of_user(db, ada)} == {"Phone", "Key"}
    assert passkeys.rename(db, ada, phone, "Old phone")
    assert {each.name for each in passkeys.list_of_user(db, ada)} == {"Old phone", "Key"}
    assert passkeys.delete(db, ada, [phone, b"removed"]) == 1
    assert [each.id for each in passkeys.list_of_user(db, ada)] == [key]
    assert passkeys.delete(db, ada, []) == 0


def test_the_passkeys_of_a_deleted_account_are_deleted(db: Connection) -> None:
    ada = add_user(db)
    add_passkey(db, ada)
    users.delete(db, ada)
    assert execute(db, "SELECT id FROM passkeys") == []
