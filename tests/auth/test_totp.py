"""Codes of authenticator apps, and the encryption of their secrets."""

import base64
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest

from hello_login.auth import totp
from hello_login.auth.totp import SecretBox, SecretUnreadable
from tests.conftest import SECRET_KEY
from tests.functional.authenticator import Clock

RFC_SECRET = b"12345678901234567890"
RFC_VECTORS = {
    59: "94287082",
    1111111109: "07081804",
    1111111111: "14050471",
    1234567890: "89005924",
    2000000000: "69279037",
    20000000000: "65353130",
}
"""RFC 6238, appendix B: the codes for SHA-1, with eight digits, at these times."""

ADA, GRACE = 1, 11


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stop the clock."""
    return Clock(monkeypatch)


@pytest.mark.parametrize(("moment", "code"), RFC_VECTORS.items())
def test_codes_are_those_of_rfc_6238_with_six_digits(clock: Clock, moment: int, code: str) -> None:
    clock.now = moment
    assert totp.code_at(RFC_SECRET, totp.current_step()) == code[-6:]


def test_codes_are_those_of_another_implementation() -> None:
    secret = totp.make_secret()
    app = pyotp.TOTP(totp.as_text(secret))
    for step in (0, 1, 59_000_000, 10**9):
        assert totp.code_at(secret, step) == app.at(step * 30)


def test_a_secret_has_160_random_bits() -> None:
    secrets = {totp.make_secret() for _ in range(100)}
    assert {len(secret) for secret in secrets} == {20}
    assert len(secrets) == 100


def test_a_step_begins_every_thirty_seconds(clock: Clock) -> None:
    steps = []
    for moment in (0, 29.9, 30, 59.9, 60):
        clock.now = moment
        steps.append(totp.current_step())
    assert steps == [0, 0, 1, 1, 2]


def test_the_nearest_of_the_steps_with_a_code_is_found() -> None:
    assert totp.steps_around(100, 2) == [100, 99, 101, 98, 102]
    code = totp.code_at(RFC_SECRET, 99)
    assert totp.find_step(RFC_SECRET, code, [100, 99, 101]) == 99
    assert totp.find_step(RFC_SECRET, code, [100, 101]) is None


def test_apps_read_the_secret_and_the_account_from_the_uri() -> None:
    uri = totp.make_uri(RFC_SECRET, issuer="Hello Login", account="ada+x&y?z@example.com")
    app = pyotp.parse_uri(uri)
    assert isinstance(app, pyotp.TOTP)
    assert base64.b32decode(app.secret) == RFC_SECRET
    assert (app.issuer, app.name) == ("Hello Login", "ada+x&y?z@example.com")
    assert app.at(59) == RFC_VECTORS[59][-6:]
    assert set(parse_qs(urlsplit(uri).query)) == {"secret", "issuer"}


def test_a_slash_in_a_name_is_encoded_in_the_uri() -> None:
    uri = totp.make_uri(RFC_SECRET, issuer="Notes/Beta", account="ada/x@example.com")
    assert urlsplit(uri).path == "/Notes%2FBeta:ada%2Fx%40example.com"
    app: Any = pyotp.parse_uri(uri)
    assert (app.issuer, app.name) == ("Notes/Beta", "ada/x@example.com")


def test_an_encrypted_secret_is_decrypted_for_its_account_only() -> None:
    box = SecretBox([SECRET_KEY], "totp")
    encrypted = box.encrypt(ADA, RFC_SECRET)
    assert box.decrypt(ADA, encrypted) == RFC_SECRET
    with pytest.raises(SecretUnreadable):
        box.decrypt(GRACE, encrypted)


def test_any_bytes_are_encrypted() -> None:
    box = SecretBox([SECRET_KEY], "totp")
    for secret in (b"", b":", b"11:", bytes(range(256))):
        assert box.decrypt(ADA, box.encrypt(ADA, secret)) == secret


def test_an_encrypted_secret_contains_no_part_of_it() -> None:
    box = SecretBox([SECRET_KEY], "totp")
    first, second = box.encrypt(ADA, RFC_SECRET), box.encrypt(ADA, RFC_SECRET)
    assert first != second
    for encrypted in (first, second):
        raw = base64.urlsafe_b64decode(encrypted)
        assert RFC_SECRET[:4] not in encrypted + raw
        assert totp.as_text(RFC_SECRET)[:8].encode() not in encrypted + raw


def test_a_secret_encrypted_for_one_purpose_is_not_decrypted_for_another() -> None:
    encrypted = SecretBox([SECRET_KEY], "totp set-up").encrypt(ADA, RFC_SECRET)
    with pytest.raises(SecretUnreadable):
        SecretBox([SECRET_KEY], "totp").decrypt(ADA, encrypted)


def test_the_newest_key_encrypts_and_all_keys_decrypt() -> None:
    old, new = "an earlier key, " * 3, "a newer key, " * 3
    by_old = SecretBox([old], "totp").encrypt(ADA, RFC_SECRET)
    both = SecretBox([new, old], "totp")
    assert both.decrypt(ADA, by_old) == RFC_SECRET
    by_new = both.encrypt(ADA, RFC_SECRET)
    assert SecretBox([new], "totp").decrypt(ADA, by_new) == RFC_SECRET
    with pytest.raises(SecretUnreadable):
        SecretBox([old], "totp").decrypt(ADA, by_new)


@pytest.mark.parametrize(
    "encrypted", [b"", b"x", b"?" * 500, b"\xff\x00", b"gAAAAA==", b"gAAAAA" + b"A" * 200]
)
def test_text_that_was_not_encrypted_is_not_decrypted(encrypted: bytes) -> None:
    with pytest.raises(SecretUnreadable):
        SecretBox([SECRET_KEY], "totp").decrypt(ADA, encrypted)


def test_a_changed_secret_is_not_decrypted() -> None:
    box = SecretBox([SECRET_KEY], "totp")
    raw = bytearray(base64.urlsafe_b64decode(box.encrypt(ADA, RFC_SECRET)))
    for position in range(len(raw)):
        changed = raw.copy()
        changed[position] ^= 1
        with pytest.raises(SecretUnreadable):
            box.decrypt(ADA, base64.urlsafe_b64encode(changed))


def test_a_secret_is_decrypted_during_its_lifetime_only(clock: Clock) -> None:
    box, hour = SecretBox([SECRET_KEY], "totp"), timedelta(hours=1)
    encrypted = box.encrypt(ADA, RFC_SECRET)
    clock.now += 3600
    assert box.decrypt(ADA, encrypted, hour) == RFC_SECRET
    clock.now += 1
    with pytest.raises(SecretUnreadable):
        box.decrypt(ADA, encrypted, hour)
    assert box.decrypt(ADA, encrypted) == RFC_SECRET
