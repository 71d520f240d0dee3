"""Codes of authenticator apps (TOTP, RFC 6238), and the encryption of their secrets."""

import base64
import hmac
import secrets
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from urllib.parse import quote

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.twofactor.hotp import HOTP

DIGITS = 6
STEP_SECONDS = 30
SECRET_BYTES = 20
"""Every authenticator app supports these: SHA-1, 6 digits, 30 seconds, 160 bits (RFC 4226, 4)."""

ACCEPTED_STEPS = 1
"""Codes of this many steps before and after the current one are accepted (RFC 6238, 5.2)."""

HINTED_STEPS = 10
"""A code of this many steps before or after shows that the app's clock is wrong: five minutes."""


class SecretUnreadable(Exception):
    """None of the keys in SECRET_KEY decrypts the secret."""


class SecretBox:
    """Encrypts the secrets of authenticator apps, and other texts, with keys from SECRET_KEY.

    The newest key encrypts, and all decrypt.  An encrypted secret is tied to its account: nobody
    who can write to the database can give an account the secret of another one.
    """

    def __init__(self, secret_keys: Sequence[str], purpose: str) -> None:
        """Derive the keys.

        purpose: a secret that is encrypted for one purpose can't be decrypted for another.
        """
        self._fernet = MultiFernet([Fernet(_derive(key, purpose)) for key in secret_keys])

    def encrypt(self, user_id: int, secret: bytes) -> bytes:
        """Return the encrypted secret of this account, as ASCII characters."""
        return self._fernet.encrypt(b"%d:%s" % (user_id, secret))

    def decrypt(self, user_id: int, encrypted: bytes, lifetime: timedelta | None = None) -> bytes:
        """Return the secret of this account.

        lifetime: the time since the encryption after which it is refused.
        Raises SecretUnreadable.
        """
        try:
            seconds = int(lifetime.total_seconds()) if lifetime else None
            owner, _, secret = self._fernet.decrypt(encrypted, seconds).partition(b":")
        except InvalidToken:
            raise SecretUnreadable from None
        if owner != b"%d" % user_id:
            raise SecretUnreadable
        return secret


def _derive(secret_key: str, purpose: str) -> bytes:
    derived = HKDF(SHA256(), 32, salt=None, info=purpose.encode()).derive(secret_key.encode())
    return base64.urlsafe_b64encode(derived)


def make_secret() -> bytes:
    """Return a new random secret."""
    return secrets.token_bytes(SECRET_BYTES)


def current_step() -> int:
    """Return the number of the current step."""
    return int(time.time()) // STEP_SECONDS


def code_at(secret: bytes, step: int) -> str:
    """Return the code of this step."""
    return HOTP(secret, DIGITS, SHA1()).generate(step).decode()  # noqa: S303 - RFC 6238's default


def find_step(secret: bytes, code: str, steps: Iterable[int]) -> int | None:
    """Return the first of these steps that has this code, or None."""
    for step in steps:
        if hmac.compare_digest(code_at(secret, step), code):
            return step
    return None


def steps_around(step: int, distance: int) -> list[int]:
    """Return the steps up to this distance from a step, the nearest ones first."""
    steps = range(step - distance, step + distance + 1)
    return sorted(steps, key=lambda each: abs(each - step))


def as_text(secret: bytes) -> str:
    """Return the secret in base32, as people type it into an app."""
    return base64.b32encode(secret).decode()


def make_uri(secret: bytes, *, issuer: str, account: str) -> str:
    """Return the URI that apps read from a QR code (Google Authenticator's Key URI Format)."""
    site, label = quote(issuer, safe=""), quote(account, safe="")
    return f"otpauth://totp/{site}:{label}?secret={as_text(secret)}&issuer={site}"
