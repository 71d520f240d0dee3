"""How often what may fail, before it has to wait.

Every attempt is counted before the password is looked at, and taken back if it was right: so
however many come at once, no more than the limit are tried.  The counts are committed by
themselves: no rollback forgets them.
"""

import hmac
from datetime import timedelta
from typing import Any

from psycopg2.extensions import connection as Connection

from .clients import Client
from .repositories import throttles
from .repositories.throttles import Limit
from .repositories.users import Credentials
from .settings import Settings

MEMORY = timedelta(days=1)
ACCOUNT_MEMORY = timedelta(days=30)
"""Failures are forgotten when there was none for so long.  An account's are meant to be counted
until a login succeeds (NIST SP 800-63B-4, 3.2.2); but what nobody logs in to must not stay."""


class Throttle:
    """The settings' limits."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._key = settings.secret_key.encode()

    def login(self, client: Client, email: str, credentials: Credentials | None) -> list[Limit]:
        """The limits of a login to the account with this address, which may not exist.

        A device that the owner has logged in with before has a limit of its own, and no other: who
        guesses elsewhere does not lock it out (OWASP, "Slow Down Online Guessing Attacks with
        Device Cookies").  A new password makes a device unknown, and ends the account's waits.
        """
        if credentials is None:
            # What was typed may be a password: it is not stored but as an HMAC.
            account = ("address", email.casefold())
        else:
            account = ("account", credentials.stamp)
            if client.known is not None and client.known.stamp == credentials.stamp:
                return [self._limit(self._settings.throttle_device, "device", client.known.id)]
        everywhere = self._limit(self._settings.throttle_account, "from anywhere", *account)
        here = (*account, client.network)
        return [
            self._limit(self._settings.throttle_account_network, "from a network", *here),
            everywhere._replace(memory=ACCOUNT_MEMORY),
            self._network(self._settings.throttle_network, "any account", client),
        ]

    def check(self, client: Client, credentials: Credentials) -> list[Limit]:
        """The limits of asking somebody who is logged in for the password."""
        return [
            self._limit(self._settings.throttle_device, "check", credentials.stamp),
            self._network(self._settings.throttle_check, "check", client),
        ]

    def registration(self, client: Client) -> list[Limit]:
        """The limit of registrations, failed or not."""
        return [self._network(self._settings.throttle_registration, "registration", client)]

    def count(self, db: Connection, limits: list[Limit]) -> timedelta:
        """Count an attempt, and commit that; with it, whatever else stands in the transaction.

        Returns how long it has to wait instead, zero if it need not.
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

    def _network(self, failures: int, what: str, client: Client) -> Limit:
        limit = self._limit(failures, "network", what, client.network)
        return limit._replace(cleared_by_success=False)

    def _limit(self, failures: int, *parts: str) -> Limit:
        key = hmac.digest(self._key, "\0".join(parts).encode("utf-8", "replace"), "sha256")
        return Limit(key, failures, MEMORY, cleared_by_success=True)


def includeme(config: Any) -> None:
    """Add registry.throttle."""
    config.registry.throttle = Throttle(config.registry.hello_login)
