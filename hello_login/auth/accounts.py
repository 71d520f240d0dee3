"""Accounts: registration, changes, deactivation and deletion."""

from ..repositories import events, users
from ..repositories.sessions import Session
from ..repositories.users import User
from . import sessions
from .audit import Actor, make_event
from .passwords import Passwords


class EmailTaken(Exception):
    """Another account has this address."""


def register(actor: Actor, passwords: Passwords, *, name: str, email: str, password: str) -> int:
    """Add an account, record the event, and return the account's id.

    email: a normalized address.
    Raises PasswordRefused, or EmailTaken if an account has the address in upper or lower case.
    """
    password_hash = passwords.hash(password, name, email)
    user_id = users.insert(actor.db, email=email, name=name, password_hash=password_hash)
    if user_id is None:
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


def deactivate(actor: Actor, user: User) -> None:
    """Let nobody log in to the account, record the event, and end all sessions."""
    users.deactivate(actor.db, user.id)
    actor.record("deactivated", user.id)
    sessions.end_all(actor, user)


def reactivate(actor: Actor, user: User) -> None:
    """Let the owner of a deactivated account log in again, and record the event."""
    users.reactivate(actor.db, user.id)
    actor.record("reactivated", user.id)


def delete(actor: Actor, user: User, session: Session | None = None) -> None:
    """Delete the account with its sessions and events.

    One event remains.  Its row does not name the account; its line in the security log does.
    """
    users.delete(actor.db, user.id)
    event = make_event(actor.client, "deleted", user.id, session and session.fingerprint)
    events.insert(actor.db, event._replace(user_id=None))
    actor.log_after_commit(event)
