"""Parses and verifies the answers of authenticators (WebAuthn Level 3).

The library fido2 does most of the work.  It is imported where a passkey is used and nowhere else,
because its import takes time and memory that most processes do not need.
"""

import json
import logging
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from fido2.server import Fido2Server
    from fido2.webauthn import AttestationObject, AuthenticatorData, CollectedClientData

MAX_CREDENTIAL_LENGTH = 10_000
"""Characters of a browser's answer in JSON.  Those of today's authenticators have up to 3,000."""

MAX_ID_LENGTH = 1023
"""Bytes of a passkey's id (WebAuthn Level 3, 4: Credential ID)."""

TRANSPORTS = {"ble", "hybrid", "internal", "nfc", "smart-card", "usb"}
"""How browsers reach authenticators (WebAuthn Level 3, 5.8.4)."""

RSA_BITS = range(2048, 4097)
RSA_EXPONENT = 65537
"""The length and the exponent of authenticators' RSA keys.  With others, a check could be weak or
take long."""

ALGORITHMS = {"ES256": -7, "EdDSA": -8, "RS256": -257}
"""Signature algorithms, by their numbers in COSE.  Every authenticator has one of them."""

Reason = Literal[
    "malformed",
    "expired",
    "invalid",
    "unknown",
    "other_account",
    "deactivated",
    "copied",
    "taken",
    "too_many",
]


class PasskeyRefused(Exception):
    """A passkey was refused.

    reason: malformed: the answer can't be parsed; expired: the page was open for too long; unknown:
    no account has the passkey; other_account: another one has it; deactivated: its account is;
    invalid: the answer proves nothing; copied: the counter has not gone up, so there may be a copy
    of the passkey; taken: an account has the new passkey already; too_many: the account has
    MAX_PASSKEYS.
    detail: the check that failed, for the log.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class Assertion(NamedTuple):
    """A browser's answer to request_options()."""

    passkey_id: bytes
    handle: bytes
    """The account's name in the authenticator, or b"" if it was left out."""

    client_data: "CollectedClientData"
    data: "AuthenticatorData"
    signature: bytes


class Attestation(NamedTuple):
    """A browser's answer to creation_options()."""

    passkey_id: bytes
    transports: list[str]
    client_data: "CollectedClientData"
    object: "AttestationObject"


def read_id(credential: str) -> bytes:
    """Return the passkey's id in a browser's answer, or b"" if the answer is malformed."""
    with suppress(PasskeyRefused):
        return _parse(credential)["id"]
    return b""


def parse_assertion(credential: str) -> Assertion:
    """Return a browser's answer.  credential: in JSON.  Raises PasskeyRefused."""
    from fido2 import webauthn

    fields = _parse(credential, "clientDataJSON", "authenticatorData", "signature")
    with _refusing("malformed"):
        return Assertion(
            fields["id"],
            fields["userHandle"],
            _read_client_data(fields["clientDataJSON"]),
            webauthn.AuthenticatorData(fields["authenticatorData"]),
            fields["signature"],
        )


def parse_attestation(credential: str) -> Attestation:
    """Return a browser's answer.  credential: in JSON.  Raises PasskeyRefused."""
    from fido2 import cbor, webauthn

    fields = _parse(credential, "clientDataJSON", "attestationObject")
    with _refusing("malformed"):
        # With a number here, fido2 would reserve as many bytes.
        decoded: Any = cbor.decode(fields["attestationObject"])
        if not isinstance(decoded["authData"], bytes):
            raise TypeError
        transports = json.loads(credential)["response"].get("transports") or []
        return Attestation(
            fields["id"],
            sorted(TRANSPORTS.intersection(transports)),
            _read_client_data(fields["clientDataJSON"]),
            webauthn.AttestationObject(fields["attestationObject"]),
        )


def verify_assertion(
    origin: str, assertion: Assertion, public_key: bytes, *, may_sync: bool
) -> None:
    """Check that an authenticator has signed the answer with this key, on a page of the origin.

    public_key: a COSE key, in CBOR.  may_sync: the authenticator said so when it made the passkey.
    Raises PasskeyRefused.
    """
    from fido2 import webauthn

    passkey_id, client_data, data = assertion.passkey_id, assertion.client_data, assertion.data
    with _refusing("invalid"):
        # fido2 takes a key in the form of a new one, which has the authenticator's model first.
        length = len(passkey_id).to_bytes(2, "big")
        key = webauthn.AttestedCredentialData(bytes(16) + length + passkey_id + public_key)
        response = webauthn.AuthenticatorAssertionResponse(
            client_data=client_data, authenticator_data=data, signature=assertion.signature
        )
        answer = webauthn.AuthenticationResponse(raw_id=passkey_id, response=response)
        _make_server(origin).authenticate_complete(_make_state(client_data), [key], answer)
        _require_sound(client_data, data)
        if data.is_backup_eligible() != may_sync:
            raise ValueError("The passkey could not be synced before, or could.")


def verify_attestation(origin: str, attestation: Attestation) -> bytes:
    """Return the public key of a new passkey that was made on a page of the origin, in CBOR.

    Raises PasskeyRefused.
    """
    from fido2 import cbor, webauthn

    passkey_id, client_data = attestation.passkey_id, attestation.client_data
    with _refusing("invalid"):
        response = webauthn.AuthenticatorAttestationResponse(
            client_data=client_data, attestation_object=attestation.object
        )
        answer = webauthn.RegistrationResponse(raw_id=passkey_id, response=response)
        data = _make_server(origin).register_complete(_make_state(client_data), answer)
        _require_sound(client_data, data)
        new: Any = data.credential_data
        if new.credential_id != passkey_id or not 0 < len(passkey_id) <= MAX_ID_LENGTH:
            raise ValueError("Wrong credential ID.")
        _require_usable(new.public_key)
        return bytes(cbor.encode(new.public_key))


def host_of(origin: str) -> str:
    """Return the host of an origin, to which each passkey is tied."""
    return str(urlsplit(origin).hostname)


def encode(data: bytes) -> str:
    """Return the data in base64url without padding, as WebAuthn has it."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _parse(credential: str, *names: str) -> dict[str, bytes]:
    """Return the id, the user handle, and the named fields of a browser's answer.

    userHandle: b"" if there is none.  Raises PasskeyRefused.
    """
    if len(credential) > MAX_CREDENTIAL_LENGTH:
        raise PasskeyRefused("malformed", "Too long")
    with _refusing("malformed"):
        sent = json.loads(credential)
        fields = {"userHandle": "", **sent["response"], "id": sent["id"]}
        encoded = {name: fields[name] or "" for name in ("id", "userHandle", *names)}
        # The function takes base64 as well as base64url, and too much padding.
        return {name: urlsafe_b64decode(text + "==") for name, text in encoded.items()}


@contextmanager
def _refusing(reason: Reason) -> Iterator[None]:
    """Raise PasskeyRefused in place of any exception: malformed input causes every kind."""
    try:
        yield
    except Exception as error:
        # Other texts may repeat the input, which must not enter the log.
        detail = str(error) if type(error) is ValueError else type(error).__name__
        raise PasskeyRefused(reason, detail) from None


def _read_client_data(content: bytes) -> "CollectedClientData":
    """Return the browser's description of the page.  Raises an exception if it can't be parsed."""
    from fido2.webauthn import CollectedClientData

    # With a number here, fido2 would reserve as many bytes.
    if not isinstance(json.loads(content.decode())["challenge"], str):
        raise TypeError
    return CollectedClientData(content)


def _make_server(origin: str) -> "Fido2Server":
    """Return fido2's server: it checks type, origin, site, user verification and signature."""
    from fido2.server import Fido2Server
    from fido2.webauthn import PublicKeyCredentialRpEntity

    logging.getLogger("fido2").setLevel(logging.WARNING)  # Below, it logs the ids of passkeys.
    host = host_of(origin)
    # By default, fido2 accepts the pages of subdomains, and of other ports.
    return Fido2Server(
        PublicKeyCredentialRpEntity(name=host, id=host), verify_origin=lambda used: used == origin
    )


def _make_state(client_data: "CollectedClientData") -> dict[str, str]:
    """Return the state that fido2 compares with.  use_challenge() has checked the challenge."""
    return {"challenge": encode(client_data.challenge), "user_verification": "required"}


def _require_sound(client_data: "CollectedClientData", data: "AuthenticatorData") -> None:
    """Raise ValueError for an answer that only fido2 accepts: see WebAuthn Level 3, 7.1 and 7.2."""
    if client_data.cross_origin:
        raise ValueError("The page was in a frame of another origin.")
    if data.is_backed_up() and not data.is_backup_eligible():
        raise ValueError("A passkey that can't be synced is synced.")


def _require_usable(key: Any) -> None:
    """Raise an exception unless signatures of this public key can be verified."""
    from cryptography.exceptions import InvalidSignature

    if key.ALGORITHM not in ALGORITHMS.values():
        raise ValueError("The algorithm of the key was not offered.")
    if ALGORITHMS["RS256"] == key.ALGORITHM:
        modulus, exponent = (int.from_bytes(key[part], "big") for part in (-1, -2))
        odd = modulus % 2 == 1  # With an even modulus, OpenSSL verifies nothing.
        if modulus.bit_length() not in RSA_BITS or not odd or exponent != RSA_EXPONENT:
            raise ValueError("The RSA key is unusual.")
    with suppress(InvalidSignature):
        key.verify(b"", b"")
