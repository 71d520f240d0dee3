"""Rate limits for logins, codes, passkeys, re-authentication, registration and changes.

Every attempt is counted as a failure before the password or the code is checked, and taken back if
it was right.  So no more attempts than the limit are checked, however many arrive at once.
Counting is a transaction of its own on a connection of its own: no rollback undoes it.
"""

import hmac
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from ..repositories import throttles, users
from ..repositories.events import Event
from ..repositories.sessions import Session
from ..repositories.throttles import Limit
from .audit import make_event
from .clients import Client, DeviceCookie

MAX_PER_ACCOUNT_AND_NETWORK = 5
"""Failed logins to one account from one network before a wait.  Here and below, a wider IPv6
network may fail more often (clients.IPV6_NETWORKS)."""

MAX_PER_DEVICE = 5
"""Failed logins on a known device before a wait; also wrong passwords in one session's forms
from one network."""

MAX_PER_NETWORK = 50
"""Failed logins from one network to all accounts before a wait."""

LOCK_AFTER = 100
"""Failures that lock an account, a known device or a session: no password and no code of an app is
checked any more.
NIST SP 800-63B-4, 3.2.2 allows at most 100 for an account."""

MAX_REAUTHENTICATIONS_PER_NETWORK = 20
"""Wrong passwords in the forms of all accounts from one network before a wait."""

MAX_REGISTRATIONS_PER_NETWORK = 20
"""Registrations and changes of an address from one network before a wait, failed or not."""

MAX_MAILS_PER_ADDRESS = 3
"""Requests for a mail of one kind to one address before a wait."""

MAX_PROFILE_CHANGES_PER_SESSION = 20
"""Changes of a name or an address before a wait, failed or not.  Each adds up to two
events, which are kept for months; few people change either more than once a year."""

MAX_FACTOR_CHANGES = 20
"""Changes of an account's second factors or recovery codes before a wait, failed or not.
Each adds events."""

FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=1)
"""Each failure after the first wait doubles it, up to the longest."""

FORGET_AFTER = timedelta(days=1)
ACCOUNT_FORGET_AFTER = timedelta(days=30)
"""Failures are forgotten if none was added in this time.  NIST SP 800-63B-4, 3.2.2 counts those of
an account until a login succeeds; but the rows of abandoned accounts must not stay for ever.
A lock is never forgotten."""


class RateLimited(Exception):
    """The attempt was refused by a rate limit: no password, code or passkey was checked.

    wait: the time until the next attempt; throttles.FOREVER if the limit is locked.
    """

    def __init__(self, wait: timedelta) -> None:
        super().__init__()
        self.wait = wait


class Attempt(NamedTuple):
    """A login, its second step or a re-authentication.

    It is counted as a failure until throttles.take_back() is called.
    """

    limits: list[Limit]
    user_id: int | None
    """The account's id, or None for an unknown address or passkey."""

    credentials: users.Credentials | None
    """The account's credentials, or None if there is no active account."""


@dataclass(frozen=True)
class RateLimiter:
    """The rate limits for one client."""

    secret_key: bytes
    client: Client
    log_after_commit: Callable[[Event], None]
    autocommit: Callable[[], AbstractContextManager[Connection]]
    """Opens another connection, in autocommit mode."""

    counted: set[bytes]
    """Keys of the limits that this request has counted: a retry does not count them again."""

    def admit_login(self, email: str) -> Attempt:
        """Count a login as failed, and return the attempt.

        email: the address as it was typed; it may have no account.
        Raises RateLimited.
        """
        with self.autocommit() as db:
            credentials = users.get_credentials_by_email(db, email)
            limits = self.login_limits(email, credentials)
            user_id = credentials and credentials.user_id
            self._admit(db, limits, "login_throttled", user_id)
        return Attempt(limits, user_id, credentials)

    def admit_reauthentication(self, session: Session) -> Attempt:
        """Count a re-authentication as failed, and return the attempt.  Raises RateLimited.

        The limits are those of the session and of the client's networks.  The account has none: a
        thief who has the cookie of a session must not use up the attempts of the owner, who may use
        another session, or the same one from another network.  The thief can't begin further
        sessions without the password, so no limit for all of them is needed.
        """
        key = session.id.hex()
        limits = [
            *self._networks(MAX_PER_DEVICE, "check", key, reset=True),
            self._locking(LOCK_AFTER, "check from anywhere", key),
            *self._networks(MAX_REAUTHENTICATIONS_PER_NETWORK, "network", "check"),
        ]
        with self.autocommit() as db:
            credentials = users.get_credentials_by_id(db, session.user.id)
            self._admit(db, limits, "check_throttled", session.user.id)
        return Attempt(limits, session.user.id, credentials)

    def admit_code(self, user_id: int, *, is_app_code: bool) -> Attempt:
        """Count the second step of a login as failed, and return the attempt.  Raises RateLimited.

        is_app_code: the code is one of an app, and not a recovery code.
        """
        with self.autocommit() as db:
            credentials = users.get_credentials_by_id(db, user_id)
            limits = self._code_limits(user_id, credentials, is_app_code=is_app_code)
            self._admit(db, limits, "second_rate_limited", user_id)
        return Attempt(limits, user_id, credentials)

    def admit_passkey(self, *, passkey_id: bytes = b"", user_id: int | None = None) -> Attempt:
        """Count a use of a passkey as failed, and return the attempt.  Raises RateLimited.

        user_id: the account of the browser's session or half login.  If there is neither, the
        passkey determines the account.
        Nobody can guess a passkey, so the limits only bound the work: those of the client's
        networks, or that of a device on which the owner has logged in before.
        """
        with self.autocommit() as db:
            credentials = (
                users.get_credentials_by_passkey(db, passkey_id)
                if user_id is None
                else users.get_credentials_by_id(db, user_id)
            )
            limits = self._networks(MAX_PER_NETWORK, "network", "passkey")
            device = self._known_device(credentials)
            if device is not None:
                limit = self._limit(MAX_PER_DEVICE, "passkey", device.id)
                limits = [_resetting(limit, [limit])]
            user_id = credentials and credentials.user_id
            self._admit(db, limits, "passkey_rate_limited", user_id)
        return Attempt(limits, user_id, credentials)

    def admit_registration(self) -> None:
        """Count a registration or a change of an address.  Raises RateLimited."""
        limits = self._networks(MAX_REGISTRATIONS_PER_NETWORK, "network", "registration")
        with self.autocommit() as db:
            self._admit(db, limits, "registration_throttled", None)

    def admit_mail_request(self) -> None:
        """Count a request for a mail, to any address.  Raises RateLimited."""
        limits = self._networks(MAX_REGISTRATIONS_PER_NETWORK, "network", "mail")
        with self.autocommit() as db:
            self._admit(db, limits, "mail_throttled", None)

    def admit_factor_change(self, user_id: int) -> None:
        """Count a change of the account's second factors or recovery codes.  Raises RateLimited."""
        limit = self._limit(MAX_FACTOR_CHANGES, "factor", str(user_id))
        with self.autocommit() as db:
            self._admit(db, [limit], "factor_rate_limited", user_id)

    def admit_profile_change(self, session: Session) -> None:
        """Count a change of the profile in this session.  Raises RateLimited.

        The limit is the session's, not the account's: a thief of its cookie can't use up the
        changes of the owner's other sessions.
        """
        limit = self._limit(MAX_PROFILE_CHANGES_PER_SESSION, "profile", session.id.hex())
        with self.autocommit() as db:
            self._admit(db, [limit], "profile_throttled", session.user.id)

    def reset_codes(self, db: Connection, user_id: int) -> None:
        """Reset the limits of the account's codes, from anywhere and from the client's networks."""
        throttles.take_back(db, self._account_limits("code", str(user_id)))

    def login_limits(self, email: str, credentials: users.Credentials | None) -> list[Limit]:
        """Return the limits of a login to the account with this address, which may not exist.

        A device on which the owner has logged in before has one limit of its own, and no other:
        guesses made elsewhere do not lock it out (OWASP, "Slow Down Online Guessing Attacks with
        Device Cookies").  A login on it resets the account's limits, too.
        A new password, or a second factor that is added or removed, makes all devices unknown, and
        ends the account's waits and its lock.
        """
        if credentials is None:
            # The typed text may be a password, so only its HMAC is stored.
            account = ("address", _lower(email))
        else:
            account = ("account", credentials.auth_hash)
        limits = self._account_limits(*account)
        device = self._known_device(credentials)
        if device is not None:
            return [_resetting(self._locking(MAX_PER_DEVICE, "device", device.id), limits)]
        return limits + self._networks(MAX_PER_NETWORK, "network", "any account")

    def _code_limits(
        self, user_id: int, credentials: users.Credentials | None, *, is_app_code: bool
    ) -> list[Limit]:
        """Return the limits of the second step of a login to this account.

        They are like those of the password.  They are the account's, not those of a half login:
        somebody who knows the password can begin many half logins.  A new password does not reset
        them, because somebody who reads the owner's mail can set many passwords.
        A recovery code can't be guessed, so it works although the app's codes are locked.
        """
        limits = self._account_limits("code", str(user_id))
        networks = self._networks(MAX_PER_NETWORK, "network", "code")
        device = self._known_device(credentials)
        if device is not None:
            parts = ("device", str(user_id), device.id)
            of_device = self._locking(MAX_PER_DEVICE, "code", *parts)
            if is_app_code:
                return [_resetting(of_device, limits)]
            recovery = self._limit(MAX_PER_DEVICE, "recovery", *parts)
            return [_resetting(recovery, [recovery, *limits, of_device])]
        if is_app_code:
            return limits + networks
        return [_resetting(limit, limits) for limit in networks]

    def _known_device(self, credentials: users.Credentials | None) -> DeviceCookie | None:
        """Return the device cookie if it is from a login with these credentials, or None."""
        if credentials is None or not self.client.is_known(credentials.auth_hash):
            return None
        return self.client.known

    def _account_limits(self, *account: str) -> list[Limit]:
        """Return the limits of an account: from each network of the client, and from anywhere."""
        return [
            *self._networks(MAX_PER_ACCOUNT_AND_NETWORK, "from a network", *account, reset=True),
            self._locking(LOCK_AFTER, "from anywhere", *account),
        ]

    def _networks(self, max_failures: int, *parts: str, reset: bool = False) -> list[Limit]:
        """Return a limit for each network of the client.

        reset: a success resets the limit.  Otherwise, a success only takes back its own count.
        """
        limits = [
            self._limit(max_failures * factor, *parts, network)
            for network, factor in self.client.networks.items()
        ]
        return [_resetting(limit, [limit]) for limit in limits] if reset else limits

    def _locking(self, max_failures: int, *parts: str) -> Limit:
        """Return a limit that locks after LOCK_AFTER failures, and is reset by a success."""
        limit = self._limit(max_failures, *parts)
        return limit._replace(
            forget_after=ACCOUNT_FORGET_AFTER, resets=(limit.key,), lock_after=LOCK_AFTER
        )

    def _limit(self, max_failures: int, *parts: str) -> Limit:
        return make_limit(self.secret_key, max_failures, *parts)

    def _admit(
        self, db: Connection, limits: list[Limit], throttled_event: str, user_id: int | None
    ) -> None:
        """Count an attempt, once for a request.

        throttled_event: the event that is logged for a refused attempt; it gets no row.
        Raises RateLimited.
        """
        keys = {limit.key for limit in limits}
        if keys <= self.counted:
            return
        wait = count_failure(db, limits)
        if wait:
            self.log_after_commit(make_event(self.client, throttled_event, user_id))
            raise RateLimited(wait)
        self.counted.update(keys)


def unlock_codes(db: Connection, secret_key: bytes, user_id: int) -> None:
    """Reset the failures that may have locked the codes of the account's app everywhere."""
    limit = make_limit(secret_key, LOCK_AFTER, "from anywhere", "code", str(user_id))
    throttles.take_back(db, [limit._replace(resets=(limit.key,))])


def make_limit(secret_key: bytes, max_failures: int, *parts: str) -> Limit:
    """Return the limit that the parts name.  Its key is an HMAC, which does not disclose them."""
    text = "\0".join(parts).encode("utf-8", "replace")
    return Limit(hmac.digest(secret_key, text, "sha256"), max_failures, FORGET_AFTER)


def mail_limit(secret_key: bytes, kind: str, address: str) -> Limit:
    """Return the limit of requested mails of this kind to this address.

    Each kind has a limit of its own.  With one for all kinds, somebody could request other mails
    until the owner gets no link to set a new password.
    """
    return make_limit(secret_key, MAX_MAILS_PER_ADDRESS, "mail", kind, _lower(address))


def count_failure(db: Connection, limits: list[Limit]) -> timedelta:
    """Count a failure; db must be in autocommit mode, so that others can count at the same time.

    Returns zero, or the wait of an attempt that is refused: it is not counted and adds no row.
    throttles.FOREVER is the wait of a locked limit.
    """
    while True:
        wait = throttles.count(db, limits, first_wait=FIRST_WAIT, longest_wait=LONGEST_WAIT)
        if wait is not None:
            return wait
        throttles.insert(db, limits)


def _resetting(limit: Limit, others: list[Limit]) -> Limit:
    """Return the limit, with other limits that its success also resets."""
    return limit._replace(resets=(*limit.resets, *(each.key for each in others)))


def _lower(email: str) -> str:
    """Return the address in lower case as PostgreSQL's lower() does, with the same length.

    Otherwise limits would tell whether an address has an account: a long s is "s" to casefold().
    """
    return "".join(character.lower()[0] for character in email)
