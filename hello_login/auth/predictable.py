"""Counts the characters of a password that an attacker can't predict.

The attacker knows the site's name and host, the owner's name and address, and the passwords that
many people choose.
zxcvbn 4.5.0 estimates this better, but slowly: passwords of 12 characters took it 160 ms, of 24
characters 1.5 s, with the interpreter's lock held, because it tries every way to read digits and
symbols as letters.  Its lists hold 229 of the 5,000 most used passwords of 12 characters or more.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib import resources
from itertools import product
from typing import NamedTuple

ROWS = (
    "abcdefghijklmnopqrstuvwxyz 01234567890 !@#$%^&*() "
    "qwertyuiop asdfghjkl zxcvbnm 1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p "  # English keyboards
    "qwertzuiop yxcvbnm azertyuiop qsdfghjklm wxcvbn"  # German and French ones
)

YEAR = re.compile(r"(19|20)\d\d")

LOOKALIKES = str.maketrans("@430!1$57", "aaeoiisst")

MIN_PART_LENGTH = 3
"""Characters.  Shorter parts also occur in random text."""

MIN_WORD_LENGTH, MAX_WORD_LENGTH = 5, 28
"""Lengths of the common passwords."""

COMMON_PASSWORD_WEIGHT = 4
"""A common password counts as four characters: there are some 10^4 of them, and an unpredictable
character counts as one of ten, as in zxcvbn (Wheeler, USENIX Security 2016)."""

MEASURED_LENGTH = 64
"""The number of characters of a password that are measured.  The time grows with its square."""


class Part(NamedTuple):
    """A part of a password.  Parts are ordered by the characters that they save an attacker."""

    saved: int
    """The number of its characters that do not count."""

    length: int
    kind: str


def count_unpredictable(
    password: str, personal: tuple[str, ...], site: tuple[str, ...]
) -> tuple[int, str]:
    """Return the number of characters that count, and the kinds of predictable parts, worst first.

    A predictable part counts as one character, and a common password as COMMON_PASSWORD_WEIGHT.
    Of all ways to split the first MEASURED_LENGTH characters into parts, the lowest count is used.
    personal: the owner's name and address.  site: the site's name and host.
    """
    text = _fold(password[:MEASURED_LENGTH])
    runs = _find_runs(text, *("\n".join(map(_fold, known)) for known in (personal, site)))
    parts: dict[int, Part] = {}
    savings = [0] * (len(text) + 1)
    for at in reversed(range(len(text))):
        savings[at], parts[at] = max(
            (part.saved + savings[at + part.length], part)
            for part in _parts_at(text, at, *runs[at])
        )
    saved: Counter[str] = Counter()
    at = 0
    while at < len(text):
        saved[parts[at].kind] += parts[at].saved
        at += parts[at].length
    kinds = ", ".join(kind for kind, characters in saved.most_common() if characters)
    return len(text) - savings[0], kinds


def _fold(text: str) -> str:
    """Return the text in NFKC and lower case, cut to its former length."""
    return unicodedata.normalize("NFKC", text).lower()[: len(text)]


def _find_runs(text: str, personal: str, site: str) -> list[tuple[int, str]]:
    """Return the length and kind of the longest known part that begins at each position."""
    sources = {
        "something repeated": None,
        "characters in a row": f"{ROWS}\n{ROWS[::-1]}",
        "this site's name": f"{site}\n{site[::-1]}",
        "your name or address": f"{personal}\n{personal[::-1]}",
    }
    runs = [(0, "")] * len(text)
    for (kind, source), each in product(sources.items(), (text, text.translate(LOOKALIKES))):
        end = len(text)
        # A known part is also known without its first character: end never grows.
        for at in reversed(range(len(text))):
            while each[at:end] not in (each[: end - 1] if source is None else source):
                end -= 1
            runs[at] = max(runs[at], (end - at, kind))
    return runs


def _parts_at(text: str, at: int, longest: int, kind: str) -> Iterator[Part]:
    """Yield the parts that begin there.  longest, kind: those of the longest known part."""
    yield Part(0, 1, "")
    for length in range(MIN_PART_LENGTH, longest + 1):
        yield Part(length - 1, length, kind)
    if YEAR.match(text, at):
        yield Part(3, 4, "a year")
    words, plain = common_passwords(), text.translate(LOOKALIKES)
    for length in range(MIN_WORD_LENGTH, min(len(text) - at, MAX_WORD_LENGTH) + 1):
        if not words.isdisjoint((text[at : at + length], plain[at : at + length])):
            yield Part(length - COMMON_PASSWORD_WEIGHT, length, "a common password")


@cache
def common_passwords() -> frozenset[str]:
    """Return the 5,000 most used passwords of 8 characters or more, and of 12 or more, and the
    3,000 most used of 5 to 7, all in lower case.

    ASVS 5.0, 6.2.4 requires 3,000 that meet the rules.  The short ones are found in longer ones.
    The source is OWASP SecLists' copy of the ten million passwords that Mark Burnett published, and
    for the short ones the copy in zxcvbn 4.5.0.
    """
    text = resources.files(__package__).joinpath("common_passwords.txt").read_text("utf-8")
    return frozenset(text.splitlines())
