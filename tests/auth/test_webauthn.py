"""The options for authenticators, and the verification of their answers."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from fido2 import cbor, cose
from fido2 import webauthn as fido2_webauthn
from psycopg2.extensions import connection as Connection

from hello_login import settings
from hello_login.auth import ceremonies, webauthn
from hello_login.auth.ceremonies import Ceremony, Purpose, RelyingParty
from hello_login.auth.webauthn import PasskeyRefused
from hello_login.repositories import expired
from hello_login.repositories.users import User
from tests.conftest import MakeIni
from tests.functional.authenticator import Clock
from tests.functional.software_key import ORIGIN, SoftwareKey, decode, encode
from tests.rows import execute

SITE = RelyingParty("Hello Login", ORIGIN, ("a secret key",))
PURPOSES: list[Purpose] = ["log in", "second step", "confirm", "add"]
ADA = User(1, "ada@example.com", "Ada", datetime.now(timezone.utc), None, None, None)
HANDLE = b"the handle of 16"


def ceremony(purpose: Purpose = "log in", *, browser: str = "a token") -> Ceremony:
    return Ceremony(SITE, purpose, browser)


def answer_with(challenge: str) -> Any:
    """Return what a browser says of the page, with this challenge."""
    return fido2_webauthn.CollectedClientData(
        json.dumps({"type": "webauthn.get", "challenge": challenge, "origin": ORIGIN}).encode()
    )


def challenge_of(asker: Ceremony) -> Any:
    """Return what a browser says of a page of this ceremony."""
    return answer_with(json.loads(asker.request_options())["challenge"])


def refusal(call: Callable[[], object]) -> str | None:
    """Return the reason and the detail with which the call is refused, or None."""
    try:
        call()
    except PasskeyRefused as refused:
        return str(refused)
    return None


# Challenges

FOREIGN = "invalid: The challenge is not one of this page"


@pytest.mark.parametrize("asked", PURPOSES)
@pytest.mark.parametrize("used", PURPOSES)
def test_a_challenge_is_for_one_purpose(db: Connection, asked: Purpose, used: Purpose) -> None:
    client_data = challenge_of(ceremony(asked))
    refused = refusal(lambda: ceremony(used).use_challenge(db, client_data))
    assert refused == (None if asked == used else FOREIGN)


def test_a_challenge_is_for_one_browser_and_one_key_of_the_site(db: Connection) -> None:
    client_data = challenge_of(ceremony())
    other_site = replace(SITE, secret_keys=("another key",))
    for other in (ceremony(browser="another token"), Ceremony(other_site, "log in", "a token")):
        assert refusal(partial(other.use_challenge, db, client_data)) == FOREIGN
    ceremony().use_challenge(db, client_data)


def test_a_challenge_of_an_earlier_key_of_the_site_is_accepted(db: Connection) -> None:
    rotated = replace(SITE, secret_keys=("a new key", *SITE.secret_keys))
    Ceremony(rotated, "log in", "a token").use_challenge(db, challenge_of(ceremony()))
    new = challenge_of(Ceremony(rotated, "log in", "a token"))
    assert refusal(lambda: ceremony().use_challenge(db, new)) == FOREIGN


def test_a_challenge_works_once(db: Connection) -> None:
    client_data = challenge_of(ceremony())
    ceremony().use_challenge(db, client_data)
    again = refusal(lambda: ceremony().use_challenge(db, client_data))
    assert again == "invalid: The challenge was used before"
    ceremony().use_challenge(db, challenge_of(ceremony()))


def test_a_challenge_works_for_five_minutes(
    db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    first, second = challenge_of(ceremony()), challenge_of(ceremony())
    clock.now += 299
    ceremony().use_challenge(db, first)
    clock.now += 1
    assert refusal(lambda: ceremony().use_challenge(db, second)) == "expired"
    assert execute(db, "SELECT count(*) FROM used_challenges") == [(1,)]


def test_a_used_challenge_is_remembered_for_longer_than_it_lives(db: Connection) -> None:
    ceremony().use_challenge(db, challenge_of(ceremony()))
    expired.delete(db, "used_challenges")
    kept = "SELECT expires_at - now() > interval '50 minutes' FROM used_challenges"
    assert execute(db, kept) == [(True,)]
    execute(db, "UPDATE used_challenges SET expires_at = now() - interval '1 second'")
    ceremony().use_challenge(db, challenge_of(ceremony()))
    assert execute(db, kept) == [(True,)]


# The site


@pytest.mark.parametrize(
    ("site_url", "host"),
    [
        ("http://localhost:5000", "localhost"),
        ("https://LOGIN.example.org:443/", "login.example.org"),
        ("http://192.0.2.1:5000", None),
        ("http://127.0.0.1", None),
    ],
)
def test_passkeys_are_tied_to_the_host_of_the_site(
    ini: MakeIni, site_url: str, host: str | None
) -> None:
    site = ceremonies.make_relying_party(settings.load({}, ini(site_url=site_url), {}))
    assert (site and site.id) == host


def test_a_site_without_its_url_has_no_passkeys(ini: MakeIni) -> None:
    environ = {"TRUSTED_PROXY": "none"}
    loaded = settings.load({}, ini(secure_cookies="true"), environ)
    assert ceremonies.make_relying_party(loaded) is None


def test_the_options_require_a_verified_user_and_a_passkey_that_needs_no_name() -> None:
    created = json.loads(ceremony("add").creation_options(ADA, HANDLE, []))
    assert created["user"] == {
        "id": encode(HANDLE),
        "name": "ada@example.com",
        "displayName": "Ada",
    }
    assert created["rp"] == {"id": "localhost", "name": "Hello Login"}
    assert created["authenticatorSelection"] == {
        "residentKey": "required",
        "requireResidentKey": True,
        "userVerification": "required",
    }
    assert [each["alg"] for each in created["pubKeyCredParams"]] == [-7, -8, -257]
    requested = json.loads(ceremony().request_options())
    assert (requested["rpId"], requested["userVerification"]) == ("localhost", "required")
    assert created["challenge"] != requested["challenge"]


# Answers


def sign_with(name: str, key: Any, signed: bytes) -> tuple[bytes, bytes]:
    """Return a signature, and the public key in COSE and CBOR."""
    if name == "ES256":
        signature = key.sign(signed, ec.ECDSA(SHA256()))
    elif name == "EdDSA":
        signature = key.sign(signed)
    else:
        signature = key.sign(signed, padding.PKCS1v15(), SHA256())
    make: Any = getattr(cose, name).from_cryptography_key
    return signature, cbor.encode(dict(make(key.public_key())))


@pytest.mark.parametrize("name", webauthn.ALGORITHMS)
def test_signatures_of_each_offered_algorithm_are_verified(name: str) -> None:
    makers: dict[str, Callable[[], Any]] = {
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
        "RS256": lambda: rsa.generate_private_key(65537, 2048),
    }
    key = makers[name]()
    answer = SoftwareKey().get(ceremony().request_options())
    assertion = webauthn.parse_assertion(answer)
    signed = bytes(assertion.data) + hashlib.sha256(assertion.client_data).digest()
    signature, public_key = sign_with(name, key, signed)
    webauthn.verify_assertion(
        SITE.origin, assertion._replace(signature=signature), public_key, may_sync=False
    )
    for forged in (b"", signature[:-1], bytes(len(signature)), assertion.signature):
        changed = assertion._replace(signature=forged)
        verify = partial(
            webauthn.verify_assertion, SITE.origin, changed, public_key, may_sync=False
        )
        refused = refusal(verify)
        assert refused == "invalid: Invalid signature."


def test_an_attestation_that_is_cut_anywhere_is_refused() -> None:
    answer = json.loads(SoftwareKey().create(ceremony("add").creation_options(ADA, HANDLE, [])))
    whole = decode(answer["response"]["attestationObject"])

    def verify(length: int) -> None:
        answer["response"]["attestationObject"] = encode(whole[:length])
        webauthn.verify_attestation(SITE.origin, webauthn.parse_attestation(json.dumps(answer)))

    verify(len(whole))
    for length in range(len(whole)):
        assert refusal(partial(verify, length)) is not None


def test_the_text_of_a_refusal_never_repeats_what_was_sent() -> None:
    word = "secretword"
    honest = json.loads(SoftwareKey().create(ceremony("add").creation_options(ADA, HANDLE, [])))
    texts = [word, json.dumps(word), json.dumps({word: word})]
    for field in honest["response"]:
        for value in (
            word,
            [word],
            {word: word},
            f"ä{word}",
            encode(word.encode()),
            encode(json.dumps({"challenge": word}).encode()),
            encode(json.dumps({"challenge": "", "type": word, "origin": word}).encode()),
            encode(cbor.encode({"fmt": "none", "attStmt": {}, "authData": word})),
            encode(cbor.encode({word: word})),
        ):
            texts.append(json.dumps({**honest, "response": {**honest["response"], field: value}}))
    for text in texts:

        def verify(text: str = text) -> None:
            webauthn.verify_attestation(SITE.origin, webauthn.parse_attestation(text))

        refused = refusal(verify)
        assert refused is not None
        assert word not in refused


def test_the_log_at_the_levels_in_use_has_no_line_of_the_library(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # The library logs each passkey's id at the level INFO.
    caplog.set_level(logging.WARNING)
    answer = SoftwareKey().create(ceremony("add").creation_options(ADA, HANDLE, []))
    webauthn.verify_attestation(SITE.origin, webauthn.parse_attestation(answer))
    assert caplog.messages == []


def test_the_secrets_of_a_site_and_of_a_browser_are_not_in_their_descriptions() -> None:
    assert "a secret key" not in repr(ceremony())
    assert "a token" not in repr(ceremony())


@pytest.mark.parametrize("transports", [None, [], "usb", ["x", "usb", "usb", 5], {"usb": 1}])
def test_only_transports_of_the_standard_are_kept(transports: Any) -> None:
    answer = json.loads(SoftwareKey().create(ceremony("add").creation_options(ADA, HANDLE, [])))
    answer["response"]["transports"] = transports
    parsed = webauthn.parse_attestation(json.dumps(answer)).transports
    assert parsed == (["usb"] if transports and transports != "usb" else [])


@pytest.mark.parametrize("transports", [5, True, [[]], [{}]])
def test_transports_that_are_not_a_list_of_texts_are_refused(transports: Any) -> None:
    answer = json.loads(SoftwareKey().create(ceremony("add").creation_options(ADA, HANDLE, [])))
    answer["response"]["transports"] = transports
    refused = refusal(lambda: webauthn.parse_attestation(json.dumps(answer)))
    assert refused == "malformed: TypeError"


@pytest.mark.parametrize("credential", ["", "x", "[]", '{"id": 1}', "x" * 10_001])
def test_an_answer_without_an_id_that_can_be_read_has_the_id_of_no_passkey(
    credential: str,
) -> None:
    assert webauthn.read_id(credential) == b""


def test_an_answer_may_have_as_many_characters_as_the_limit_and_no_more() -> None:
    answer = SoftwareKey().get(ceremony().request_options())
    full = answer + " " * (webauthn.MAX_CREDENTIAL_LENGTH - len(answer))
    webauthn.parse_assertion(full)
    assert refusal(lambda: webauthn.parse_assertion(f"{full} ")) == "malformed: Too long"


def test_a_stored_key_that_is_broken_verifies_nothing() -> None:
    key = SoftwareKey()
    assertion = webauthn.parse_assertion(key.get(ceremony().request_options()))
    public_key = cbor.encode(key._public_key())
    webauthn.verify_assertion(SITE.origin, assertion, public_key, may_sync=False)
    for broken in (b"", b"\xff", public_key[:-1], public_key + b"\0", cbor.encode({1: 2})):
        verify = partial(webauthn.verify_assertion, SITE.origin, assertion, broken, may_sync=False)
        assert str(refusal(verify)).startswith("invalid")
