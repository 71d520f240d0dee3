"""Hashing passwords, and the rules that a new one must meet."""

import os
import re
import secrets
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from passlib.context import CryptContext

from ..settings import Settings
from .predictable import common_passwords, count_unpredictable

ENOUGH = 8
"""Unpredictable characters of a new password: as many as ASVS 5.0, 6.2.1 asks of any.  zxcvbn, too,
calls a password safe against slow hashes from 10^8 guesses."""

NFD_GROWTH = 4
"""A text has at most four times as many characters in NFD as in NFC (Unicode's FAQ on
normalization)."""

MOST_MARKS = 30
"""Combining marks on one letter, as in UAX #15's Stream-Safe Text Format: no script needs more, and
the time to sort them grows with the square of their number."""


class PasswordRefused(ValueError):
    """The text says why, and what would do."""


class Passwords:
    """argon2id with the settings' costs, and the settings' lengths."""

    def __init__(self, settings: Settings) -> None:
        self._min_length = settings.password_min_length
        self._max_length = settings.password_max_length
        self._context = CryptContext(
            schemes=["argon2"],
            argon2__type="ID",
            argon2__memory_cost=settings.argon2_memory_kib,
            argon2__time_cost=settings.argon2_passes,
            argon2__parallelism=settings.argon2_lanes,
        )
        self.advice = (
            f"{self._min_length} characters or more. "
            "Four or five unrelated words are easy to remember and hard to guess."
        )
        """What a form says before anybody chooses a password."""

        # More at once than there are processors would only take longer, all of them.  In threads of
        # their own, because each thread that has hashed keeps the memory for the next time.
        share = max(1, (os.cpu_count() or 1) // settings.processes)
        self._threads = ThreadPoolExecutor(settings.verifications or share, "passwords")

        # Made at start, for the first verification would otherwise take twice as long.
        self._nobodys_hash = self._context.hash(secrets.token_hex())

    def normalize(self, password: str) -> str:
        """Return the password as it is measured and hashed: in NFC.

        NIST SP 800-63B-4, 3.1.1.2 asks for it: another keyboard may send another form.  Nothing
        else is changed: blanks, case and every character count (ASVS 5.0, 6.2.8).
        Raises PasswordRefused for what is too long, or too dear to normalize, in every form.
        """
        too_long = PasswordRefused(
            f"This password is too long: use {self._max_length} characters or fewer."
        )
        if len(password) > self._max_length * NFD_GROWTH:
            raise too_long
        if _has_marks_beyond(MOST_MARKS, password):
            raise PasswordRefused(
                f"This password has more than {MOST_MARKS} accents on one letter: use fewer."
            )
        normalized = unicodedata.normalize("NFC", password)
        if len(normalized) > self._max_length:
            raise too_long
        return normalized

    def check(self, password: str, *personal: str) -> None:
        """Check a new password; personal: its owner's name and address.

        No rules of composition, as NIST SP 800-63B-4, 3.1.1.2 and ASVS 5.0, 6.2.5 say.
        Raises PasswordRefused.
        """
        password = self.normalize(password)
        if len(password) < self._min_length:
            raise PasswordRefused(
                f"This password is too short: use {self._min_length} characters or more."
            )
        if password.lower() in common_passwords():
            raise PasswordRefused("Many people use this password: choose another one.")
        count, kinds = count_unpredictable(password, personal)
        if count < ENOUGH:
            raise PasswordRefused(
                f"This password is easy to guess. Most of it is predictable: {kinds}. "
                "Add a few unrelated words."
            )

    def hash(self, password: str, *personal: str) -> str:
        """Hash a new password, with a salt of its own; raises PasswordRefused, as check does."""
        self.check(password, *personal)
        normalized = self.normalize(password)
        return str(self._threads.submit(self._context.hash, normalized).result())

    def verify(self, password: str, password_hash: str | None) -> tuple[bool, str | None]:
        """Whether the password is the hash's, and a new hash if the costs have changed since.

        Takes as long when there is no hash, so that time does not tell whether there is an account;
        a hash of other costs takes its own time.
        """
        try:
            normalized = self.normalize(password)
        except PasswordRefused:
            return False, None
        matches, new_hash = self._threads.submit(
            self._context.verify_and_update, normalized, password_hash or self._nobodys_hash
        ).result()
        if not matches or password_hash is None:
            return False, None
        return True, new_hash


def includeme(config: Any) -> None:
    """Add registry.passwords."""
    config.registry.passwords = Passwords(config.registry.hello_login)


def _has_marks_beyond(most: int, text: str) -> bool:
    """Return whether more combining marks than that follow each other in NFD.

    It is made in short pieces, because to normalize the whole text may be what takes too long.
    """
    starts = range(0, len(text), 64)
    decomposed = "".join(unicodedata.normalize("NFD", text[i : i + 64]) for i in starts)
    classes = bytes(map(unicodedata.combining, decomposed))
    return re.search(rb"[^\0]{%d}" % (most + 1), classes) is not None
