"""An authenticator in software that can also forge answers, and the pages that use it."""

import hashlib
import json
import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import webtest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from fido2 import cbor

ORIGIN = "http://localhost:5000"
PRESENT, VERIFIED, MAY_SYNC, SYNCED, NEW_KEY = 0x01, 0x04, 0x08, 0x10, 0x40
"""Flags of the authenticator's data (WebAuthn Level 3, 6.1)."""


class SoftwareKey:
    """An authenticator with one passkey.

    forged: parts of the answer that differ from those of an honest browser and authenticator:
    type, challenge, origin, cross_origin, rp_id, flags, counter, passkey_id, handle, signature,
    attestation,
    public_key.
    """

    def __init__(
        self,
        *,
        model: bytes = bytes(16),
        counts: bool = True,
        flags: int = PRESENT | VERIFIED,
        origin: str = ORIGIN,
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.passkey_id, self.model = os.urandom(32), model
        self.flags, self.origin = flags, origin
        self.counter = 0 if counts else None
        self.handle = b""

    def create(self, options: str, **forged: Any) -> str:
        """Return the answer to the options of a page that adds a passkey."""
        asked = json.loads(options)
        self.handle = decode(asked["user"]["id"])
        forged = {"rp_id": asked["rp"]["id"], "flags": self.flags | NEW_KEY, **forged}
        passkey_id = forged.get("passkey_id", self.passkey_id)
        key = forged.get("public_key", self._public_key())
        new = self.model + len(passkey_id).to_bytes(2, "big") + passkey_id + cbor.encode(key)
        data = self._data(forged) + new * bool(forged["flags"] & NEW_KEY)
        sent = {"fmt": "none", "attStmt": {}, "authData": data, **forged.get("attestation", {})}
        client_data = self._client_data("webauthn.create", asked, forged)
        return self._answer(forged, clientDataJSON=client_data, attestationObject=cbor.encode(sent))

    def get(self, options: str, **forged: Any) -> str:
        """Return the answer to the options of a page that takes a passkey."""
        asked = json.loads(options)
        forged = {"rp_id": asked["rpId"], "flags": self.flags, **forged}
        client_data = self._client_data("webauthn.get", asked, forged)
        data = self._data(forged)
        signed = data + hashlib.sha256(client_data).digest()
        return self._answer(
            forged,
            clientDataJSON=client_data,
            authenticatorData=data,
            signature=forged.get("signature", self.key.sign(signed, ec.ECDSA(SHA256()))),
            userHandle=forged.get("handle", self.handle),
        )

    def _public_key(self) -> dict[int, Any]:
        """Return the public key in COSE (RFC 9053, 7.1.1)."""
        numbers = self.key.public_key().public_numbers()
        x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
        return {1: 2, 3: -7, -1: 1, -2: x, -3: y}

    def _client_data(self, kind: str, asked: Any, forged: dict[str, Any]) -> bytes:
        content = {
            "type": forged.get("type", kind),
            "challenge": forged.get("challenge", asked["challenge"]),
            "origin": forged.get("origin", self.origin),
            "crossOrigin": forged.get("cross_origin", False),
        }
        return json.dumps(content).encode()

    def _data(self, forged: dict[str, Any]) -> bytes:
        if self.counter is not None:
            self.counter += 1
        counter = forged.get("counter", self.counter or 0)
        rp_id = hashlib.sha256(forged["rp_id"].encode()).digest()
        return bytes(rp_id + bytes([forged["flags"]]) + counter.to_bytes(4, "big"))

    def _answer(self, forged: dict[str, Any], **response: bytes) -> str:
        passkey_id = encode(forged.get("passkey_id", self.passkey_id))
        fields = {name: encode(value) for name, value in response.items()}
        return json.dumps(
            {"id": passkey_id, "rawId": passkey_id, "type": "public-key", "response": fields}
        )


def encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "==")


def options_on(page: Any) -> str:
    """Return the options that the page hands to the browser."""
    return str(page.html.find(attrs={"name": "credential"})["data-options"])


def without_challenge(text: str) -> str:
    """Return the text of a page without its challenge, which is another one each time."""
    return re.sub("(?<=&#34;challenge&#34;: &#34;)[^&]*", "", text)


def send_credential(page: Any, credential: str, *, status: int | None = 303) -> Any:
    """Send the page's form with the browser's answer, as the page's script does.

    status: None accepts any.
    """
    form = next(form for form in page.forms.values() if "credential" in form.fields)
    form["credential"] = credential
    return form.submit(status=status or "*")


def add_passkey(
    browser: webtest.TestApp, key: SoftwareKey, *, status: int | None = 303, **forged: Any
) -> Any:
    """Add a passkey, and return the answer.  The first one answers with status 200."""
    page = browser.get("/account/passkeys/add")
    return send_credential(page, key.create(options_on(page), **forged), status=status)


def use_passkey(
    browser: webtest.TestApp,
    key: SoftwareKey,
    *,
    page: str = "/login",
    status: int | None = 303,
    **forged: Any,
) -> Any:
    """Use a passkey on a page, and return the answer."""
    shown = browser.get(page)
    return send_credential(shown, key.get(options_on(shown), **forged), status=status)
