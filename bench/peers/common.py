"""What all peers need: the environment, the words of the pages, and the rules for new accounts."""

import os
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

GREETING = "Hello World, Little Dude, How Are You?"
IDLE_LIMIT, LIFETIME = timedelta(hours=2), timedelta(hours=24)
SECRET_KEY = os.environ["SECRET_KEY"]
EVENTS = {
    "registered": "You registered",
    "logged_in": "You logged in",
    "logged_out": "You logged out",
}
REFUSED = {"form": "The address or the password is wrong: check both, and try again."}
TAKEN = {"email": "This address has an account already: log in, or use another."}


def _database(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return {
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password) if parts.password else None,
        "host": query.get("host") or parts.hostname,
        "port": parts.port,
        "database": parts.path.removeprefix("/"),
    }


DATABASE = _database(os.environ["DATABASE_URL"])
"""Named as SQLAlchemy's URL.create does; the folder of a socket is its host."""


def registration_errors(name: str, email: str, password: str, confirm: str) -> dict[str, str]:
    """What is wrong with the form, by field."""
    errors = {}
    if not name:
        errors["name"] = "Type the name to greet you by."
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        errors["email"] = "Type your email address."
    if len(password) < 12:
        errors["password"] = "Use 12 characters or more."  # noqa: S105
    if password != confirm:
        errors["confirm"] = "The two passwords differ: type the same one in both."
    return errors


def local_path(target: str | None) -> str:
    """Where to go after the login: the target if it can only be on this site."""
    return target if target and re.fullmatch(r"/(?!/)[!-\[\]-~]*", target) else "/account"


class Lazy:
    """A value made when a template shows it: a page without a form needs no token and no cookie."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make

    def __str__(self) -> str:
        return self._make()


def _moment(time: datetime) -> str:
    utc = time.astimezone(timezone.utc)
    return f"{utc.day} {utc.strftime('%B %Y, %H:%M')}"


def _ago(time: datetime) -> str:
    minutes = (datetime.now(timezone.utc) - time).total_seconds() // 60
    return f"{minutes:.0f} minutes ago" if minutes >= 1 else "just now"


FILTERS: Mapping[str, Callable[[Any], str]] = {
    "iso": lambda time: time.isoformat(timespec="seconds"),
    "moment": _moment,
    "ago": _ago,
    "fingerprint": lambda session_id: bytes(session_id).hex()[:12],
    "words": lambda event: EVENTS.get(event, event),
}
"""Without arguments, for Jinja and Django write those differently."""
