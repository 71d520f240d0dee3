"""Accounts: registration, changes, deactivation and deletion."""

from datetime import timedelta

from ..repositories import events, mails, throttles, users
from ..repositories.sessions import Session
from ..repositories.tokens import Link
from ..repositories.users import User
from . import links, second_factor, sessions
from .audit import Actor, make_event
from .passwords import Passwords

SUSPECT_FACTORS = timedelta(days=7)
"""An undone change of the address removes the second factors that were added after it, or in this
time before it: a thief may have added a passkey first."""


class EmailTaken(Exception):
    """Another account has this address."""


class LinkExpired(Exception):
    """The link was used, has expired, or is wrong."""


def register(actor: Actor, passwords: Passwords, *, name: str, email: str, password: str) -> int:
    """Add an account, record the event, and return the account's id.

    email: a normalized address.
    Raises PasswordRefused, or EmailTaken if an account has the address in upper or lower case.
    """
    password_hash = passwords.hash(password, name, email)
    user_id = users.insert(actor.db, email=email, name=name, password_hash=password_hash)
    if user_id is None:
        throttles.delete_forgotten(actor.db)
        raise EmailTaken
    actor.record("registered", user_id)
    return user_id


def change_password(
    actor: Actor, passwords: Passwords, user: User, password: str, *, keep: Session | None = None
) -> None:
    """Replace the password, record the event, and end all sessions except one.

    Raises PasswordRefused.
    """
    password_hash = passwords.hash(password, user.name, user.email)
    users.update_password_hash(actor.db, user.id, password_hash)
    actor.record("password_changed", user.id, keep and keep.fingerprint)
    actor.notify("password_changed", user.id)
    links.void(actor.db, user.id)
    sessions.end_all(actor, user, keep=keep)


def change_profile(actor: Actor, session: Session, *, name: str, email: str) -> None:
    """Store the name and the address of the session's owner, and record each that changed.

    email: a normalized address.
    Raises EmailTaken if another account has the address in upper or lower case.
    """
    user = session.user
    new_name = name if name != user.name else None
    new_email = email if email != user.email else None
    if not users.update_profile(actor.db, user.id, name=new_name, email=new_email):
        raise EmailTaken
    if new_name is not None:
        actor.record("name_changed", user.id, session.fingerprint)
    if new_email is not None:
        actor.record("address_changed", user.id, session.fingerprint)
        links.void(actor.db, user.id)


def ask_for_address(actor: Actor, user: User, address: str) -> None:
    """Queue a mail with a link to the new address, and a notice to the old one."""
    mails.insert(actor.db, "change", address, user_id=user.id)
    actor.notify("change_asked", user.id)


def deactivate(actor: Actor, user: User) -> None:
    """Let nobody log in to the account, record the event, and end all sessions."""
    users.deactivate(actor.db, user.id)
    actor.record("deactivated", user.id)
    actor.notify("deactivated", user.id)
    links.void(actor.db, user.id)
    sessions.end_all(actor, user)


def reactivate(actor: Actor, user: User) -> None:
    """Let the owner of a deactivated account log in again, and record the event."""
    users.reactivate(actor.db, user.id)
    actor.record("reactivated", user.id)
    actor.notify("reactivated", user.id)


def delete(actor: Actor, user: User, session: Session | None = None) -> None:
    """Delete the account with its sessions and events.

    One event remains.  Its row does not name the account; its line in the security log does.
    """
    actor.notify("deleted", user.id)
    users.delete(actor.db, user.id)
    event = make_event(actor.client, "deleted", user.id, session and session.fingerprint)
    events.insert(actor.db, event._replace(user_id=None))
    actor.log_after_commit(event)


def register_by_link(
    actor: Actor, passwords: Passwords, token: str, link: Link, *, name: str, password: str
) -> int:
    """Use a link: add an account with the link's address.

    link: its purpose is register, which confirms the address, or invite.
    Raises PasswordRefused, or LinkExpired if the link was used or the address taken meanwhile.
    """
    if links.use(actor.db, token, link.purpose) is None:
        raise LinkExpired
    try:
        user_id = register(actor, passwords, name=name, email=link.address, password=password)
    except EmailTaken:
        raise LinkExpired from None
    if link.purpose == "register":
        users.confirm(actor.db, user_id)
    return user_id


def reset_password(
    actor: Actor, passwords: Passwords, token: str, purpose: str, user: User, password: str
) -> None:
    """Use a link: store the password, and end all sessions and links.

    purpose: reset, which confirms the address, or recover.  If the address was not confirmed
    before, a reset removes the second factors.
    Raises PasswordRefused, or LinkExpired if the link was used or voided meanwhile.
    """
    password_hash = passwords.hash(password, user.name, user.email)
    user, link = _lock_and_use(actor, token, purpose, user)
    # The mail's sender may have looked up the address just before it was changed.
    if link.address != user.email:
        raise LinkExpired
    users.update_password_hash(actor.db, user.id, password_hash)
    if purpose == "reset":
        if user.confirmed_at is None:
            # Somebody else may have registered the address, before mail was sent.
            second_factor.remove_all(actor, user)
        users.confirm(actor.db, user.id)
    actor.record("password_reset", user.id)
    actor.notify("password_reset", user.id)
    links.void(actor.db, user.id)
    sessions.end_all(actor, user)


def change_address(actor: Actor, token: str, user: User) -> None:
    """Use a link: give the account the confirmed address that it was mailed to.

    The old address gets a link that undoes the change.
    Raises LinkExpired if the link was used or voided, or the address taken meanwhile.
    """
    user, link = _lock_and_use(actor, token, "change", user)
    if link.address != user.email:
        _store_address(actor, user, link.address)
        actor.notify("address_changed", user.id, user.email)
    users.confirm(actor.db, user.id)
    links.void(actor.db, user.id)


def undo_address(
    actor: Actor, passwords: Passwords, token: str, user: User, address: str, password: str
) -> None:
    """Use a link: give the account its earlier address and a new password, and end all sessions.

    Second factors that were added since SUSPECT_FACTORS before the change are removed.
    address: the earlier one.  The address that the account had until now is told, but gets no link.
    Raises PasswordRefused, or LinkExpired if the link was used or voided, or the address taken
    meanwhile.
    """
    password_hash = passwords.hash(password, user.name, address)
    user, link = _lock_and_use(actor, token, "undo", user)
    _store_address(actor, user, address)
    users.confirm(actor.db, user.id)
    actor.notify("address_restored", user.id, user.email)
    users.update_password_hash(actor.db, user.id, password_hash)
    actor.record("password_reset", user.id)
    actor.notify("password_reset", user.id)
    links.void_after_undo(actor.db, user.id, link)
    changed_at = link.expires_at - links.LIFETIMES["undo"]
    second_factor.remove_all(actor, user, after=changed_at - SUSPECT_FACTORS)
    sessions.end_all(actor, user)


def _lock_and_use(actor: Actor, token: str, purpose: str, user: User) -> tuple[User, Link]:
    """Lock the account's row until the commit, delete the link, and return both as they are now.

    Everything that changes an account locks its row first, so two changes never deadlock.
    Raises LinkExpired.
    """
    users.lock(actor.db, user.id)
    link = links.use(actor.db, token, purpose)
    current = users.get_by_id(actor.db, user.id)
    if link is None or current is None:
        raise LinkExpired
    return current, link


def _store_address(actor: Actor, user: User, address: str) -> None:
    """Store another address, and record the event.  Raises LinkExpired if it is taken."""
    if not users.update_profile(actor.db, user.id, email=address):
        raise LinkExpired
    actor.record("address_changed", user.id)
