"""The second factor of an account: an authenticator app, and recovery codes for its loss."""

import base64
import hashlib
import logging
import re
import secrets
from datetime import datetime, timedelta
from typing import Literal

from psycopg2.extensions import connection as Connection

from ..repositories import recovery_codes
from ..repositories import totp as table
from ..repositories.sessions import Session
from ..repositories.users import User
from . import links, sessions, totp
from .audit import Actor
from .totp import SecretBox, SecretUnreadable

log = logging.getLogger(__name__)

RECOVERY_CODES = 10
RECOVERY_CODE_BYTES = 15
"""120 bits, which nobody can guess (ASVS 5.0, 6.5.2 requires 112 to store a plain hash)."""

FEW_RECOVERY_CODES = 3
"""A login tells the owner when this many recovery codes are left, or fewer."""

SETUP_LIFETIME = timedelta(hours=1)
"""The time in which a new app's first code must be typed."""

APP_CODE = re.compile(f"[0-9]{{{totp.DIGITS}}}")
RECOVERY_CODE = re.compile(f"[A-Z2-7]{{{RECOVERY_CODE_BYTES * 8 // 5}}}")

Reason = Literal["wrong", "used", "clock", "unreadable"]


class CodeRefused(Exception):
    """A code was refused.

    reason: wrong; used: it, or the code of a later time, was used before, or it got a hint; clock:
    it is right for another time; unreadable: the app's secret can't be decrypted.
    step: the time for which it is right, if the reason is the clock.
    """

    def __init__(self, reason: Reason, step: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.step = step


def is_app_code(code: str) -> bool:
    """Return whether the code has the form of an app's code."""
    return APP_CODE.fullmatch(code) is not None


def is_recovery_code(code: str) -> bool:
    """Return whether the code has the form of a recovery code."""
    return RECOVERY_CODE.fullmatch(code) is not None


def use_code(actor: Actor, box: SecretBox, user_id: int, code: str) -> None:
    """Use a code of the account's app, or one of its recovery codes: each works once.

    The account's row must be locked.  Raises CodeRefused.
    """
    if is_app_code(code):
        _use_app_code(actor.db, box, user_id, code)
    elif recovery_codes.take(actor.db, user_id, _id_of(user_id, code)):
        actor.record("code_used", user_id)
        actor.notify("code_used", user_id)
    else:
        raise CodeRefused("wrong")


def add_app(actor: Actor, box: SecretBox, session: Session, secret: bytes, code: str) -> list[str]:
    """Add an authenticator app that shows this code, and return new recovery codes.

    Ends the account's other sessions.  The account must be locked, and have no app.  The caller
    renews the session: a second request at the same time then finds it gone.
    Raises CodeRefused.
    """
    user = session.user
    step = _find_step(secret, code)
    table.insert(actor.db, user.id, box.encrypt(user.id, secret), step)
    actor.record("factor_added", user.id, session.fingerprint)
    actor.notify("factor_added", user.id)
    links.void(actor.db, user.id)
    sessions.end_all(actor, user, keep=session)
    return _replace_codes(actor, session)


def remove_all(actor: Actor, user: User, *, keep: Session | None = None) -> bool:
    """Remove the account's app and recovery codes, and end all sessions except one.

    Returns False, and changes nothing, if the account has no app.  Its row must be locked.
    """
    if not table.delete(actor.db, user.id):
        return False
    recovery_codes.delete_of_user(actor.db, user.id)
    actor.record("factor_removed", user.id, keep and keep.fingerprint)
    actor.notify("factor_removed", user.id)
    links.void(actor.db, user.id)
    sessions.end_all(actor, user, keep=keep)
    return True


def count_recovery_codes(db: Connection, user_id: int) -> int:
    """Return the number of the account's recovery codes that were not used."""
    return recovery_codes.count(db, user_id)


def remove_if_added_after(actor: Actor, user: User, time: datetime) -> None:
    """Remove the account's app and recovery codes if the app was added after this time.

    The account must be locked.
    """
    added_at = table.get_created_at(actor.db, user.id)
    if added_at is not None and added_at > time:
        remove_all(actor, user)


def describe(db: Connection, user_id: int) -> tuple[datetime, int] | None:
    """Return when the account's app was added, and the number of its recovery codes, or None."""
    added_at = table.get_created_at(db, user_id)
    return (added_at, recovery_codes.count(db, user_id)) if added_at else None


def make_recovery_codes(actor: Actor, session: Session) -> list[str]:
    """Replace the recovery codes of the session's owner, and return the new ones."""
    actor.notify("codes_made", session.user.id)
    return _replace_codes(actor, session)


def renew_secrets(db: Connection, box: SecretBox) -> tuple[int, list[int]]:
    """Encrypt the secrets of all apps anew, with the newest key; commit a hundred at a time.

    Returns the number of secrets, and the ids of the accounts whose secret can't be decrypted.
    """
    renewed, unreadable, last = 0, [], 0
    while rows := table.list_secrets(db, last, 100):
        for user_id, encrypted in rows:
            try:
                secret = box.decrypt(user_id, encrypted)
            except SecretUnreadable:
                unreadable.append(user_id)
            else:
                table.replace_secret(db, user_id, box.encrypt(user_id, secret))
                renewed += 1
        db.commit()  # A login waits for a locked row, but not for long.
        last = rows[-1][0]
    return renewed, unreadable


def _replace_codes(actor: Actor, session: Session) -> list[str]:
    codes = [
        base64.b32encode(secrets.token_bytes(RECOVERY_CODE_BYTES)).decode()
        for _ in range(RECOVERY_CODES)
    ]
    user_id = session.user.id
    recovery_codes.delete_of_user(actor.db, user_id)
    recovery_codes.insert(actor.db, user_id, [_id_of(user_id, code) for code in codes])
    actor.record("codes_made", user_id, session.fingerprint)
    return codes


def _use_app_code(db: Connection, box: SecretBox, user_id: int, code: str) -> None:
    app = table.get(db, user_id)
    if app is None:
        raise CodeRefused("wrong")
    try:
        step = _find_step(box.decrypt(user_id, app.secret), code)
    except SecretUnreadable:
        problem = "The secret of the authenticator app of account %s can't be decrypted: %s"
        log.error(problem, user_id, "add the key to SECRET_KEY that was its first one before")
        raise CodeRefused("unreadable") from None
    except CodeRefused as refused:
        if refused.step is None:
            raise
        # A hint tells that a guess is right for another time, so the code must not work then.  One
        # is remembered: there is no other hint before its time is over.
        if app.hinted_step >= totp.current_step() - totp.ACCEPTED_STEPS:
            raise CodeRefused("wrong") from None
        table.store_hint(db, user_id, refused.step)
        raise
    if step == app.hinted_step or not table.use_step(db, user_id, step):
        raise CodeRefused("used")


def _find_step(secret: bytes, code: str) -> int:
    """Return the step of the app's code.  Raises CodeRefused."""
    now = totp.current_step()
    step = totp.find_step(secret, code, totp.steps_around(now, totp.ACCEPTED_STEPS))
    if step is None:
        other = totp.find_step(secret, code, totp.steps_around(now, totp.HINTED_STEPS))
        raise CodeRefused("wrong" if other is None else "clock", other)
    return step


def _id_of(user_id: int, code: str) -> bytes:
    return hashlib.sha256(f"{user_id} {code}".encode()).digest()
