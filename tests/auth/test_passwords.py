"""Hashing passwords, and the rules that a new one must meet."""

import threading
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from hello_login import settings
from hello_login.auth.passwords import PasswordRefused, Passwords
from tests.conftest import MakeIni

NAME, EMAIL = "Ada Lovelace", "ada.lovelace@example.com"


def test_a_password_matches_only_its_own_hash(passwords: Passwords) -> None:
    password_hash = passwords.hash("correct horse battery")
    assert passwords.verify("correct horse battery", password_hash) == (True, None)
    assert passwords.verify("Correct horse battery", password_hash) == (False, None)


def test_the_hash_is_argon2id_with_the_configured_costs(ini: MakeIni) -> None:
    costs = {"argon2_memory_kib": "64", "argon2_passes": "3", "argon2_lanes": "2"}
    passwords = Passwords(settings.load({}, ini(**costs), {}))
    assert passwords.hash("correct horse battery").startswith("$argon2id$v=19$m=64,t=3,p=2$")


def test_the_default_costs_are_those_of_owasp() -> None:
    ini = {"hello_login.secret_key": "x" * 32, "hello_login.migrations": "sql"}
    environ = {"DATABASE_URL": "postgresql:///x", "TRUSTED_PROXY": "none"}
    defaults = settings.load({}, ini, environ)
    assert (
        Passwords(defaults)
        .hash("correct horse battery")
        .startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    )


def test_a_salt_has_128_random_bits(passwords: Passwords) -> None:
    hashes = [passwords.hash("correct horse battery") for _ in range(3)]
    salts = {password_hash.split("$")[4] for password_hash in hashes}
    assert [len(salt) * 6 // 8 for salt in salts] == [16] * 3


def test_the_same_password_never_has_the_same_hash(passwords: Passwords) -> None:
    assert passwords.hash("correct horse battery") != passwords.hash("correct horse battery")


def test_a_hash_is_renewed_when_the_costs_have_risen(passwords: Passwords, ini: MakeIni) -> None:
    old_hash = passwords.hash("correct horse battery")
    stronger = Passwords(settings.load({}, ini(argon2_passes="2"), {}))
    matches, new_hash = stronger.verify("correct horse battery", old_hash)
    assert matches
    assert new_hash is not None
    assert stronger.verify("correct horse battery", new_hash) == (True, None)


def test_a_wrong_password_renews_no_hash(passwords: Passwords, ini: MakeIni) -> None:
    old_hash = passwords.hash("correct horse battery")
    stronger = Passwords(settings.load({}, ini(argon2_passes="2"), {}))
    assert stronger.verify("wrong horse battery", old_hash) == (False, None)


def test_no_password_matches_an_unknown_account(passwords: Passwords) -> None:
    assert passwords.verify("correct horse battery", None) == (False, None)


def test_a_password_matches_in_every_unicode_form(passwords: Passwords) -> None:
    composed, decomposed = "caf\N{LATIN SMALL LETTER E WITH ACUTE} au lait", "cafe\u0301 au lait"
    assert passwords.verify(decomposed, passwords.hash(composed)) == (True, None)
    assert passwords.verify(composed, passwords.hash(decomposed)) == (True, None)


def test_spaces_around_a_password_are_significant(passwords: Passwords) -> None:
    password_hash = passwords.hash("  correct horse  ")
    assert passwords.verify("correct horse", password_hash) == (False, None)


def test_every_character_of_a_password_is_significant(passwords: Passwords) -> None:
    longest = "correct horse battery".ljust(1024, "x")
    password_hash = passwords.hash(longest[:-1] + "y")
    assert passwords.verify(longest, password_hash) == (False, None)


@pytest.mark.parametrize(
    "password",
    [
        "twelve chars",
        "".join(map(chr, range(0x1F400, 0x1F40C))),  # animals
        "".join(map(chr, range(0x4E00, 0x4E00 + 1024))),
        "ada lovelace and her engine",
        "~`'^ ;:,.?/\\",
        "kXv0ZQ0rS8f2",
        "7d3f0c4e-9a51-4b8e-8f26-d1c0b97e5a34",
        "483920175638",
        "to be or not to be",
        "football baseball sunshine princess",
        "violet anchor pebble",
        "seven whispering lanterns",
        "correct horse battery",
        "caf\N{LATIN SMALL LETTER E WITH ACUTE} au lait",
        "\u043f\u0430\u0440\u043e\u043b\u044c \u043d\u0430 \u043b\u0435\u0442\u043e",
        "\u65e5\u672c\u8a9e\u306e\u30d1\u30b9\u30ef\u30fc\u30c9\u3067\u3059\u3088",
    ],
)
def test_a_password_may_contain_any_characters(passwords: Passwords, password: str) -> None:
    password_hash = passwords.hash(password, NAME, EMAIL)
    assert passwords.verify(password, password_hash) == (True, None)


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("eleven char", "too short: use 12 characters or more"),
        ("e\u0301" * 11, "too short"),
        ("x" * 1025, "too long: use 1024 characters or fewer"),
        ("1qaz2wsx3edc", "Many people use this password"),
        ("1QAZ2wsx3EDC", "Many people use this password"),
        ("Password123!", "a common password"),
        ("P@$$w0rd1234", "a common password, characters in a row"),
        ("passwordpassword", "Many people use this password"),
        ("Summer2026!!", "a year, a common password"),
        ("Welcome2026!", "a common password, a year"),
        ("Password2026!", "a common password, a year"),
        ("P@ssw0rd2025!", "a common password, a year"),
        ("Letmein2024!", "a common password, a year"),
        ("Iloveyou2025!", "a common password, a year"),
        ("Michael2024!", "a year, a common password"),
        ("Liverpool1999!", "a common password, a year"),
        ("".join(chr(0xFF10 + int(digit)) for digit in "123456789012"), "characters in a row"),
        ("dragon123456", "a common password, characters in a row"),
        ("hellologin123456", "this site's name, characters in a row"),
        ("hello  login", "this site's name"),
        ("hello-login-hello-login", "something repeated, this site's name"),
        ("hellologin123", "this site's name, characters in a row"),
        ("H3ll0L0g1n2026", "this site's name, a year"),
        ("            ", "something repeated"),
        ("\N{PILE OF POO}" * 12, "something repeated"),
        ("\N{GREEK SMALL LETTER IOTA WITH DIALYTIKA AND TONOS}" * 1024, "something repeated"),
        ("abababababab", "something repeated"),
        ("qwertzuiop()", "characters in a row"),
        ("4321poiuytrewq", "characters in a row"),
        ("lovelacelovelace", "your name or address"),
        ("LOVELACElovelace", "your name or address"),
        ("ecalevol adA 1", "your name or address"),
        ("l0vel4ce2026", "your name or address, a year"),
        ("Ada Lovelace", "your name or address"),
        ("ada-love-lace", "your name or address"),
        ("ada.lovelace@example.com", "your name or address"),
        ("AdaLovelace", "too short"),
        ("ada.lovelace@example.com1", "your name or address"),
        ("Ada Lovelace 1815", "your name or address"),
    ],
)
def test_a_password_that_is_easily_guessed_is_refused_with_the_reason(
    passwords: Passwords, password: str, reason: str
) -> None:
    with pytest.raises(PasswordRefused, match=reason):
        passwords.check(password, NAME, EMAIL)
    with pytest.raises(PasswordRefused, match=reason):
        passwords.hash(password, NAME, EMAIL)


def test_a_password_may_contain_the_name_if_the_rest_is_long_enough(passwords: Passwords) -> None:
    passwords.check("Ada Lovelace wrote engines", NAME, EMAIL)
    passwords.check("correct horse battery", "Horse")


def test_a_full_width_name_is_recognized_in_plain_letters(passwords: Passwords) -> None:
    full_width = "".join(chr(ord(letter) + 0xFEE0) for letter in "Lovelace")
    with pytest.raises(PasswordRefused, match="your name or address"):
        passwords.check("lovelace!7lovelace", full_width)


def test_the_first_64_characters_must_be_hard_to_guess(passwords: Passwords) -> None:
    passwords.check("a" * (64 - 21) + "correct horse battery")
    with pytest.raises(PasswordRefused, match="something repeated"):
        passwords.check("a" * 64 + "correct horse battery")


def test_a_name_without_letters_refuses_no_password(passwords: Passwords) -> None:
    passwords.check("* correct horse *", "***")


def test_the_minimum_length_is_a_setting_and_the_maximum_a_constant(
    ini: MakeIni, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hello_login.auth.passwords.MAX_LENGTH", 64)
    passwords = Passwords(settings.load({}, ini(password_min_length="8"), {}))
    passwords.check("8 chars!")
    with pytest.raises(PasswordRefused, match="8 characters"):
        passwords.check("7 chars")
    with pytest.raises(PasswordRefused, match="64 characters"):
        passwords.check("x" * 65)


def test_a_password_that_is_too_long_to_hash_matches_nothing(passwords: Passwords) -> None:
    assert passwords.verify("x" * 100_000, passwords.hash("correct horse battery")) == (False, None)


LONG_IN_NFD = "\N{GREEK SMALL LETTER ALPHA WITH PSILI AND VARIA AND YPOGEGRAMMENI}"
"""The longest decomposition that a character has: one character in NFC, four in NFD."""

decomposable = st.one_of(
    st.sampled_from(
        [LONG_IN_NFD, "\N{HANGUL SYLLABLE GAG}", "\u0344", "\u0f73", "\u212b", "\u0301"]
    ),
    st.characters(exclude_categories=["Cs"]),
)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_length_is_measured_after_normalization(passwords: Passwords, form: Any) -> None:
    filler = "".join(map(chr, range(0x4E00, 0x4E00 + 1024 - 20)))
    typed = unicodedata.normalize(form, LONG_IN_NFD * 20 + filler)
    password_hash = passwords.hash(typed)
    assert passwords.verify(typed, password_hash) == (True, None)
    with pytest.raises(PasswordRefused, match="too long: use 1024 characters or fewer"):
        passwords.hash(f"{typed}a")
    assert passwords.verify(f"{typed}a", password_hash) == (False, None)


@pytest.mark.slow
def test_a_password_that_registration_accepts_is_accepted_at_login_in_every_form(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hello_login.auth.passwords.MAX_LENGTH", 64)
    accepted = []

    @examples(max_examples=500, deadline=None)
    @given(typed=st.lists(decomposable, min_size=8, max_size=80).map("".join))
    def register_and_log_in(typed: str) -> None:
        try:
            password_hash = passwords.hash(typed)
        except PasswordRefused:
            password_hash = None
        accepted.append(password_hash is not None)
        forms = {typed, unicodedata.normalize("NFC", typed), unicodedata.normalize("NFD", typed)}
        for form in forms:
            if password_hash is None:
                with pytest.raises(PasswordRefused):
                    passwords.check(form)
            else:
                assert passwords.verify(form, password_hash) == (True, None)

    register_and_log_in()
    assert {True, False} <= set(accepted)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_letter_has_at_most_30_accents(passwords: Passwords, form: Any) -> None:
    accented = unicodedata.normalize(form, "twelve chars, \N{LATIN SMALL LETTER E WITH ACUTE}")
    most = accented + "\u0316" * 29
    password_hash = passwords.hash(most)
    assert passwords.verify(most, password_hash) == (True, None)
    with pytest.raises(PasswordRefused, match="more than 30 accents on one letter"):
        passwords.hash(f"{most}\u0316")
    assert passwords.verify(f"{most}\u0316", password_hash) == (False, None)


def test_running_and_waiting_hashes_are_counted(ini: MakeIni) -> None:
    costs = {"argon2_memory_kib": "19456", "argon2_passes": "40", "hash_workers": "1"}
    passwords = Passwords(settings.load({}, ini(**costs), {}))
    assert passwords.count_begun() == (0, 0)
    people = [threading.Thread(target=passwords.verify, args=("a", None)) for _ in range(3)]
    for person in people:
        person.start()
    while passwords.count_begun() != (1, 2):  # a hash takes much longer than to begin all three
        assert any(person.is_alive() for person in people)
    for person in people:
        person.join()
    assert passwords.count_begun() == (0, 0)
