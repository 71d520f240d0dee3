"""Rate limits for login, re-authentication, registration and changes of a profile.

Every attempt is counted before the password is looked at, and taken back if it was right: so
however many come at once, no more than the limit are tried.  The counts are committed by
themselves: no rollback forgets them.
"""

import hmac
from datetime import timedelta
from typing import Any

from psycopg2.extensions import connection as Connection

from ..repositories import throttles
from ..repositories.throttles import FOREVER, Limit
from ..repositories.users import Credentials
from ..settings import Settings
from .clients import Client

__all__ = ["FOREVER", "Throttle"]

MEMORY = timedelta(days=1)
ACCOUNT_MEMORY = timedelta(days=30)
"""Failures are forgotten when there was none for so long.  An account's are meant to be counted
until a login succeeds (NIST SP 800-63B-4, 3.2.2); but what nobody logs in to must not stay.
A lock is never forgotten."""

PROFILE_CHANGES = 20
"""Changes of a name or an address in a session, failed or not, before there are waits.  Each adds
up to two events, which are kept for months; few people change either more than once a year."""


class Throttle:
    """The settings' limits."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._key = settings.secret_key.encode()

    def login(self, client: Client, email: str, credentials: Credentials | None) -> list[Limit]:
        """The limits of a login to the account with this address, which may not exist.

        A device that the owner has logged in with before has a limit of its own, and no other: who
        guesses elsewhere does not lock it out (OWASP, "Slow Down Online Guessing Attacks with
        Device Cookies").  Its success clears the account's limits as well.
        A new password makes a device unknown, and ends the account's waits and its lock.
        """
        if credentials is None:
            # What was typed may be a password: it is not stored but as an HMAC.
            account = ("address", _lower(email))
        else:
            account = ("account", credentials.auth_hash)
        limits = [
            *self._networks(
                client, self._settings.throttle_account_network, "from a network", *account
            ),
            self._locking(self._settings.throttle_account, "from anywhere", *account),
        ]
        known = client.known
        if (
            credentials is not None
            and known is not None
            and known.auth_hash == credentials.auth_hash
        ):
            device = self._locking(self._settings.throttle_device, "device", known.id)
            return [device._replace(clears=(device.key, *(limit.key for limit in limits)))]
        return limits + self._any_account(client, self._settings.throttle_network, "any account")

    def check(self, client: Client, session_id: bytes) -> list[Limit]:
        """Return the limits of asking for the password in a session.

        None of them is the account's: a thief who has the cookie of a session must not use up the
        tries of its owner, who may be in the same session from another network.  The thief can't
        begin further sessions without the password, so a limit for all of them is not needed.
        """
        session = session_id.hex()
        return [
            *self._networks(client, self._settings.throttle_device, "check", session),
            self._locking(self._settings.throttle_account, "check from anywhere", session),
            *self._any_account(client, self._settings.throttle_check, "check"),
        ]

    def registration(self, client: Client) -> list[Limit]:
        """The limits of registrations, failed or not."""
        return self._any_account(client, self._settings.throttle_registration, "registration")

    def profile(self, session_id: bytes) -> list[Limit]:
        """Return the limit of changes of a profile in a session, failed or not.

        A thief who has the cookie of a session must not use up the changes of its owner.
        """
        return [self._limit(PROFILE_CHANGES, "profile", session_id.hex())]

    def count(self, db: Connection, limits: list[Limit]) -> timedelta:
        """Count an attempt, and commit that; with it, whatever else stands in the transaction.

        Returns how long it has to wait instead: zero if it need not, FOREVER if no time will do.
        An attempt that has to wait adds no row.
        """
        while True:
            wait = throttles.count(
                db,
                limits,
                first_wait=timedelta(seconds=self._settings.throttle_wait_seconds),
                longest_wait=timedelta(seconds=self._settings.throttle_longest_wait_seconds),
            )
            db.commit()
            if wait is not None:
                return wait
            throttles.delete_forgotten(db)
            db.commit()  # before an insertion of the same row waits for it
            throttles.insert(db, limits)
            db.commit()

    def clear(self, db: Connection, limits: list[Limit]) -> None:
        """Take a counted attempt back: it succeeded."""
        throttles.clear(db, limits)

    def _networks(self, client: Client, failures: int, *parts: str) -> list[Limit]:
        """Return a limit for each network that may be one customer's, of this factor."""
        return [
            self._limit(failures * factor, *parts, network)
            for network, factor in client.networks.items()
        ]

    def _any_account(self, client: Client, failures: int, what: str) -> list[Limit]:
        """Return the limits of a network, which no success clears."""
        limits = self._networks(client, failures, "network", what)
        return [limit._replace(clears=()) for limit in limits]

    def _locking(self, failures: int, *parts: str) -> Limit:
        """Return a limit that is locked after as many failures as an account may have."""
        limit = self._limit(failures, *parts)
        return limit._replace(memory=ACCOUNT_MEMORY, locks_at=self._settings.throttle_account)

    def _limit(self, failures: int, *parts: str) -> Limit:
        key = hmac.digest(self._key, "\0".join(parts).encode("utf-8", "replace"), "sha256")
        return Limit(key, failures, MEMORY, clears=(key,))


def _lower(email: str) -> str:
    """Return the address in lower case as PostgreSQL's lower() has it, one character for each.

    Otherwise limits would tell whether an address has an account: a long s is "s" to casefold().
    """
    return "".join(character.lower()[0] for character in email)


def includeme(config: Any) -> None:
    """Add registry.throttle."""
    config.registry.throttle = Throttle(config.registry.hello_login)
