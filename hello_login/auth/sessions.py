"""Sessions: their limits, and how they begin, are renewed and end."""

import hashlib
import secrets
from datetime import timedelta
from typing import NamedTuple, cast

from psycopg2.extensions import connection as Connection

from ..repositories import expired, half_logins, throttles, users
from ..repositories import sessions as table
from ..repositories.sessions import ListedSession, Session
from ..repositories.users import Credentials, User
from .audit import Actor
from .clients import Client

IDLE_LIMIT = timedelta(hours=2)
ABSOLUTE_LIMIT = timedelta(hours=24)
"""A session expires after the first without a request, and after the second in any case (ASVS 5.0,
7.3)."""

REMEMBERED_IDLE_LIMIT = timedelta(days=14)
REMEMBERED_ABSOLUTE_LIMIT = timedelta(days=30)
"""The limits with "Stay logged in".  NIST SP 800-63B-4, 2.1.3 allows at most 30 days."""

FRESH_LOGIN = timedelta(minutes=15)
"""After this time, a change of the account needs a re-authentication first (ASVS 5.0, 7.5.1 to
7.5.3)."""

MAX_SESSIONS = 100
"""Sessions of an account: far more than a person has devices and browsers, and few enough for one
page and one statement (ASVS 5.0, 7.1.2)."""


class IssuedSession(NamedTuple):
    """A session with its token, for the cookies of a browser."""

    token: str
    """256 random bits."""

    remembered: bool
    """The browser keeps the cookie when it is closed."""

    remaining: timedelta
    """The time until the absolute limit."""

    auth_hash: str
    """The hash of the credentials, for the device cookie."""


def id_of(token: str) -> bytes:
    """Return the id of the row of a session, a half login or a link with this token."""
    return hashlib.sha256(token.encode()).digest()


def find(db: Connection, token: str) -> Session | None:
    """Return the session with this token, or None if it has ended."""
    return table.find(db, id_of(token))


def list_live(db: Connection, user_id: int) -> list[ListedSession]:
    """Return the account's sessions, the most recently used first; at most MAX_SESSIONS."""
    return table.list_of_user(db, user_id, MAX_SESSIONS)


def make_room(actor: Actor, user_id: int) -> None:
    """End the least recently used sessions until one more may begin."""
    for fingerprint in table.delete_least_recently_used(actor.db, user_id, keep=MAX_SESSIONS - 1):
        actor.record("session_ended_by_limit", user_id, fingerprint)


def begin(actor: Actor, credentials: Credentials, *, remembered: bool) -> IssuedSession:
    """Add a session for the account, record the event, and return the session with its token.

    remembered: "Stay logged in" was chosen, so the limits are the longer ones.
    Also deletes a few sessions and rate limits that have expired.
    """
    token = secrets.token_urlsafe(32)
    limit = REMEMBERED_ABSOLUTE_LIMIT if remembered else ABSOLUTE_LIMIT
    table.insert(
        actor.db,
        session_id=id_of(token),
        user_id=credentials.user_id,
        idle_limit=REMEMBERED_IDLE_LIMIT if remembered else IDLE_LIMIT,
        limit=limit,
        remembered=remembered,
        address=actor.client.address,
        device=actor.client.device,
    )
    actor.record("logged_in", credentials.user_id, table.fingerprint(id_of(token)))
    expired.delete(actor.db, "sessions")
    throttles.delete_forgotten(actor.db)
    return IssuedSession(token, remembered, limit, credentials.auth_hash)


def record_use(db: Connection, session: Session, client: Client) -> None:
    """Store the time and the client's address in the session's row, at most once a minute."""
    if not session.seen_recently:
        table.touch(db, session.id, client.address)


def lock_live(db: Connection, session: Session) -> bool:
    """Lock the session's account until the commit.

    Returns False if the session's row is gone: it has ended or was renewed.
    """
    users.lock(db, session.user.id)
    return table.exists(db, session.id)


def renew(db: Connection, session: Session, *, authenticated: bool = False) -> IssuedSession:
    """Give a locked session a new token.

    authenticated: store that its owner re-authenticated now, with every factor of the account.
    The limits stay as they are (ASVS 5.0, 7.2.4).
    """
    token = secrets.token_urlsafe(32)
    remembered, remaining = table.renew(db, session.id, id_of(token), authenticated=authenticated)
    # It exists: lock_live() has locked the account's row.
    credentials = cast(Credentials, users.get_credentials_by_id(db, session.user.id))
    return IssuedSession(token, remembered, remaining, credentials.auth_hash)


def end(actor: Actor, session: Session) -> None:
    """Delete the session, and record a logout."""
    table.delete(actor.db, session.id)
    actor.record("logged_out", session.user.id, session.fingerprint)


def end_one(actor: Actor, user: User, fingerprint: str) -> None:
    """Delete the account's session with this fingerprint, and record that."""
    for ended in table.delete_of_user(actor.db, user.id, only=fingerprint):
        actor.record("session_ended", user.id, ended)


def end_all(actor: Actor, user: User, *, keep: Session | None = None) -> int:
    """Delete the account's sessions except one, record that, and return their number.

    Also delete its half logins.
    """
    half_logins.delete_of_user(actor.db, user.id)
    ended = table.delete_of_user(actor.db, user.id, keep=keep and keep.id)
    for fingerprint in ended:
        actor.record("session_ended", user.id, fingerprint)
    return len(ended)
