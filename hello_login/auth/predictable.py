"""How much of a password is predictable, to somebody who knows its owner and what people choose.

zxcvbn 4.5.0 estimates this better, and at a price: passwords of 12 characters took it 160 ms, of 24
characters 1.5 s, with the interpreter's lock held, because it tries every way to read digits and
symbols as letters.  Its lists hold 229 of the 5,000 most used passwords of 12 characters or more.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from typing import NamedTuple

PRODUCT = "hello login"

ROWS = (
    "abcdefghijklmnopqrstuvwxyz 01234567890 !@#$%^&*() "
    "qwertyuiop asdfghjkl zxcvbnm 1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p "  # English keyboards
    "qwertzuiop yxcvbnm azertyuiop qsdfghjklm wxcvbn"  # German and French ones
)

YEAR = re.compile(r"(19|20)\d\d")

LOOKALIKES = str.maketrans("@430!1$57", "aaeoiisst")

SHORTEST_PART = 3
"""Random text shares shorter parts with anything."""

SHORTEST_WORD, LONGEST_WORD = 5, 28
"""Of the common passwords."""

WORD_COUNT = 4
"""A common password counts as four characters.  There are some 10^4 of them, and a character that
nobody can predict counts as one of ten, as in zxcvbn (Wheeler, USENIX Security 2016)."""


class Part(NamedTuple):
    """A part of a password; the larger of two is the one that saves a guesser more."""

    saved: int
    """How many of its characters do not count."""

    length: int
    kind: str


def count_unpredictable(password: str, personal: tuple[str, ...], enough: int) -> tuple[int, str]:
    """Return how many characters count, and the kinds of predictable parts, the worst first.

    A predictable part counts as one character, and a common password as WORD_COUNT.
    personal: the owner's name and address.  enough: where to end counting.
    """
    text = password.lower()
    sources = {
        "characters in a row": ROWS,
        "this site's name": PRODUCT,
        "your name or address": "\n".join(personal).lower(),
    }
    both_ways = {kind: f"{source}\n{source[::-1]}" for kind, source in sources.items()}
    count = at = 0
    saved: Counter[str] = Counter()
    while at < len(text) and count < enough:
        part = max(_parts_at(text, at, both_ways), default=Part(0, 1, ""))
        count += part.length - part.saved
        at += part.length
        saved[part.kind] += part.saved
    return count, ", ".join(kind for kind, characters in saved.most_common() if characters)


def _parts_at(text: str, at: int, sources: dict[str, str]) -> Iterator[Part]:
    """Yield the predictable parts of the text that begin there."""
    plain = text.translate(LOOKALIKES)
    for kind, source in sources.items():
        for each in (text, plain):
            length = _grow(each, at, source.__contains__)
            yield Part(length - 1, length, kind)
    length = _grow(text, at, lambda part: text.find(part, 0, at + len(part) - 1) >= 0)
    yield Part(length - 1, length, "something repeated")
    if YEAR.match(text, at):
        yield Part(3, 4, "a year")
    words = common_passwords()
    for length in range(SHORTEST_WORD, min(len(text) - at, LONGEST_WORD) + 1):
        if not words.isdisjoint((text[at : at + length], plain[at : at + length])):
            yield Part(length - WORD_COUNT, length, "a common password")


def _grow(text: str, at: int, is_known: Callable[[str], bool]) -> int:
    """Return the length of the longest known part that begins there; 1 if there is none."""
    end = at + SHORTEST_PART
    while end <= len(text) and is_known(text[at:end]):
        end += 1
    length = end - 1 - at
    return length if length >= SHORTEST_PART else 1


@cache
def common_passwords() -> frozenset[str]:
    """Return the 5,000 most used passwords of 8 characters or more, and of 12 or more, and the
    3,000 most used of 5 to 7, all in lower case.

    ASVS 5.0, 6.2.4 asks for 3,000 that meet the rules; the short ones are found in longer ones.
    From OWASP SecLists' copy of the ten million passwords that Mark Burnett published, and the
    short ones from that of zxcvbn 4.5.0.
    """
    text = resources.files(__package__).joinpath("common_passwords.txt").read_text("utf-8")
    return frozenset(text.splitlines())
