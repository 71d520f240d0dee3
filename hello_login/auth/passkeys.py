"""The passkeys of an account.

A use of a passkey proves two factors: the device, and its owner's PIN, face or finger.
"""

import logging

from ..repositories import passkeys as table
from ..repositories import users
from ..repositories.passkeys import Passkey
from ..repositories.sessions import Session
from . import second_factor, webauthn
from .audit import Actor, make_event
from .ceremonies import Ceremony
from .webauthn import PasskeyRefused

log = logging.getLogger(__name__)

MAX_PASSKEYS = 20
"""Passkeys of an account: more than a person has devices and password managers."""

MODELS = {
    "ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4": "Google Password Manager",
    "fbfc3007-154e-4ecc-8c0b-6e020557d7bd": "Apple Passwords",
    "dd4ec289-e01d-41c9-bb89-70fa845d4bf2": "Apple Passwords",
    "08987058-cadc-4b81-b6e1-30de50dcbe96": "Windows Hello",
    "9ddd1817-af5a-4672-a2b9-3e3dd95000a9": "Windows Hello",
    "6028b017-b1d4-4c02-b4b3-afcdafc96bb2": "Windows Hello",
    "adce0002-35bc-c60a-648b-0b25f1f05503": "Chrome on macOS",
    "bada5566-a7aa-401f-bd96-45619a55120d": "1Password",
    "d548826e-79b4-db40-a3d8-11116f7e8349": "Bitwarden",
    "531126d6-e717-415c-9320-3d9aa6981239": "Dashlane",
    "53414d53-554e-4700-0000-000000000000": "Samsung Pass",
    "50726f74-6f6e-5061-7373-50726f746f6e": "Proton Pass",
    "fdb141b2-5d84-443e-8a35-4698c205a502": "KeePassXC",
}
"""Names of authenticators by their AAGUIDs.  They only suggest a name, because nothing proves them.
Source: github.com/passkeydeveloper/passkey-authenticator-aaguids."""


def use(actor: Actor, ceremony: Ceremony, credential: str, user_id: int | None) -> int:
    """Verify and record a use of a passkey, lock its account, and return the account's id.

    credential: the browser's answer, in JSON.
    user_id: the account that must have the passkey; None: no active account has it.
    Raises PasskeyRefused.
    """
    answer = webauthn.parse_assertion(credential)
    ceremony.use_challenge(actor.db, answer.client_data)
    if user_id is not None:
        users.lock(actor.db, user_id)
    passkey = table.get(actor.db, answer.passkey_id)
    if passkey is None:
        raise PasskeyRefused("unknown")
    # The account's state is told to the owner only, so it is checked last.
    if passkey.user_id != user_id and not passkey.deactivated:
        raise PasskeyRefused("other_account")
    # An authenticator may leave the handle out if the page has named the passkeys.
    if answer.handle != passkey.handle and (answer.handle or ceremony.purpose == "log in"):
        raise PasskeyRefused("invalid", "Wrong user handle")
    webauthn.verify_assertion(
        ceremony.site.origin, answer, passkey.public_key, may_sync=passkey.may_sync
    )
    if passkey.deactivated:
        raise PasskeyRefused("deactivated")
    counter, synced = answer.data.counter, answer.data.is_backed_up()
    if not table.record_use(actor.db, answer.passkey_id, counter, synced=synced):
        raise PasskeyRefused("copied")
    actor.log_after_commit(make_event(actor.client, "passkey_used", user_id))
    return passkey.user_id


def add(actor: Actor, ceremony: Ceremony, session: Session, credential: str) -> list[str]:
    """Add a passkey to the account of a session, and return new recovery codes.

    credential: the browser's answer, in JSON.
    There are recovery codes if it is the account's first second factor.  Its other sessions end
    then.  The account must be locked; the caller renews the session.
    Records a refused passkey.  Raises PasskeyRefused.
    """
    user_id = session.user.id
    is_first = not users.has_second_factor(actor.db, user_id)
    try:
        _insert(actor, ceremony, user_id, credential)
    except PasskeyRefused as refused:
        record_refused(actor, "check_failed", user_id, refused)
        raise
    return second_factor.record_added(actor, session, "passkey_added", is_first=is_first)


def _insert(actor: Actor, ceremony: Ceremony, user_id: int, credential: str) -> None:
    """Verify a new passkey, and add its row.  Raises PasskeyRefused."""
    answer = webauthn.parse_attestation(credential)
    ceremony.use_challenge(actor.db, answer.client_data)
    public_key = webauthn.verify_attestation(ceremony.site.origin, answer)
    data = answer.object.auth_data
    if len(table.list_of_user(actor.db, user_id)) >= MAX_PASSKEYS:
        raise PasskeyRefused("too_many")
    added = table.insert(
        actor.db,
        answer.passkey_id,
        user_id,
        public_key=public_key,
        sign_count=data.counter,
        name=_suggest_name(answer, actor.client.device),
        may_sync=data.is_backup_eligible(),
        synced=data.is_backed_up(),
        transports=answer.transports,
    )
    if not added:
        raise PasskeyRefused("taken")


def rename(actor: Actor, session: Session, passkey: Passkey, name: str) -> bool:
    """Give a passkey of the session's owner another name, and record the event.

    The account must be locked.  Returns False, and changes nothing, if the passkey is removed.
    """
    if not table.rename(actor.db, session.user.id, passkey.id, name):
        return False
    actor.record("passkey_renamed", session.user.id, session.fingerprint)
    return True


def remove(actor: Actor, session: Session, passkey: Passkey) -> bool:
    """Remove a passkey of the session's owner, and end the account's other sessions.

    The account must be locked.  Returns False, and changes nothing, if it is removed already.
    """
    if not table.delete(actor.db, session.user.id, [passkey.id]):
        return False
    second_factor.record_removed(actor, session.user, ["passkey_removed"], keep=session)
    return True


def record_refused(actor: Actor, event: str, user_id: int | None, refused: PasskeyRefused) -> None:
    """Record an event for a refused passkey, and log the reason.

    A page that was open for too long is a log line only: its user has done nothing wrong.
    """
    log.warning("A passkey was refused: %s", refused)
    if refused.reason != "expired":
        actor.record(event, user_id)


def _suggest_name(attestation: webauthn.Attestation, device: str) -> str:
    """Return a name for a new passkey, from the authenticator's model and the browser's device."""
    new = attestation.object.auth_data.credential_data
    model = MODELS.get(str(new and new.aaguid))
    return f"{model}, {device}" if model and model != device else device
