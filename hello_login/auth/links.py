"""Links in mails: one-time tokens, each for one purpose."""

import secrets
from datetime import timedelta

from psycopg2.extensions import connection as Connection

from ..repositories import expired, mails, tokens
from ..repositories.tokens import Link
from .sessions import id_of

LIFETIMES = {
    "register": timedelta(hours=24),
    "invite": timedelta(days=7),
    "reset": timedelta(hours=1),
    "recover": timedelta(hours=1),
    "change": timedelta(hours=24),
    "undo": timedelta(days=7),
}
"""The time in which a link of each purpose can be used.  ASVS 5.0, 6.4.1 requires a short one.

invite, recover: a registration and a reset by a link that the operator has made.  They confirm no
address.
"""


def issue(db: Connection, purpose: str, address: str, user_id: int | None) -> str:
    """Add a link to the database, and return its token of 256 random bits.

    user_id: None for a registration.
    """
    token = secrets.token_urlsafe(32)
    tokens.insert(db, id_of(token), purpose, address, user_id, LIFETIMES[purpose])
    expired.delete(db, "tokens")
    return token


def issue_for_mail(
    db: Connection, mail_id: int, purpose: str, address: str, user_id: int | None
) -> str | None:
    """Add a link that a waiting mail asks for, and return its token, or None if void() came first.

    address: where the link is mailed to.  user_id: None for a registration.
    """
    token = secrets.token_urlsafe(32)
    inserted = tokens.insert_for_mail(
        db, id_of(token), mail_id, purpose, address, user_id, LIFETIMES[purpose]
    )
    # Last, because void() locks the rows of mails first, and then those of tokens.
    expired.delete(db, "tokens")
    return token if inserted else None


def find(db: Connection, token: str) -> Link | None:
    """Return the link with this token, or None if it was used or has expired; change nothing."""
    return tokens.find(db, id_of(token))


def use(db: Connection, token: str, purpose: str) -> Link | None:
    """Delete the link with this token and purpose, and return it, or None if there is none."""
    return tokens.take(db, id_of(token), purpose)


def void(db: Connection, user_id: int) -> None:
    """Delete the account's links and the mails that wait with one, but none that undoes a change.

    Somebody who has taken an account over must not void the link of its owner.
    The account's row must be locked.
    """
    # The mails first: a link that is added to one in the meantime is deleted then.
    mails.delete_with_links(db, user_id)
    tokens.delete_of_user(db, user_id)


def void_after_undo(db: Connection, user_id: int, used: Link) -> None:
    """Void the account's links, including those that undo later changes of the address.

    Those that undo earlier changes stay: a thief who changes the address twice can undo the second
    change, but not void the owner's link.
    """
    mails.delete_with_links(db, user_id, used.expires_at - LIFETIMES["undo"])
    tokens.delete_of_user(db, user_id, used.expires_at)
