"""The table passkeys: one row for each passkey of an account."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from . import fetch


class Passkey(NamedTuple):
    """A passkey without its key, for lists."""

    id: bytes
    """The credential id, which the authenticator has chosen."""

    fingerprint: str
    """The name of the passkey in URLs."""

    name: str
    synced: bool
    """The passkey is on several of the owner's devices."""

    transports: list[str]
    """How browsers reach the authenticator, such as "internal" or "usb"."""

    created_at: datetime
    last_used_at: datetime | None


class Credential(NamedTuple):
    """A passkey as its use is verified."""

    user_id: int
    handle: bytes
    """The account's name in authenticators."""

    public_key: bytes
    """The COSE key, in CBOR."""

    may_sync: bool

    deactivated: bool
    """Nobody can log in to the account."""


def insert(
    db: Connection,
    passkey_id: bytes,
    user_id: int,
    *,
    public_key: bytes,
    sign_count: int,
    name: str,
    may_sync: bool,
    synced: bool,
    transports: Sequence[str],
) -> bool:
    """Add a passkey; return False if there is one with this id, of any account."""
    statement = """
        INSERT INTO passkeys
               (id, user_id, public_key, sign_count, name, may_sync, synced, transports)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s::text[])
            ON CONFLICT DO NOTHING
     RETURNING id
    """
    row = [passkey_id, user_id, public_key, sign_count, name, may_sync, synced, list(transports)]
    return bool(fetch(db, statement, row))


def get(db: Connection, passkey_id: bytes) -> Credential | None:
    """Return the data that verifies a use of the passkey with this id, or None."""
    statement = """
        SELECT user_id, users.handle::text AS handle, public_key, may_sync,
               users.deactivated_at IS NOT NULL AS deactivated
          FROM passkeys
          JOIN users ON users.id = passkeys.user_id
         WHERE passkeys.id = %s
    """
    for row in fetch(db, statement, [passkey_id]):
        handle = uuid.UUID(row.handle).bytes
        key = bytes(row.public_key)
        return Credential(row.user_id, handle, key, row.may_sync, row.deactivated)
    return None


def list_of_user(db: Connection, user_id: int) -> list[Passkey]:
    """Return the account's passkeys, the oldest first."""
    statement = """
        SELECT id, left(encode(sha256(id), 'hex'), 12) AS fingerprint, name, synced,
               transports, created_at, last_used_at
          FROM passkeys
         WHERE user_id = %s
         ORDER BY created_at, id
    """
    rows = fetch(db, statement, [user_id])
    return [Passkey(**row._asdict())._replace(id=bytes(row.id)) for row in rows]


def record_use(db: Connection, passkey_id: bytes, sign_count: int, *, synced: bool) -> bool:
    """Store the time and the counter of a use; return False if the counter has not gone up.

    A counter that is 0 and stays 0 is one of an authenticator that does not count.
    """
    statement = """
        UPDATE passkeys
           SET sign_count = %(sign_count)s,
               synced = %(synced)s,
               last_used_at = now()
         WHERE id = %(id)s
           AND (sign_count < %(sign_count)s OR (sign_count = 0 AND %(sign_count)s = 0))
     RETURNING id
    """
    values = {"id": passkey_id, "sign_count": sign_count, "synced": synced}
    return bool(fetch(db, statement, values))


def rename(db: Connection, user_id: int, passkey_id: bytes, name: str) -> bool:
    """Replace the name of the account's passkey; return False if it has none with this id."""
    statement = "UPDATE passkeys SET name = %s WHERE id = %s AND user_id = %s RETURNING id"
    return bool(fetch(db, statement, [name, passkey_id, user_id]))


def delete(db: Connection, user_id: int, passkey_ids: Sequence[bytes]) -> int:
    """Delete these passkeys of the account, and return the number of deleted ones."""
    statement = "DELETE FROM passkeys WHERE id = ANY(%s::bytea[]) AND user_id = %s RETURNING id"
    return len(fetch(db, statement, [list(passkey_ids), user_id]))
