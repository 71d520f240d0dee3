"""Password hashing, and the rules for new passwords."""

import os
import re
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from threading import get_ident
from typing import Any

from passlib.context import CryptContext

from ..settings import Settings
from .predictable import common_passwords, count_unpredictable
from .shared_limit import SharedLimit

MAX_LENGTH = 1024
"""Characters.  ASVS 5.0, 6.2.9 requires at least 64; passlib hashes at most 4,096."""

MIN_UNPREDICTABLE = 8
"""Unpredictable characters that a new password needs: the length that ASVS 5.0, 6.2.1 requires.
zxcvbn, too, rates a password as safe against slow hashes from 10^8 guesses."""

NFD_GROWTH = 4
"""A text has at most four times as many characters in NFD as in NFC (Unicode's FAQ on
normalization)."""

MAX_MARKS = 30
"""Combining marks on one letter, as in UAX #15's Stream-Safe Text Format.  No script needs more.
The time to sort them is quadratic."""


class PasswordRefused(ValueError):
    """A password that breaks a rule.  The message tells the user the rule and the remedy."""


class Passwords:
    """Checks, hashes and verifies passwords, with the settings' costs and minimum length."""

    def __init__(self, settings: Settings) -> None:
        self._min_length = settings.password_min_length
        self._site = (settings.site_name, settings.host)
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
        """The hint of the field for a new password."""

        # Hashing more at once than there are processors would only make all of them slower.  It has
        # its own threads, because each thread keeps the memory of its hash for the next one.
        number = settings.hash_workers or os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(number, "passwords")
        # The kernel may give one process all the connections that log in.
        shared = settings.processes > 1 and hasattr(os, "memfd_create")  # macOS does not have it
        self._limit = SharedLimit(number).held if shared else nullcontext
        self._begun: set[Future[Any]] = set()
        self._hashing: set[int] = set()  # ids of threads

        # Created at start: otherwise the first verification would take twice as long.
        self._nobodys_hash = self._context.hash(secrets.token_hex())

    def normalize(self, password: str) -> str:
        """Return the password in NFC, the form that is measured and hashed.

        NIST SP 800-63B-4, 3.1.1.2 requires it, because keyboards send different forms.  Nothing
        else changes: blanks, case and every character count (ASVS 5.0, 6.2.8).
        Raises PasswordRefused if the password is too long, or would take too long to normalize.
        """
        too_long = f"This password is too long: use {MAX_LENGTH} characters or fewer."
        if len(password) > MAX_LENGTH * NFD_GROWTH:
            raise PasswordRefused(too_long)
        if _has_marks_beyond(MAX_MARKS, password):
            raise PasswordRefused(
                f"This password has more than {MAX_MARKS} accents on one letter: use fewer."
            )
        normalized = unicodedata.normalize("NFC", password)
        if len(normalized) > MAX_LENGTH:
            raise PasswordRefused(too_long)
        return normalized

    def check(self, password: str, *personal: str) -> str:
        """Return a new password in NFC if it keeps the rules.  Raises PasswordRefused.

        personal: the owner's name and address.
        There are no composition rules (NIST SP 800-63B-4, 3.1.1.2; ASVS 5.0, 6.2.5).
        """
        password = self.normalize(password)
        if len(password) < self._min_length:
            raise PasswordRefused(
                f"This password is too short: use {self._min_length} characters or more."
            )
        if password.lower() in common_passwords():
            raise PasswordRefused("Many people use this password: choose another one.")
        count, kinds = count_unpredictable(password, personal, self._site)
        if count < MIN_UNPREDICTABLE:
            raise PasswordRefused(
                f"This password is easy to guess. Most of it is predictable: {kinds}. "
                "Add a few unrelated words."
            )
        return password

    def hash(self, password: str, *personal: str) -> str:
        """Check a new password and return its hash, with a new salt.  Raises PasswordRefused."""
        return str(self._run(self._context.hash, self.check(password, *personal)))

    def verify(self, password: str, password_hash: str | None) -> tuple[bool, str | None]:
        """Return whether the password matches the hash, and a new hash if its costs are outdated.

        Without a hash it takes the same time, so that the time does not tell whether an account
        exists.  A hash with other costs takes a different time.
        """
        try:
            normalized = self.normalize(password)
        except PasswordRefused:
            return False, None
        matches, new_hash = self._run(
            self._context.verify_and_update, normalized, password_hash or self._nobodys_hash
        )
        if not matches or password_hash is None:
            return False, None
        return True, new_hash

    def count_begun(self) -> tuple[int, int]:
        """Return the numbers of passwords that are being hashed, and that wait for their turn."""
        hashing = len(self._hashing)
        return hashing, max(0, len(self._begun) - hashing)

    def _run(self, function: Callable[..., Any], *arguments: str) -> Any:
        """Call a function that hashes, when its turn comes, and return its result."""

        def run() -> Any:
            with self._limit():
                self._hashing.add(get_ident())
                try:
                    return function(*arguments)
                finally:
                    self._hashing.remove(get_ident())

        future = self._threads.submit(run)
        self._begun.add(future)
        try:
            return future.result()
        finally:
            self._begun.remove(future)


def _has_marks_beyond(most: int, text: str) -> bool:
    """Return whether the text's NFD has more than `most` combining marks in a row."""
    # Short pieces are decomposed, because normalizing the whole text may take too long.
    starts = range(0, len(text), 64)
    decomposed = "".join(unicodedata.normalize("NFD", text[i : i + 64]) for i in starts)
    classes = bytes(map(unicodedata.combining, decomposed))
    return re.search(rb"[^\0]{%d}" % (most + 1), classes) is not None
