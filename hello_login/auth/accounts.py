"""What an account can do.  No HTTP here, and no SQL."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple, cast

from psycopg2.extensions import connection as Connection

from ..repositories import events, sessions, users
from ..repositories.events import Event
from ..repositories.sessions import Session
from ..repositories.throttles import Limit
from ..repositories.users import Credentials, User
from ..settings import Settings
from .clients import Client
from .passwords import Passwords
from .rate_limits import Throttle

MAX_SESSIONS = 100
"""Sessions that an account may have: far more than a person has devices and browsers, and few
enough for one page and one statement (ASVS 5.0, 7.1.2)."""


NO_USER = 0
"""The id of no account: nothing is stored for it."""


class EmailTaken(Exception):
    """There is an account with this address."""


class AuthenticationFailed(Exception):
    """The password is not the account's, or there is no active account with this address."""


class RateLimited(Exception):
    """An attempt was refused without a look at it; wait is the time until the next one."""

    def __init__(self, wait: timedelta) -> None:
        super().__init__()
        self.wait = wait


class IssuedSession(NamedTuple):
    """What a browser is given for its session."""

    token: str
    """256 random bits."""

    remembered: bool
    """The browser keeps it when it is closed."""

    remaining: timedelta

    auth_hash: str
    """Of the password, for the cookie that makes the device known."""


@dataclass(frozen=True)
class Accounts:
    """The accounts, for one client in one transaction.

    What happens to an account is noted as an Event, in the same transaction; and note is called
    with it, which writes the security log's line once that is committed.
    """

    db: Connection
    settings: Settings
    passwords: Passwords
    throttle: Throttle
    client: Client
    note: Callable[[Event], None]
    counted: set[str] = field(default_factory=set)
    waived: frozenset[str] = frozenset()
    """What was counted for the throttle, and what need not be, since an earlier run of the same
    request has counted it; each by the event of its refusal."""

    def register(self, *, name: str, email: str, password: str) -> int:
        """Add an account and return its id; email is a normalized address.

        Raises PasswordRefused, or EmailTaken if an account has the address, in whatever case.
        """
        password_hash = self.passwords.hash(password, name, email)
        user_id = users.insert(self.db, email=email, name=name, password_hash=password_hash)
        if user_id is None:
            raise EmailTaken
        self._record("registered", user_id)
        return user_id

    def admit_registration(self) -> None:
        """Count a registration, done or not.  Raises RateLimited."""
        self._admit("registration_throttled", self.throttle.registration(self.client))

    def admit_profile_change(self, session: Session) -> None:
        """Count a change, done or not.  Raises RateLimited."""
        self._admit("profile_throttled", self.throttle.profile(session.id), session.user.id)

    def authenticate(self, *, email: str, password: str) -> int:
        """The id of the account with this address and password.

        Takes as long for an unknown address as for a wrong password (ASVS 5.0, 6.3.8), but for a
        hash of other costs than the settings', which takes its own until a login renews it.  A
        deactivated account counts as none.  Commits, as Throttle.count says.
        Raises AuthenticationFailed or RateLimited.
        """
        credentials = users.get_credentials_by_email(self.db, email)
        limits = self.throttle.login(self.client, email, credentials)
        self._admit("login_throttled", limits, credentials and credentials.user_id)
        if credentials is None:
            self.passwords.verify(password, None)  # takes as long as for a known address
            self._record("login_failed", None)
            raise AuthenticationFailed
        if not self._verify(limits, credentials, password):
            self._record("login_failed", credentials.user_id)
            raise AuthenticationFailed
        return credentials.user_id

    def reauthenticate(self, session: Session, password: str) -> None:
        """Check the password of the session's owner.  Commits, as authenticate.

        Raises AuthenticationFailed or RateLimited.
        """
        credentials = users.get_credentials_by_id(self.db, session.user.id)
        if credentials is None:  # deleted or deactivated in this moment
            raise AuthenticationFailed
        limits = self.throttle.check(self.client, session.id)
        self._admit("check_throttled", limits, credentials.user_id)
        if not self._verify(limits, credentials, password):
            self._record("check_failed", credentials.user_id)
            raise AuthenticationFailed

    def complete_login(
        self, user_id: int, *, replaced: Session | None, remembered: bool = False
    ) -> IssuedSession:
        """End the session that the browser had, and begin one for the authenticated account.

        remembered: the browser keeps it when it is closed, and its limits are the longer ones.
        """
        if replaced is not None:  # ASVS 5.0, 7.2.4
            self.end_session(replaced)
        return self.begin_session(user_id, remembered=remembered)

    def begin_session(self, user_id: int, *, remembered: bool = False) -> IssuedSession:
        """Log the account in; if it has MAX_SESSIONS, that which was used longest ago ends."""
        token = secrets.token_urlsafe(32)
        session_id = _session_id(token)
        idle_limit, limit = self.settings.session_limits(remembered)
        # This locks the account's row, so that logins at once don't count each other's out.
        credentials = users.record_login(self.db, user_id)
        for ended in sessions.delete_oldest(self.db, user_id, keep=MAX_SESSIONS - 1):
            self._record("session_ended_by_limit", user_id, ended)
        sessions.delete_expired(self.db)
        sessions.insert(
            self.db,
            session_id=session_id,
            user_id=user_id,
            idle_limit=idle_limit,
            limit=limit,
            remembered=remembered,
            address=self.client.address,
            device=self.client.device,
        )
        self._record("logged_in", user_id, sessions.fingerprint(session_id))
        return IssuedSession(token, remembered, limit, credentials.auth_hash)

    def find_session(self, token: str) -> Session | None:
        """Return the session with this token, or None if it has ended."""
        return sessions.find(self.db, _session_id(token))

    def record_session_use(self, session: Session) -> None:
        """Store that the session is used now, and from where, at most once a minute; commit that.

        Until the commit, the owner's other requests would wait for the session's row.
        """
        if not session.seen_recently:
            sessions.touch(self.db, session.id, self.client.address)
            self.db.commit()

    def lock_live_session(self, session: Session) -> bool:
        """Lock the session until the commit; return False if it has ended or was renewed."""
        users.lock(self.db, session.user.id)
        return sessions.exists(self.db, session.id)

    def renew_session(self, session: Session) -> IssuedSession:
        """Give a held session, whose owner has just typed the password, another token."""
        token = secrets.token_urlsafe(32)
        remembered, remaining = sessions.renew(self.db, session.id, _session_id(token))
        credentials = users.get_credentials_by_id(self.db, session.user.id)
        return IssuedSession(token, remembered, remaining, cast(Credentials, credentials).auth_hash)

    def end_session(self, session: Session) -> None:
        """Log out: the token is nobody's from now on."""
        sessions.delete(self.db, session.id)
        self._record("logged_out", session.user.id, session.fingerprint)

    def end_sessions(
        self, user: User, *, only: str | None = None, but: Session | None = None
    ) -> int:
        """End the account's sessions, or only that of this fingerprint, and return how many."""
        ended = sessions.delete_of_user(self.db, user.id, only=only, but=but and but.id)
        for fingerprint in ended:
            self._record("session_ended", user.id, fingerprint)
        return len(ended)

    def change_password(self, user: User, password: str, *, but: Session | None = None) -> None:
        """Replace the password, and end all sessions but one.  Raises PasswordRefused."""
        password_hash = self.passwords.hash(password, user.name, user.email)
        users.update_password_hash(self.db, user.id, password_hash)
        self._record("password_changed", user.id, but and but.fingerprint)
        self.end_sessions(user, but=but)

    def change_profile(self, session: Session, *, name: str, email: str) -> None:
        """Replace what is another name, or another address, which is a normalized one.

        Raises EmailTaken if another account has the address, in whatever case.
        """
        user = session.user
        new_name = name if name != user.name else None
        new_email = email if email != user.email else None
        if not users.update_profile(self.db, user.id, name=new_name, email=new_email):
            raise EmailTaken
        for new, event in ((new_name, "name_changed"), (new_email, "address_changed")):
            if new is not None:
                self._record(event, user.id, session.fingerprint)

    def set_active(self, user: User, active: bool) -> None:
        """Deactivate the account and end its sessions, or reactivate it."""
        users.set_active(self.db, user.id, active)
        self._record("reactivated" if active else "deactivated", user.id)
        if not active:
            self.end_sessions(user)

    def delete(self, user: User, session: Session | None = None) -> None:
        """Delete the account and all that is of it; the event that stays does not say whose."""
        users.delete(self.db, user.id)
        event = self._event("deleted", user.id, session and session.fingerprint)
        events.insert(self.db, event._replace(user_id=None))
        self.note(event)

    def _admit(self, refusal: str, limits: list[Limit], user_id: int | None = None) -> None:
        """Count an attempt.  Raises RateLimited, which only the log keeps."""
        if refusal not in self.waived:
            wait = self.throttle.count(self.db, limits)
            if wait:
                self.note(self._event(refusal, user_id))
                raise RateLimited(wait)
        self.counted.add(refusal)

    def _verify(self, limits: list[Limit], credentials: Credentials, password: str) -> bool:
        """Return whether the password is the account's, which it then stays until the commit.

        If so, clear the limits, and replace a hash of other costs.
        """
        matches, new_hash = self.passwords.verify(password, credentials.password_hash)
        if not matches:
            return False
        # A change of the password in the meantime has ended all sessions: none may begin now.
        if not users.lock_if_unchanged(self.db, credentials):
            return False
        self.throttle.clear(self.db, limits)
        if new_hash is not None:
            users.update_password_hash(self.db, credentials.user_id, new_hash)
        return True

    def _record(self, event: str, user_id: int | None, fingerprint: str | None = None) -> None:
        noted = self._event(event, user_id, fingerprint)
        events.delete_older(self.db, timedelta(days=self.settings.event_days))
        # For an unknown address the same statements run, or their number would tell (6.3.8).
        events.insert(self.db, noted if user_id is not None else noted._replace(user_id=NO_USER))
        self.note(noted)

    def _event(self, event: str, user_id: int | None = None, session: str | None = None) -> Event:
        return Event(event, user_id, session, self.client.address, self.client.request_id)


def _session_id(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
