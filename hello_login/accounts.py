"""What an account can do.  No HTTP here, and no SQL."""

import hashlib
import secrets
from datetime import timedelta

from psycopg2.extensions import connection as Connection

from .passwords import Passwords
from .repositories import sessions, users


class EmailTaken(Exception):
    """There is an account with this address."""


def register(db: Connection, passwords: Passwords, *, name: str, email: str, password: str) -> int:
    """Add an account and return its id; email is a normalized address.

    Raises PasswordRefused, or EmailTaken if there is an account with the address, in whatever case.
    """
    password_hash = passwords.hash(password, name, email)
    user_id = users.insert(db, email=email, name=name, password_hash=password_hash)
    if user_id is None:
        raise EmailTaken
    return user_id


def authenticate(db: Connection, passwords: Passwords, *, email: str, password: str) -> int | None:
    """The id of the account with this address and password, and None if there is none.

    Takes as long for an address that is unknown as for a password that is wrong (ASVS 5.0, 6.3.8),
    but for a hash of other costs than the settings', which takes its own until a login renews it.
    """
    credentials = users.find_credentials(db, email)
    matches, new_hash = passwords.verify(password, credentials and credentials.password_hash)
    if credentials is None or not matches:
        return None
    if new_hash is not None:
        users.update_password_hash(db, credentials.user_id, new_hash)
    return credentials.user_id


def begin_session(db: Connection, user_id: int, *, idle_limit: timedelta, limit: timedelta) -> str:
    """Log the account in: the new session's token, of 256 random bits."""
    token = secrets.token_urlsafe(32)
    sessions.insert(
        db, session_id=_session_id(token), user_id=user_id, idle_limit=idle_limit, limit=limit
    )
    users.record_login(db, user_id)
    return token


def find_session(db: Connection, token: str) -> sessions.Session | None:
    """The session with this token, and None if it has ended.  Notes that it is in use."""
    session = sessions.find(db, _session_id(token))
    if session is not None and not session.seen_recently:
        sessions.touch(db, session.id)
    return session


def end_session(db: Connection, token: str) -> None:
    """Log out: the token is nobody's from now on."""
    sessions.delete(db, _session_id(token))


def _session_id(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
