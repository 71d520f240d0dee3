"""The second factors of an account: an authenticator app or passkeys, and recovery codes.

While an account has one of the first two, its password alone is not enough to log in.
"""

import base64
import hashlib
import logging
import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Literal, NamedTuple

from psycopg2.extensions import connection as Connection

from ..repositories import passkeys, recovery_codes, users
from ..repositories import totp as table
from ..repositories.passkeys import Passkey
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

BEGINNING = datetime.min.replace(tzinfo=timezone.utc)
"""A time before every factor was added."""

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


class Factors(NamedTuple):
    """The second factors of an account."""

    app_added_at: datetime | None
    """The time when the authenticator app was added, or None if there is no app."""

    recovery_codes: int
    """The number of recovery codes that were not used."""

    handle: bytes | None
    """The account's name in authenticators, or None if no page has let it add a passkey."""

    passkeys: list[Passkey]
    """The account's passkeys, the oldest first."""


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

    There are recovery codes if it is the account's first second factor.
    Ends the account's other sessions.  The account must be locked, and have no app.  The caller
    renews the session: a second request at the same time then finds it gone.
    Raises CodeRefused.
    """
    user = session.user
    step = _find_step(secret, code)
    is_first = not users.has_second_factor(actor.db, user.id)
    table.insert(actor.db, user.id, box.encrypt(user.id, secret), step)
    codes = record_added(actor, session, "factor_added", is_first=is_first)
    if not is_first:
        sessions.end_all(actor, user, keep=session)
    return codes


def record_added(actor: Actor, session: Session, event: str, *, is_first: bool) -> list[str]:
    """Record that a second factor was added, tell the owner, and return new recovery codes.

    is_first: the account had none.  Only then are recovery codes made, and other sessions end.
    """
    _record_change(actor, session.user.id, event, session)
    if not is_first:
        return []
    sessions.end_all(actor, session.user, keep=session)
    return _replace_codes(actor, session)


def remove_app(actor: Actor, session: Session) -> bool:
    """Remove the authenticator app of the session's owner, and end the account's other sessions.

    The account must be locked.  Returns False, and changes nothing, if it has no app.
    """
    if not table.delete(actor.db, session.user.id):
        return False
    record_removed(actor, session.user, ["factor_removed"], keep=session)
    return True


def remove_all(actor: Actor, user: User, *, after: datetime = BEGINNING) -> bool:
    """Remove the account's app and passkeys that were added after a time, and end all sessions.

    Its row must be locked.  Returns False, and changes nothing, if there are none.
    """
    factors = describe(actor.db, user.id)
    events = []
    if factors.app_added_at is not None and factors.app_added_at > after:
        table.delete(actor.db, user.id)
        events.append("factor_removed")
    newer = [each.id for each in factors.passkeys if each.created_at > after]
    events += ["passkey_removed"] * passkeys.delete(actor.db, user.id, newer)
    if events:
        record_removed(actor, user, events)
    return bool(events)


def record_removed(
    actor: Actor, user: User, events: Iterable[str], *, keep: Session | None = None
) -> None:
    """Record that second factors were removed, tell the owner, and end all sessions except one.

    events: one for each factor.  With the last factor, the recovery codes go.
    """
    for event in events:
        _record_change(actor, user.id, event, keep)
    if not users.has_second_factor(actor.db, user.id):
        recovery_codes.delete_of_user(actor.db, user.id)
    sessions.end_all(actor, user, keep=keep)


def _record_change(actor: Actor, user_id: int, event: str, session: Session | None) -> None:
    """Record that a second factor was added or removed, and tell the owner.

    Makes all devices of the account unknown, and voids its links.
    """
    users.record_factor_change(actor.db, user_id)
    actor.record(event, user_id, session and session.fingerprint)
    actor.notify(event, user_id)
    links.void(actor.db, user_id)


def describe(db: Connection, user_id: int) -> Factors:
    """Return the account's second factors."""
    app_added_at, codes, handle, has_passkeys = users.describe_factors(db, user_id)
    listed = passkeys.list_of_user(db, user_id) if has_passkeys else []
    return Factors(app_added_at, codes, handle, listed)


def make_recovery_codes(actor: Actor, session: Session) -> list[str]:
    """Replace the recovery codes of the session's owner, and return the new ones."""
    actor.notify("codes_made", session.user.id)
    return _replace_codes(actor, session)


def renew_secrets(db: Connection, box: SecretBox) -> tuple[int, list[int]]:
    """Encrypt the secrets of all apps with the newest key; commit a hundred at a time.

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
