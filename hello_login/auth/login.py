"""The steps of a login: RateLimiter.admit_login (rate_limits), authenticate, complete_login."""

from psycopg2.extensions import connection as Connection

from ..repositories import throttles, users
from . import sessions
from .audit import Actor
from .passwords import Passwords
from .rate_limits import Attempt
from .sessions import IssuedSession


class AuthenticationFailed(Exception):
    """The password is wrong, or there is no active account with this address."""


def authenticate(actor: Actor, passwords: Passwords, attempt: Attempt, password: str) -> int:
    """Return the account's id if the password is right, and take the attempt back.

    Takes as long for an unknown address as for a wrong password (ASVS 5.0, 6.3.8).  Exception: a
    hash with outdated costs takes a different time, until a login replaces it.
    Records a wrong password.  Raises AuthenticationFailed.
    """
    credentials = _verify_and_lock(actor.db, passwords, attempt, password)
    if credentials is None:
        actor.record("login_failed", attempt.user_id)
        raise AuthenticationFailed
    throttles.take_back(actor.db, attempt.limits)
    return credentials.user_id


def complete_login(actor: Actor, user_id: int, *, remembered: bool = False) -> IssuedSession:
    """Begin a session for an authenticated account, and return it with its token.

    The browser has no session at this point: the views redirect one that is logged in.
    remembered: "Stay logged in" was chosen.
    """
    # This locks the account's row, so that simultaneous logins count each other's sessions.
    credentials, is_new = users.record_login(actor.db, user_id)
    sessions.make_room(actor, user_id)
    device = actor.client.known
    if not is_new and (device is None or device.auth_hash != credentials.auth_hash):
        actor.notify("new_device", user_id)
    return sessions.begin(actor, credentials, remembered=remembered)


def reauthenticate(actor: Actor, passwords: Passwords, attempt: Attempt, password: str) -> None:
    """Return if the password of the session's owner is right, and take the attempt back.

    Records a wrong password.  Raises AuthenticationFailed.
    """
    if _verify_and_lock(actor.db, passwords, attempt, password) is None:
        actor.record("check_failed", attempt.user_id)
        raise AuthenticationFailed
    throttles.take_back(actor.db, attempt.limits)


def _verify_and_lock(
    db: Connection, passwords: Passwords, attempt: Attempt, password: str
) -> users.Credentials | None:
    """Return the account's credentials if the password is right.

    If so, lock the account's row until the commit, and replace a hash with outdated costs.
    """
    credentials = attempt.credentials
    if credentials is None:
        passwords.verify(password, None)  # takes as long as for a known address
        return None
    matches, new_hash = passwords.verify(password, credentials.password_hash)
    # A password change since then ended all sessions: the old one must not begin another.
    if not matches or not users.lock_if_unchanged(db, credentials):
        return None
    if new_hash is not None:
        users.update_password_hash(db, credentials.user_id, new_hash)
    return credentials
