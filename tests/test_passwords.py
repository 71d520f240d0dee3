"""Hashing passwords, and the rules that a new one must meet."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from hello_login import settings
from hello_login.passwords import PasswordRefused, Passwords
from tests.conftest import MakeIni

NAME, EMAIL = "Ada Lovelace", "ada.lovelace@example.com"


def test_a_password_matches_its_own_hash_alone(passwords: Passwords) -> None:
    password_hash = passwords.hash("correct horse battery")
    assert passwords.verify("correct horse battery", password_hash) == (True, None)
    assert passwords.verify("Correct horse battery", password_hash) == (False, None)


def test_the_hash_is_argon2id_with_the_settings_costs(ini: MakeIni) -> None:
    costs = {"argon2_memory_kib": "64", "argon2_passes": "3", "argon2_lanes": "2"}
    passwords = Passwords(settings.load({}, ini(**costs), {}))
    assert passwords.hash("correct horse battery").startswith("$argon2id$v=19$m=64,t=3,p=2$")


def test_the_default_costs_are_owasps() -> None:
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
    dearer = Passwords(settings.load({}, ini(argon2_passes="2"), {}))
    matches, new_hash = dearer.verify("correct horse battery", old_hash)
    assert matches
    assert new_hash is not None
    assert dearer.verify("correct horse battery", new_hash) == (True, None)


def test_a_wrong_password_renews_no_hash(passwords: Passwords, ini: MakeIni) -> None:
    old_hash = passwords.hash("correct horse battery")
    dearer = Passwords(settings.load({}, ini(argon2_passes="2"), {}))
    assert dearer.verify("wrong horse battery", old_hash) == (False, None)


def test_no_password_is_that_of_an_account_that_is_not_there(passwords: Passwords) -> None:
    assert passwords.verify("correct horse battery", None) == (False, None)


def test_a_password_counts_the_same_in_every_unicode_form(passwords: Passwords) -> None:
    composed, decomposed = "caf\N{LATIN SMALL LETTER E WITH ACUTE} au lait", "cafe\u0301 au lait"
    assert passwords.verify(decomposed, passwords.hash(composed)) == (True, None)
    assert passwords.verify(composed, passwords.hash(decomposed)) == (True, None)


def test_blanks_around_a_password_count(passwords: Passwords) -> None:
    password_hash = passwords.hash("  correct horse  ")
    assert passwords.verify("correct horse", password_hash) == (False, None)


def test_every_character_counts_up_to_the_last(passwords: Passwords) -> None:
    password_hash = passwords.hash("x" * 1023 + "y")
    assert passwords.verify("x" * 1024, password_hash) == (False, None)


@pytest.mark.parametrize(
    "password",
    [
        "twelve chars",
        "\N{PILE OF POO}" * 12,
        "\N{GREEK SMALL LETTER IOTA WITH DIALYTIKA AND TONOS}" * 1024,
        "ada lovelace and her engine",
        "------------",
    ],
)
def test_any_characters_will_do(passwords: Passwords, password: str) -> None:
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
        ("Ada Lovelace", "too close to your name"),
        ("ada-love-lace", "too close to your name"),
        ("ada.lovelace@example.com", "too close to your name"),
        ("AdaLovelace", "too short"),
        ("hello  login", "too close to your name"),
        ("hello-login-hello-login", "too close to your name"),
        ("hellologin123", "too close to your name"),
        ("ada.lovelace@example.com1", "too close to your name"),
        ("Ada Lovelace 1815", "too close to your name"),
    ],
)
def test_a_password_that_is_easily_guessed_is_refused_with_the_reason(
    passwords: Passwords, password: str, reason: str
) -> None:
    with pytest.raises(PasswordRefused, match=reason):
        passwords.check(password, NAME, EMAIL)
    with pytest.raises(PasswordRefused, match=reason):
        passwords.hash(password, NAME, EMAIL)


def test_a_name_may_be_part_of_a_password_that_has_enough_besides(passwords: Passwords) -> None:
    passwords.check("Ada Lovelace wrote engines", NAME, EMAIL)
    passwords.check("correct horse battery", "Horse")


def test_a_name_without_letters_refuses_nothing(passwords: Passwords) -> None:
    passwords.check("------------", "***")


def test_the_lengths_are_settings(ini: MakeIni) -> None:
    lengths = {"password_min_length": "8", "password_max_length": "64"}
    passwords = Passwords(settings.load({}, ini(**lengths), {}))
    passwords.check("8 chars!")
    with pytest.raises(PasswordRefused, match="8 characters"):
        passwords.check("7 chars")
    with pytest.raises(PasswordRefused, match="64 characters"):
        passwords.check("x" * 65)


def test_a_password_that_is_too_long_to_hash_matches_nothing(passwords: Passwords) -> None:
    assert passwords.verify("x" * 100_000, passwords.hash("correct horse battery")) == (False, None)


LONG_IN_NFD = "\N{GREEK SMALL LETTER ALPHA WITH PSILI AND VARIA AND YPOGEGRAMMENI}"
"""One character in NFC, four in NFD, which is as many as any becomes."""

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


def test_a_password_that_registration_accepts_is_accepted_at_login_in_every_form(
    ini: MakeIni,
) -> None:
    passwords = Passwords(settings.load({}, ini(password_max_length="64"), {}))
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
def test_a_letter_has_30_accents(passwords: Passwords, form: Any) -> None:
    accented = unicodedata.normalize(form, "twelve chars, \N{LATIN SMALL LETTER E WITH ACUTE}")
    most = accented + "\u0316" * 29
    password_hash = passwords.hash(most)
    assert passwords.verify(most, password_hash) == (True, None)
    with pytest.raises(PasswordRefused, match="more than 30 accents on one letter"):
        passwords.hash(f"{most}\u0316")
    assert passwords.verify(f"{most}\u0316", password_hash) == (False, None)
