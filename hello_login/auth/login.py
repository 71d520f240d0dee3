"""The steps of a login: RateLimiter.admit_login (rate_limits), authenticate, complete_login.

An account with a second factor needs more: begin_half_login, then RateLimiter.admit_code and
complete_half_login, or RateLimiter.admit_passkey and complete_half_login_with_passkey.
With a passkey alone, a login takes one step: RateLimiter.admit_passkey, authenticate_with_passkey,
complete_login.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import cast

from psycopg2.extensions import connection as Connection

from ..repositories import expired, half_logins, throttles, users
from ..repositories.half_logins import HalfLogin
from ..repositories.users import Credentials, LockedAccount
from . import passkeys, second_factor, sessions
from .audit import Actor, make_event
from .ceremonies import Ceremony
from .passwords import Passwords
from .rate_limits import Attempt
from .second_factor import CodeRefused
from .sessions import IssuedSession, id_of
from .totp import SecretBox
from .webauthn import PasskeyRefused

HALF_LOGIN_LIFETIME = timedelta(minutes=10)
"""The time for the second step of a login."""

NOTICE_INTERVAL = timedelta(hours=1)
"""In this time, the owner gets at most one mail about failed second steps."""


class AuthenticationFailed(Exception):
    """The password is wrong, or there is no active account with this address."""


class SecondFactorNeeded(Exception):
    """The account has a second factor, and the login has not used it."""


class HalfLoginEnded(Exception):
    """The half login has expired or was ended, for example by a new password."""


def authenticate(
    actor: Actor, passwords: Passwords, attempt: Attempt, password: str
) -> LockedAccount:
    """Lock and return the account if the password is right, and take the attempt back.

    Takes as long for an unknown address as for a wrong password (ASVS 5.0, 6.3.8).  Only a hash
    with outdated costs takes a different time, until a login replaces it.
    Records a wrong password.  Raises AuthenticationFailed.
    """
    account = _verify_and_lock(actor.db, passwords, attempt, password)
    if account is None:
        actor.record("login_failed", attempt.user_id)
        throttles.delete_forgotten(actor.db)
        raise AuthenticationFailed
    throttles.take_back(actor.db, attempt.limits)
    return account


def authenticate_with_passkey(
    actor: Actor, ceremony: Ceremony, attempt: Attempt, credential: str
) -> LockedAccount:
    """Lock and return the account that has the passkey, and take the attempt back.

    credential: the browser's answer, in JSON.
    Records a refused passkey.  Raises PasskeyRefused.
    """
    with _recording_refusal(actor, "login_failed", attempt):
        user_id = passkeys.use(actor, ceremony, credential, attempt.user_id)
    throttles.take_back(actor.db, attempt.limits)
    return _lock(actor.db, user_id)


def complete_login(
    actor: Actor, account: LockedAccount, *, remembered: bool = False, second_step: bool = False
) -> IssuedSession:
    """Begin a session for an authenticated account, and return it with its token.

    The browser has no session at this point: the views redirect a browser that is logged in.
    The lock lets simultaneous logins count each other's sessions.
    remembered: "Stay logged in" was chosen.  second_step: a second factor or a passkey was used.
    Raises SecondFactorNeeded.
    """
    if account.has_second_factor and not second_step:
        raise SecondFactorNeeded
    user_id = account.credentials.user_id
    users.record_login(actor.db, user_id)
    if account.sessions >= sessions.MAX_SESSIONS:
        sessions.make_room(actor, user_id)
    if not account.is_new and not actor.client.is_known(account.credentials.auth_hash):
        actor.notify("new_device", user_id)
    return sessions.begin(actor, account.credentials, remembered=remembered)


def complete_registration(actor: Actor, user_id: int) -> IssuedSession:
    """Begin the first session of an account that was registered in this transaction."""
    return complete_login(actor, _lock(actor.db, user_id))


def begin_half_login(actor: Actor, user_id: int, *, remembered: bool) -> str:
    """Add a half login for an account with a locked row, and return its token.

    remembered: "Stay logged in" was chosen.
    """
    token = secrets.token_urlsafe(32)
    # This is only logged, because a completed login adds an event.
    actor.log_after_commit(make_event(actor.client, "second_step_begun", user_id))
    expired.delete(actor.db, "half_logins")
    half_logins.insert(
        actor.db, id_of(token), user_id, remembered=remembered, lifetime=HALF_LOGIN_LIFETIME
    )
    return token


def find_half_login(db: Connection, token: str) -> HalfLogin | None:
    """Return the half login with this token, or None if it has ended or expired."""
    return half_logins.find(db, id_of(token))


def end_half_login(db: Connection, token: str) -> None:
    """Delete the half login with this token, if there is one."""
    half_logins.delete(db, id_of(token))


def complete_half_login(
    actor: Actor, box: SecretBox, half: HalfLogin, attempt: Attempt, code: str
) -> IssuedSession:
    """Use a code of the second factor, end the account's half logins, and begin a session.

    Takes the attempt back.  Records a wrong code, and tells the owner of it.
    Raises HalfLoginEnded, or CodeRefused, after which the half login goes on.
    """
    _lock_half_login(actor, half, attempt)
    with _recording_refusal(actor, "second_failed", attempt):
        second_factor.use_code(actor, box, half.user_id, code)
    return _finish_half_login(actor, half, attempt)


def complete_half_login_with_passkey(
    actor: Actor, ceremony: Ceremony, half: HalfLogin, attempt: Attempt, credential: str
) -> IssuedSession:
    """Use a passkey, end the account's half logins, and begin a session.

    credential: the browser's answer, in JSON.
    Takes the attempt back.  Records a refused passkey, and tells the owner of it.
    Raises HalfLoginEnded, or PasskeyRefused, after which the half login goes on.
    """
    _lock_half_login(actor, half, attempt)
    with _recording_refusal(actor, "second_failed", attempt):
        passkeys.use(actor, ceremony, credential, half.user_id)
    return _finish_half_login(actor, half, attempt)


def _lock_half_login(actor: Actor, half: HalfLogin, attempt: Attempt) -> None:
    """Lock the half login's account until the commit.

    Raises HalfLoginEnded, and takes the attempt back, if the half login has ended.
    """
    users.lock(actor.db, half.user_id)
    if half_logins.find(actor.db, half.id) is None:
        _take_back_unchecked(actor.db, attempt)
        raise HalfLoginEnded


def _finish_half_login(actor: Actor, half: HalfLogin, attempt: Attempt) -> IssuedSession:
    """End the account's half logins, take the attempt back, and begin a session."""
    half_logins.delete_of_user(actor.db, half.user_id)
    throttles.take_back(actor.db, attempt.limits)
    account = _lock(actor.db, half.user_id)
    return complete_login(actor, account, remembered=half.remembered, second_step=True)


def _tell_of_failure(actor: Actor, attempt: Attempt) -> None:
    """Tell the owner of a failure after the right password, unless the device is known.

    Somebody who knows the password has typed it.
    """
    # They are not None: a deactivation would have ended the half login.
    credentials = cast(Credentials, attempt.credentials)
    known = actor.client.is_known(credentials.auth_hash)
    if not known and users.record_notice(actor.db, credentials.user_id, NOTICE_INTERVAL):
        actor.notify("second_failed", credentials.user_id)


def _take_back_unchecked(db: Connection, attempt: Attempt) -> None:
    """Take back an attempt that was not checked; reset no limit."""
    throttles.take_back(db, [limit._replace(resets=()) for limit in attempt.limits])


def reauthenticate(
    actor: Actor,
    passwords: Passwords,
    attempt: Attempt,
    password: str,
    *,
    box: SecretBox,
    code: str | None = None,
) -> None:
    """Check the password of the session's owner, and take the attempt back if it is right.

    code: a code of the second factor, which must be right too; None if the form asks for none.
    Records a wrong password or code.  Raises AuthenticationFailed or CodeRefused.
    """
    account = _verify_and_lock(actor.db, passwords, attempt, password)
    if account is None:
        actor.record("check_failed", attempt.user_id)
        raise AuthenticationFailed
    if code is not None:
        with _recording_refusal(actor, "check_failed", attempt):
            second_factor.use_code(actor, box, account.credentials.user_id, code)
    actor.log_after_commit(make_event(actor.client, "check_passed", attempt.user_id))
    throttles.take_back(actor.db, attempt.limits)


def reauthenticate_with_passkey(
    actor: Actor, ceremony: Ceremony, attempt: Attempt, credential: str, user_id: int
) -> None:
    """Check that the session's owner has used a passkey, and take the attempt back.

    credential: the browser's answer, in JSON.  user_id: the owner's id.
    Records a refused passkey.  Raises PasskeyRefused.
    """
    with _recording_refusal(actor, "check_failed", attempt):
        passkeys.use(actor, ceremony, credential, user_id)
    actor.log_after_commit(make_event(actor.client, "check_passed", user_id))
    throttles.take_back(actor.db, attempt.limits)


@contextmanager
def _recording_refusal(actor: Actor, event: str, attempt: Attempt) -> Iterator[None]:
    """Record a refused code or passkey as this event, and raise the error again.

    If the code can't be checked or the page was open for too long, take the attempt back instead.
    """
    try:
        yield
    except (CodeRefused, PasskeyRefused) as refused:
        if refused.reason in ("unreadable", "expired"):
            _take_back_unchecked(actor.db, attempt)
        elif event == "second_failed":
            _tell_of_failure(actor, attempt)
        if isinstance(refused, PasskeyRefused):
            passkeys.record_refused(actor, event, attempt.user_id, refused)
            throttles.delete_forgotten(actor.db)
        elif refused.reason != "unreadable":
            actor.record(event, attempt.user_id)
        raise


def _lock(db: Connection, user_id: int) -> LockedAccount:
    """Lock the row of an account that this transaction has added or locked before."""
    return cast(LockedAccount, users.lock_account(db, user_id))


def _verify_and_lock(
    db: Connection, passwords: Passwords, attempt: Attempt, password: str
) -> LockedAccount | None:
    """Return the account if the password is right.

    If so, lock the account's row until the commit, and replace a hash with outdated costs.
    """
    credentials = attempt.credentials
    # This takes as long without an account.
    matches, new_hash = passwords.verify(password, credentials and credentials.password_hash)
    if credentials is None or not matches:
        return None
    account = users.lock_account(db, credentials.user_id)
    # A password change since then ended all sessions: the old one must not begin another.
    if (
        account is None
        or not account.is_active
        or account.credentials.password_hash != credentials.password_hash
    ):
        return None
    if new_hash is not None:
        users.update_password_hash(db, credentials.user_id, new_hash)
        renewed = account.credentials._replace(password_hash=new_hash)
        return account._replace(credentials=renewed)
    return account
