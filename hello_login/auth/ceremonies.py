"""The requests of a page to an authenticator (WebAuthn Level 3), and its signals to the browser."""

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from psycopg2.extensions import connection as Connection

from ..repositories import challenges, expired
from ..repositories.passkeys import Passkey
from ..repositories.users import User
from ..settings import Settings
from .webauthn import ALGORITHMS, PasskeyRefused, encode, host_of

if TYPE_CHECKING:
    from fido2.webauthn import CollectedClientData

CHALLENGE_LIFETIME = timedelta(minutes=5)
"""The time from the page to the answer."""

CHALLENGE_KEPT = timedelta(hours=1)
"""The time for which a used challenge is remembered.  It is longer than CHALLENGE_LIFETIME, because
the clocks of servers differ."""

Purpose = Literal["log in", "second step", "confirm", "add"]


@dataclass(frozen=True)
class RelyingParty:
    """This site, as browsers and authenticators know it."""

    name: str
    origin: str
    """The only origin whose pages may use a passkey of this site."""

    secret_keys: tuple[str, ...] = field(repr=False)
    """The first key signs challenges.  Challenges that another key has signed are accepted, too."""

    @property
    def id(self) -> str:
        """Return the host that each passkey is tied to."""
        return host_of(self.origin)

    def signal_unknown(self, passkey_id: bytes) -> str:
        """Return a call of the browser's Signal API, as JSON: no account has this passkey.

        The browser then does not offer the passkey again.
        """
        fields = {"rpId": self.id, "credentialId": encode(passkey_id)}
        return json.dumps({"signalUnknownCredential": fields})

    def signal_known(self, user: User, handle: bytes, passkeys: Iterable[Passkey]) -> str:
        """Return calls of the Signal API, as JSON: these are all of the account's passkeys.

        The browser then offers no others, and shows the account's present name and address.
        """
        account = {"rpId": self.id, "userId": encode(handle)}
        ids = [encode(passkey.id) for passkey in passkeys]
        accepted = {**account, "allAcceptedCredentialIds": ids}
        details = {**account, "name": user.email, "displayName": user.name}
        signals = {"signalAllAcceptedCredentials": accepted, "signalCurrentUserDetails": details}
        return json.dumps(signals)


@dataclass(frozen=True)
class Ceremony:
    """The use of a passkey for one purpose, on a page in one browser."""

    site: RelyingParty
    purpose: Purpose
    browser: str = field(repr=False)
    """A secret that only this browser has."""

    def request_options(self, passkeys: Sequence[Passkey] = ()) -> str:
        """Return the options of navigator.credentials.get(), as JSON.

        passkeys: those that are accepted; none: any of this site.
        """
        options: dict[str, Any] = {
            "challenge": encode(self._make_challenge()),
            "rpId": self.site.id,
            "userVerification": "required",
        }
        if passkeys:
            options["allowCredentials"] = _describe(passkeys)
        return json.dumps(options)

    def creation_options(self, user: User, handle: bytes, passkeys: Iterable[Passkey]) -> str:
        """Return the options of navigator.credentials.create(), as JSON.

        passkeys: the account's.  An authenticator that has one of these makes no further one.
        """
        return json.dumps(
            {
                "challenge": encode(self._make_challenge()),
                "rp": {"id": self.site.id, "name": self.site.name},
                "user": {"id": encode(handle), "name": user.email, "displayName": user.name},
                "pubKeyCredParams": [
                    {"type": "public-key", "alg": number} for number in ALGORITHMS.values()
                ],
                "excludeCredentials": _describe(passkeys),
                "authenticatorSelection": {
                    "residentKey": "required",
                    "requireResidentKey": True,
                    "userVerification": "required",
                },
                "attestation": "none",
            }
        )

    def use_challenge(self, db: Connection, client_data: "CollectedClientData") -> None:
        """Check that the answer's challenge is one of this ceremony, and store that it is used.

        Raises PasskeyRefused.
        """
        challenge = client_data.challenge
        content, signature = challenge[:24], challenge[24:]
        signatures = [self._sign(key, content) for key in self.site.secret_keys]
        if not any(hmac.compare_digest(signature, expected) for expected in signatures):
            raise PasskeyRefused("invalid", "The challenge is not one of this page")
        age = time.time() - int.from_bytes(content[:8], "big")
        if age >= CHALLENGE_LIFETIME.total_seconds():
            raise PasskeyRefused("expired")
        expired.delete(db, "used_challenges")
        if not challenges.insert(db, hashlib.sha256(challenge).digest(), CHALLENGE_KEPT):
            raise PasskeyRefused("invalid", "The challenge was used before")

    def _make_challenge(self) -> bytes:
        """Return the time, random bits, and an HMAC that ties both to this ceremony."""
        content = int(time.time()).to_bytes(8, "big") + secrets.token_bytes(16)
        return content + self._sign(self.site.secret_keys[0], content)

    def _sign(self, key: str, content: bytes) -> bytes:
        context = f"passkey challenge\0{self.purpose}\0{self.browser}\0".encode()
        return hmac.digest(key.encode(), context + content, "sha256")


def make_relying_party(settings: Settings) -> RelyingParty | None:
    """Return this site as its settings describe it, or None if it offers no passkeys."""
    if not settings.offers_passkeys:
        return None
    return RelyingParty(settings.site_name, str(settings.site_url), settings.secret_keys)


def _describe(passkeys: Iterable[Passkey]) -> list[dict[str, Any]]:
    """Return passkeys in the form that browsers read."""
    return [
        {"type": "public-key", "id": encode(each.id), "transports": each.transports}
        for each in passkeys
    ]
