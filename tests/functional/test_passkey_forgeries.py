"""Forged passkeys: each page refuses them, and the log says which check failed."""

import json
import logging
import os
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import pytest
import webtest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fido2 import cbor, cose
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

import hello_login
from hello_login.auth import rate_limits
from hello_login.db import transactions
from tests.conftest import MakeIni
from tests.functional.authenticator import Clock
from tests.functional.mail_site import WAITING_FOR_LOCKS
from tests.functional.software_key import (
    MAY_SYNC,
    NEW_KEY,
    PRESENT,
    SYNCED,
    VERIFIED,
    SoftwareKey,
    add_passkey,
    decode,
    encode,
    options_on,
    send_credential,
)
from tests.people import csrf_token, log_in, register
from tests.rows import execute

LOGIN, SECOND, CONFIRM, ADD = "/login", "/login/second", "/account/confirm", "/account/passkeys/add"
EVENTS = {
    LOGIN: "login_failed",
    SECOND: "second_failed",
    CONFIRM: "check_failed",
    ADD: "check_failed",
}
"""The pages that take a passkey, and the event of one that is refused."""

USES = (LOGIN, SECOND, CONFIRM)
"""The pages that take a passkey of the account."""

SECONDS = 1.0
"""The longest processor time of a refusal.  A refusal needs about a hundredth of it."""

MANY_BYTES = 2**26
"""A number of which bytes() makes 64 MiB."""

EMPTY: list[Any] = ["", None, 0, [], {}, False]

GRACE = "grace@example.com"

every_page = pytest.mark.parametrize("path", EVENTS)
every_use = pytest.mark.parametrize("path", USES)


class Site:
    """A site on which Ada has a passkey; her browser is logged in."""

    def __init__(self, app: Any, db: Connection, caplog: pytest.LogCaptureFixture) -> None:
        self.app, self.db, self.caplog = app, db, caplog
        self._pages: dict[str, Any] = {}
        self.ada, self.key = self.open_browser(), SoftwareKey()
        register(self.ada)
        add_passkey(self.ada, self.key, status=200)

    def open_browser(self) -> webtest.TestApp:
        """Return a browser without cookies."""
        environ = {
            "HTTP_HOST": "localhost",
            "HTTP_ACCEPT": "text/html",
            "REMOTE_ADDR": "192.0.2.1",
        }
        return webtest.TestApp(self.app, extra_environ=environ)

    def open(self, path: str) -> Any:
        """Return the page, in Ada's browser or in one that is not logged in."""
        browser = self.ada if path in (CONFIRM, ADD) else self.open_browser()
        if path == SECOND:
            log_in(browser)
        return browser.get(path)

    def answer(self, path: str, page: Any, **forged: Any) -> str:
        """Return what Ada's authenticator answers to the page; to ADD, a new one answers."""
        if path != ADD:
            return self.key.get(options_on(page), **forged)
        if "flags" in forged:
            forged["flags"] |= NEW_KEY
        return SoftwareKey().create(options_on(page), **forged)

    def refuse(self, path: str, reason: str, **forged: Any) -> None:
        """Send a forged answer to the page, and check that it is refused.

        forged: as that of a SoftwareKey; response: fields of its answer.
        """
        page = self._pages.get(path) or self.open(path)
        response = forged.pop("response", {})
        credential = change(self.answer(path, page, **forged), **response)
        self._pages[path] = self.refuse_answer(path, page, credential, reason)

    def refuse_answer(self, path: str, page: Any, credential: str, reason: str) -> Any:
        """Send an answer, and check that it is refused, logged, and changes nothing.

        reason: how the text in the log begins, in small letters.  Returns the answer's page.
        """
        self.caplog.clear()
        before, began = self._state(), time.process_time()
        answered = send_credential(page, credential, status=422)
        assert time.process_time() - began < SECONDS
        assert self._state() == before
        assert "session=" not in str(answered.headers.getall("Set-Cookie"))
        (warning,) = [
            each.getMessage() for each in self.caplog.records if each.levelno == logging.WARNING
        ]
        assert warning.lower().startswith(f"a passkey was refused: {reason}"), credential
        assert (EVENTS[path] in self.caplog.messages) == (reason != "expired")
        return answered

    def _state(self) -> list[tuple[Any, ...]]:
        """Return what a passkey that is accepted would change."""
        return [
            *execute(self.db, "SELECT id, authenticated_at FROM sessions ORDER BY id"),
            *execute(self.db, "SELECT id, sign_count, last_used_at FROM passkeys ORDER BY id"),
        ]


@pytest.fixture(scope="module")
def app(ini: MakeIni, shared_url: str) -> Any:
    return hello_login.main({}, **ini(database_url=shared_url))


@pytest.fixture
def site(
    app: Any,
    emptied_url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Site]:
    """Return a site that commits, so that it writes to the security log, without rate limits."""
    caplog.set_level(logging.INFO, "hello_login")
    monkeypatch.setattr(rate_limits, "MAX_PER_NETWORK", 10**6)
    monkeypatch.setattr(rate_limits, "MAX_PER_DEVICE", 10**6)
    monkeypatch.setattr(rate_limits, "MAX_FACTOR_CHANGES", 10**6)
    with closing(psycopg2.connect(emptied_url)) as db:
        db.autocommit = True
        yield Site(app, db, caplog)


@contextmanager
def no_memory_reserved() -> Iterator[None]:
    """Check that no more than some MiB are in use at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MANY_BYTES / 8
    finally:
        tracemalloc.stop()


def change(credential: str, **fields: Any) -> str:
    """Return the answer with other fields: id, or those of its response."""
    content = json.loads(credential)
    if "id" in fields:
        content["id"] = fields.pop("id")
    content["response"].update(fields)
    return json.dumps(content)


@every_page
def test_an_honest_answer_is_accepted_by_each_page(site: Site, path: str) -> None:
    page = site.open(path)
    send_credential(page, site.answer(path, page), status=303)


# The data of the browser

ORIGINS = [
    "https://localhost:5000",
    "http://localhost:5001",
    "http://localhost",
    "http://www.localhost:5000",
    "http://localhost.evil.example:5000",
    "http://localhost:5000/",
    "HTTP://LOCALHOST:5000",
    "https://evil.example",
    "android:apk-key-hash:AAAA",
    "null",
    "",
    None,
    5000,
    ["http://localhost:5000"],
]


@every_page
def test_an_answer_from_another_origin_is_refused(site: Site, path: str) -> None:
    for origin in ORIGINS:
        site.refuse(path, "invalid: invalid origin", origin=origin)


@every_page
def test_an_answer_from_a_frame_of_another_origin_is_refused(site: Site, path: str) -> None:
    for said in (True, 1, "false", {"a": 1}):
        site.refuse(path, "invalid: the page was in a frame", cross_origin=said)


@every_page
def test_an_answer_of_another_kind_is_refused(site: Site, path: str) -> None:
    other = "webauthn.get" if path == ADD else "webauthn.create"
    kinds: list[Any] = [other, "payment.get", "WEBAUTHN.GET", "", None, []]
    for kind in kinds:
        site.refuse(path, "invalid: incorrect type", type=kind)


CLIENT_DATA = [
    b"",
    b"\xff",
    b"{}",
    b"[]",
    b"1",
    b"1" * 6000,
    b"[" * 6000,
    b"null",
    '{"challenge": "AAAA"}'.encode("utf-16"),
]


@every_page
def test_client_data_that_cannot_be_read_is_refused(site: Site, path: str) -> None:
    for client_data in CLIENT_DATA:
        site.refuse(path, "malformed", response={"clientDataJSON": encode(client_data)})


# The challenge

FOREIGN = "invalid: the challenge is not one of this page"


@every_page
def test_a_challenge_is_used_up_by_a_refused_answer(site: Site, path: str) -> None:
    page = site.open(path)
    site.refuse_answer(path, page, site.answer(path, page, rp_id="evil.example"), "invalid")
    site.refuse_answer(
        path, page, site.answer(path, page), "invalid: the challenge was used before"
    )


def test_a_replayed_answer_does_not_log_in(site: Site) -> None:
    page = site.open(LOGIN)
    # Without a counter, only the challenge shows that the answer is a replay.
    execute(site.db, "UPDATE passkeys SET sign_count = 0")
    credential = site.key.get(options_on(page), counter=0)
    thief = site.open_browser()
    for name, value in page.test_app.cookies.items():
        thief.set_cookie(name, value.strip('"'))
    page_of_thief = thief.get(LOGIN)
    send_credential(page, credential)
    token = page.forms[0]["csrf_token"].value
    assert page_of_thief.forms[0]["csrf_token"].value == token
    site.refuse_answer(LOGIN, page_of_thief, credential, "invalid: the challenge was used before")


def test_the_same_answer_in_twenty_requests_at_once_logs_in_once(
    site: Site, emptied_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "LOCK_TIMEOUT_SECONDS", 30)
    monkeypatch.setattr(transactions, "STATEMENT_TIMEOUT_SECONDS", 60)
    page = site.open(LOGIN)
    execute(site.db, "UPDATE passkeys SET sign_count = 0")
    form = page.forms[0]
    form["credential"] = site.key.get(options_on(page), counter=0)
    fields = form.submit_fields()
    cookies = "; ".join(f"{name}={value}" for name, value in page.test_app.cookies.items())

    def submit() -> Any:
        return site.open_browser().post(LOGIN, fields, headers={"Cookie": cookies}, status="*")

    with closing(psycopg2.connect(emptied_url)) as holder, ThreadPoolExecutor(20) as threads:
        execute(holder, "SELECT FROM users FOR UPDATE")
        running = [threads.submit(submit) for _ in range(20)]
        while execute(site.db, WAITING_FOR_LOCKS) != [(20,)]:
            assert not any(each.done() for each in running)
            time.sleep(0.01)
        holder.commit()
        answers = [each.result(60) for each in running]
    assert Counter(each.status_int for each in answers) == {303: 1, 422: 19}
    assert execute(site.db, "SELECT count(*) FROM sessions") == [(2,)]


@every_page
def test_a_challenge_expires_after_five_minutes(
    site: Site, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    page = site.open(path)
    clock.now += 5 * 60
    page = site.refuse_answer(path, page, site.answer(path, page), "expired")
    clock.now += 5 * 60 - 1
    send_credential(page, site.answer(path, page), status=303)


@every_page
def test_a_challenge_of_another_browser_is_refused(site: Site, path: str) -> None:
    other = site.open_browser()
    if path == SECOND:
        log_in(other)
    if path in (CONFIRM, ADD):
        register(other, email=GRACE)
        add_passkey(other, SoftwareKey(), status=200)
    challenge = json.loads(options_on(other.get(path)))["challenge"]
    site.refuse(path, FOREIGN, challenge=challenge)


@pytest.mark.parametrize(("path", "other"), [(CONFIRM, ADD), (ADD, CONFIRM)])
def test_a_challenge_for_another_purpose_is_refused(site: Site, path: str, other: str) -> None:
    # Both pages are in one session.  tests/auth/test_webauthn.py has all other pairs.
    challenge = json.loads(options_on(site.open(other)))["challenge"]
    site.refuse(path, FOREIGN, challenge=challenge)


@every_page
def test_a_challenge_that_the_site_has_not_made_is_refused(site: Site, path: str) -> None:
    made = decode(json.loads(options_on(site.open(path)))["challenge"])
    later = int(time.time() + 3600).to_bytes(8, "big")
    for challenge in (
        b"",
        os.urandom(56),
        later + made[8:],
        made[:24] + os.urandom(32),
        made[:-1],
        made + b"\0",
    ):
        site.refuse(path, FOREIGN, challenge=encode(challenge))


@every_page
def test_a_challenge_that_is_not_base64_is_refused_without_reserving_memory(
    site: Site, path: str
) -> None:
    challenges: list[Any] = [MANY_BYTES, 1, 0, -1, True, None, [1], {}, "A", "ä", "\ud800"]
    for challenge in challenges:
        with no_memory_reserved():
            site.refuse(path, "malformed", challenge=challenge)


# The data of the authenticator


@every_page
def test_an_answer_for_another_site_is_refused(site: Site, path: str) -> None:
    for rp_id in ("evil.example", "www.localhost", "localhost:5000", ""):
        site.refuse(path, "invalid: wrong rp id hash", rp_id=rp_id)


@every_page
def test_an_answer_without_the_required_flags_is_refused(site: Site, path: str) -> None:
    site.refuse(path, "invalid: user verification required", flags=PRESENT)
    site.refuse(path, "invalid: user present flag not set", flags=VERIFIED)
    site.refuse(path, "invalid: user present flag not set", flags=0)
    synced = PRESENT | VERIFIED | SYNCED
    site.refuse(path, "invalid: a passkey that can't be synced is synced", flags=synced)


@every_use
def test_a_passkey_that_may_be_synced_stays_so(site: Site, path: str) -> None:
    changed = "invalid: the passkey could not be synced before, or could"
    for flags in (MAY_SYNC, MAY_SYNC | SYNCED):
        site.refuse(path, changed, flags=PRESENT | VERIFIED | flags)
    execute(site.db, "UPDATE passkeys SET may_sync = true")
    site.refuse(path, changed)
    page = site.open(path)
    credential = site.answer(path, page, flags=PRESENT | VERIFIED | MAY_SYNC | SYNCED)
    send_credential(page, credential)


@pytest.mark.parametrize("flags", [0, MAY_SYNC, MAY_SYNC | SYNCED])
def test_a_new_passkey_may_be_synced(site: Site, flags: int) -> None:
    add_passkey(site.ada, SoftwareKey(flags=PRESENT | VERIFIED | flags))


@every_use
def test_a_wrong_signature_is_refused(site: Site, path: str) -> None:
    for signature in (b"", b"\0", b"\x30\x06\2\1\0\2\1\0", b"\xff" * 5000):
        site.refuse(path, "invalid: invalid signature", signature=signature)
    site.key.key = ec.generate_private_key(ec.SECP256R1())
    site.refuse(path, "invalid: invalid signature")


@every_use
def test_data_that_was_changed_after_the_signature_is_refused(site: Site, path: str) -> None:
    page = site.open(path)
    for name, old, new in (
        ("clientDataJSON", b"{", b"{ "),
        ("authenticatorData", b"\0", b"\1"),
    ):
        credential = site.answer(path, page)
        signed = decode(json.loads(credential)["response"][name])
        changed = new.join(signed.rsplit(old, 1))
        assert changed != signed
        credential = change(credential, **{name: encode(changed)})
        page = site.refuse_answer(path, page, credential, "invalid: invalid signature")


@every_use
def test_a_counter_that_does_not_go_up_is_refused(site: Site, path: str) -> None:
    execute(site.db, "UPDATE passkeys SET sign_count = 100")
    for counter in (99, 100, 1, 0):
        site.refuse(path, "copied", counter=counter)


@every_use
@pytest.mark.parametrize(("stored", "counter"), [(0, 0), (0, 1), (1, 2**32 - 1)])
def test_a_counter_that_goes_up_or_stays_zero_is_accepted(
    site: Site, path: str, stored: int, counter: int
) -> None:
    execute(site.db, "UPDATE passkeys SET sign_count = %s", stored)
    page = site.open(path)
    send_credential(page, site.answer(path, page, counter=counter), status=303)
    assert execute(site.db, "SELECT sign_count FROM passkeys") == [(counter,)]


@every_use
def test_data_of_an_authenticator_that_is_cut_or_too_long_is_refused(site: Site, path: str) -> None:
    data = decode(json.loads(site.answer(path, site.open(path)))["response"]["authenticatorData"])
    for changed in (
        *(data[:length] for length in range(len(data))),
        data + b"\0",
        data[:32] + b"\xc5" + data[33:],
        data[:32] + b"\x85" + data[33:] + b"\x81" * 6000,
        data * 150,
    ):
        site.refuse(path, "malformed", response={"authenticatorData": encode(changed)})


# The account of a passkey


def add_grace(site: Site) -> SoftwareKey:
    """Register Grace with a passkey, and return its authenticator."""
    browser, key = site.open_browser(), SoftwareKey()
    register(browser, email=GRACE)
    add_passkey(browser, key, status=200)
    return key


@pytest.mark.parametrize("path", [SECOND, CONFIRM])
def test_a_passkey_of_another_account_is_refused(site: Site, path: str) -> None:
    ada, site.key = site.key, add_grace(site)
    for handle in (site.key.handle, ada.handle, b""):
        site.refuse(path, "other_account", handle=handle)
    execute(site.db, "UPDATE users SET deactivated_at = now() WHERE email = %s", GRACE)
    site.refuse(path, "deactivated")


def test_a_passkey_with_another_accounts_handle_logs_nobody_in(site: Site) -> None:
    ada, site.key = site.key, add_grace(site)
    site.refuse(LOGIN, "invalid: wrong user handle", handle=ada.handle)


@every_use
def test_a_wrong_user_handle_is_refused(site: Site, path: str) -> None:
    for handle in (os.urandom(16), b"\0", b"a" * 5000):
        site.refuse(path, "invalid: wrong user handle", handle=handle)


def test_a_login_needs_the_user_handle(site: Site) -> None:
    for handle in EMPTY:
        site.refuse(LOGIN, "invalid: wrong user handle", response={"userHandle": handle})


@pytest.mark.parametrize("path", [SECOND, CONFIRM])
def test_a_page_that_names_the_passkeys_needs_no_user_handle(site: Site, path: str) -> None:
    page = site.open(path)
    send_credential(page, change(site.answer(path, page), userHandle=None), status=303)


@every_use
def test_an_unknown_passkey_is_refused(site: Site, path: str) -> None:
    for passkey_id in (b"", b"a" * 32, b"a" * 1024, b"a" * 3000):
        site.refuse(path, "unknown", passkey_id=passkey_id)


# New passkeys


def test_a_new_passkey_with_an_id_of_a_wrong_length_is_refused(site: Site) -> None:
    for length in (0, 1024, 1700):
        site.refuse(ADD, "invalid: wrong credential id", passkey_id=b"a" * length)


@pytest.mark.parametrize("length", [1, 1023])
def test_a_new_passkey_may_have_the_shortest_and_the_longest_id(site: Site, length: int) -> None:
    add_passkey(site.ada, SoftwareKey(), passkey_id=os.urandom(length))


def test_a_new_passkey_whose_id_is_not_the_attested_one_is_refused(site: Site) -> None:
    for sent_id in (b"", b"another id", b"a" * 1024):
        site.refuse(ADD, "invalid: wrong credential id", response={"id": encode(sent_id)})


def test_a_new_passkey_without_a_key_is_refused(site: Site) -> None:
    page = site.open(ADD)
    credential = SoftwareKey().create(options_on(page), flags=PRESENT | VERIFIED)
    site.refuse_answer(ADD, page, credential, "invalid")


POINT = {1: 2, 3: -7, -1: 1, -2: b"\1" * 32, -3: b"\1" * 32}
"""An ES256 key whose point is not on the curve."""

RSA = {1: 3, 3: -257, -1: b"", -2: b"\1\0\1"}


def modulus(bits: int) -> bytes:
    """Return an odd number with this number of bits."""
    return int(2 ** (bits - 1) + 1).to_bytes(bits // 8, "big")


BROKEN_KEYS: dict[str, tuple[Any, str]] = {
    "a point that is not on the curve": (POINT, "invalid"),
    "the point 0": ({**POINT, -2: b"", -3: b""}, "invalid"),
    "a huge coordinate": ({**POINT, -2: b"\xff" * 5000}, "invalid"),
    "no second coordinate": ({1: 2, 3: -7, -1: 1, -2: b"\1" * 32}, "invalid"),
    "a number as a coordinate": ({**POINT, -2: 2**40}, "invalid"),
    "a text as a coordinate": ({**POINT, -2: "1"}, "invalid"),
    "a list as a coordinate": ({**POINT, -2: [2**40]}, "invalid"),
    "a map as a coordinate": ({**POINT, -2: {1: 1}}, "invalid"),
    "no curve": ({1: 2, 3: -7, -2: b"\1" * 32, -3: b"\1" * 32}, "invalid"),
    "another curve": ({**POINT, -1: 2}, "invalid: unsupported elliptic curve"),
    "RSA without a modulus": ({1: 3, 3: -257}, "invalid"),
    "RSA with the modulus 0": (RSA, "invalid"),
    "RSA of 512 bits": ({**RSA, -1: modulus(512)}, "invalid"),
    "RSA of 1024 bits": ({**RSA, -1: modulus(1024)}, "invalid"),
    "RSA of 32,000 bits": ({**RSA, -1: modulus(32000)}, "invalid"),
    "RSA with an even modulus": ({**RSA, -1: b"\xfe" * 256}, "invalid"),
    "RSA with the exponent 1": ({**RSA, -1: modulus(2048), -2: b"\1"}, "invalid"),
    "RSA with a huge exponent": ({**RSA, -1: modulus(2048), -2: b"\xff" * 255}, "invalid"),
    "RSA with a number as its modulus": ({**RSA, -1: 2**40}, "invalid"),
    "Ed25519 of 31 bytes": ({1: 1, 3: -8, -1: 6, -2: bytes(31)}, "invalid"),
    "Ed25519 of a number": ({1: 1, 3: -8, -1: 6, -2: 2**40}, "invalid"),
    "Ed448": ({1: 1, 3: -53, -1: 7, -2: bytes(57)}, "invalid: the algorithm"),
    "RS1": ({**RSA, 3: -65535}, "invalid: the algorithm"),
    "an algorithm that nobody knows": ({**POINT, 3: 4711}, "invalid: the algorithm"),
    "a text as the algorithm": ({**POINT, 3: "ES256"}, "invalid: the algorithm"),
    "a list as the algorithm": ({**POINT, 3: [-7]}, "invalid: the algorithm"),
    "no algorithm": ({1: 2, -1: 1}, "malformed"),
    "no map": ([1, 2, 3], "malformed"),
    "a number": (2**40, "malformed"),
    "a text": ("a key", "malformed"),
}


@pytest.mark.parametrize(("key", "reason"), BROKEN_KEYS.values(), ids=BROKEN_KEYS)
def test_a_new_passkey_with_a_broken_public_key_is_refused(
    site: Site, key: Any, reason: str
) -> None:
    site.refuse(ADD, reason, public_key=key)


def test_a_new_passkey_with_a_good_key_of_an_algorithm_that_was_not_offered_is_refused(
    site: Site,
) -> None:
    point = ec.generate_private_key(ec.SECP384R1()).public_key()
    key = dict(cose.ES384.from_cryptography_key(point))  # type: ignore[no-untyped-call]
    site.refuse(ADD, "invalid: the algorithm of the key was not offered", public_key=key)


@pytest.mark.parametrize("bits", [2048, 4096])
def test_a_new_passkey_may_have_an_rsa_key(site: Site, bits: int) -> None:
    numbers = rsa.generate_private_key(65537, bits).public_key()
    public_key = dict(cose.RS256.from_cryptography_key(numbers))  # type: ignore[no-untyped-call]
    add_passkey(site.ada, SoftwareKey(), public_key=public_key)


# Garbage

GARBAGE = [
    "x",
    " ",
    "\\u0000",
    "1",
    "1" * 9_000,
    "1e999",
    "null",
    '"text"',
    "[]",
    "{}",
    "[" * 3_000,
    "[" * 1_500 + "]" * 1_500,
    '{"id":' * 600,
    '{"id": "AAAA"}',
    '{"id": "AAAA", "response": 1}',
    '{"id": "AAAA", "response": null}',
    '{"id": "AAAA", "response": []}',
    '{"id": "AAAA", "response": [["signature", 1]]}',
    '{"id": "AAAA", "response": {}}',
    '{"response": {"id": "AAAA"}}',
    '{"id": "\\ud800", "response": {"signature": "\\udfff"}}',
    "x" * 10_001,
    "\x85",
    "\U0001f511" * 500,
]


@every_page
def test_garbage_is_refused(site: Site, path: str) -> None:
    page = site.open(path)
    for garbage in GARBAGE:
        page = site.refuse_answer(path, page, garbage, "malformed")


VALUES: list[Any] = [5, MANY_BYTES, 10**4000, True, {"a": 1}, ["AAAA"], "A", "ä", "\ud800"]
"""Values that are not base64."""


@every_page
def test_a_field_that_is_not_base64_is_refused(site: Site, path: str) -> None:
    for field in ("id", *fields_of(site, path)):
        for value in VALUES:
            site.refuse(path, "malformed", response={field: value})


@every_page
def test_a_field_that_is_empty_or_missing_is_refused(site: Site, path: str) -> None:
    page = site.open(path)
    for field in fields_of(site, path):
        for value in EMPTY:
            site.refuse(path, "", response={field: value})
        content = json.loads(site.answer(path, page))
        del content["response"][field]
        page = site.refuse_answer(path, page, json.dumps(content), "malformed: keyerror")


def fields_of(site: Site, path: str) -> list[str]:
    """Return the names of the fields that each answer to this page must have."""
    response = json.loads(site.answer(path, site.open(path)))["response"]
    return [name for name in response if name != "userHandle"]


HUGE = b"\xff" * 8
AUTH_DATA: list[Any] = [MANY_BYTES, 2**63, -1, 0, True, "text", "", b"", b"\0" * 36, [0] * 37, {}]
ATTESTATIONS = [
    b"",
    cbor.encode(MANY_BYTES),
    cbor.encode([1, 2]),
    cbor.encode({}),
    cbor.encode({}) + b"\0",
    b"\x61\xff",  # a text that is not UTF-8
    b"\x81" * 3000,  # deep lists
    b"\xa1\x01" * 1500,  # deep maps
    b"\xa1" * 3000,  # deep keys
    b"\x9b" + HUGE,  # a list of a huge length
    b"\xbb" + HUGE,  # a map
    b"\x5b" + HUGE,  # bytes
    b"\x7b" + HUGE,  # a text
    b"\x9f",  # a list without an end
    b"\xc0\x01",  # a tag
    b"\xfb" + HUGE,  # a float
    *(cbor.encode({"fmt": "none", "attStmt": {}, "authData": value}) for value in AUTH_DATA),
]


def test_a_broken_attestation_is_refused_without_reserving_memory(site: Site) -> None:
    for attestation in ATTESTATIONS:
        with no_memory_reserved():
            site.refuse(ADD, "malformed", response={"attestationObject": encode(attestation)})


def test_an_attestation_that_is_cut_anywhere_is_refused(site: Site) -> None:
    page = site.open(ADD)
    name = "attestationObject"
    length = len(decode(json.loads(site.answer(ADD, page))["response"][name]))
    for cut in range(0, length, 7):
        credential = site.answer(ADD, page)
        whole = decode(json.loads(credential)["response"][name])
        credential = change(credential, **{name: encode(whole[:cut])})
        page = site.refuse_answer(ADD, page, credential, "")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=100).map(encode),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@every_page
def test_random_values_in_any_field_are_refused(site: Site, path: str) -> None:
    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(field=st.sampled_from(["id", *fields_of(site, path)]), value=values)
    def send(field: str, value: Any) -> None:
        site.refuse(path, "", response={field: value})

    send()


# Forms


@every_page
def test_only_the_first_of_two_answers_is_read(site: Site, path: str) -> None:
    page = site.open(path)
    form = next(form for form in page.forms.values() if "credential" in form.fields)
    honest = site.answer(path, page)
    fields = [("csrf_token", form["csrf_token"].value), ("credential", "x"), ("credential", honest)]
    page.test_app.post(path, fields, status=422)
    assert "A passkey was refused: malformed: JSONDecodeError" in site.caplog.messages


@every_page
def test_an_answer_with_nul_is_refused(site: Site, path: str) -> None:
    page = site.open(path)
    send_credential(page, site.answer(path, page) + "\0", status=400)


@every_page
def test_an_answer_without_the_csrf_token_of_its_browser_is_refused(site: Site, path: str) -> None:
    page = site.open(path)
    credential = site.answer(path, page)
    for token in ("", csrf_token(site.ada) + "x"):
        page.test_app.post(path, {"credential": credential, "csrf_token": token}, status=400)
