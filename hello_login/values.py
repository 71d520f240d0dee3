"""Parses the values of settings.

Each function takes the text of a value, and returns the value.  check_encoding() comes first, and
returns nothing.  A mistake raises ValueError with a text that names the mistake and its remedy.
"""

import re
from collections import Counter
from ipaddress import ip_address
from os.path import isdir
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import psycopg2
from email_validator import EmailNotValidError, validate_email
from psycopg2.extensions import parse_dsn

from . import ini_files

MIGRATIONS = ini_files.PACKAGE / "sql"
"""The folder of the package's migrations."""

LOCAL_PATH = re.compile(r"/(?!/)[!-\[\]-~]*")
"""A path that stays on this site: it begins with exactly one slash.  The rest is printable ASCII,
as in every URL that a browser sends, without a backslash, because browsers read it as a slash."""

MAX_SITE_NAME_LENGTH = 50
"""Characters.  The brand fits into one line of a phone, and an authenticator app shows it whole."""


def check_encoding(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:  # Python decodes other bytes as halves of surrogate pairs
        raise ValueError("has bytes that are not UTF-8: replace them") from None


def parse_number(low: int, high: int, value: str) -> int:
    if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
        raise ValueError(f"is {value!r}: set it to a whole number from {low} to {high}")
    return int(value)


def parse_boolean(value: str) -> bool:
    return parse_choice(("true", "false"), value) == "true"


def parse_choice(choices: tuple[str, str], value: str) -> str:
    if value not in choices:
        raise ValueError(f"is {value!r}: set it to {choices[0]} or {choices[1]}")
    return value


def parse_level(value: str) -> str:
    if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError(f"is {value!r}: set it to debug, info, warning or error")
    return value.upper()


def split_keys(value: str) -> tuple[str, ...]:
    return tuple(key for key in re.split(r"[\s,]+", value) if key)


def parse_secret_key(value: str) -> str:
    keys = split_keys(value)
    if not keys or min(map(len, keys)) < 32:
        raise ValueError(
            f"is {'too short' if value else 'missing'}: set it to 32 or more random characters, "
            "for example the output of: openssl rand -base64 33.  Blanks and commas separate keys"
        )
    return value


def parse_database_url(value: str) -> str:
    try:
        parts = parse_dsn(value)
        # libpq ends a password at its first @ or slash.  It would show the rest in its errors, as a
        # host or a port.  An @ begins the name of an abstract socket.
        wrong = "@" in parts.get("host", "")[1:]
        wrong |= not re.fullmatch("[0-9,]*", parts.get("port", ""))
        wrong |= not value.startswith(("postgresql://", "postgres://"))
    except psycopg2.ProgrammingError:
        wrong = True
    if wrong:
        raise ValueError(
            f"is {'not a URL' if value else 'missing'}: set it to "
            "postgresql://user:password@host:5432/name, with each of / ? # @ : % in the password "
            "as its %XX"
        )
    return value


def parse_migrations(value: str) -> tuple[Path, ...]:
    """Return the package's own folder, and those that the lines of the value name."""
    folders = [MIGRATIONS]
    for line in filter(None, map(str.strip, value.splitlines())):
        # Before Python 3.14, Path.is_dir() raises PermissionError, and so does glob().
        if not isdir(line) or not any(Path(line).glob("*.sql")):  # noqa: PTH112
            raise ValueError(f"names {line!r}, a folder without .sql files: correct it")
        if Path(line).resolve() not in [folder.resolve() for folder in folders]:
            folders.append(Path(line))
    names = Counter(path.name for folder in folders for path in folder.glob("*.sql"))
    taken = sorted(name for name in names if names[name] > 1)
    if taken:
        raise ValueError(
            f"names a folder with {taken[0]}, but another folder has a migration of this name: "
            "rename one that was never applied"
        )
    return tuple(folders)


def parse_path(value: str) -> str:
    if not LOCAL_PATH.fullmatch(value):
        raise ValueError(f"is {value!r}: set it to a path of this site, such as /notes")
    if re.split("[?#]", value)[0] in ("/login", "/register"):
        raise ValueError(f"is {value!r}, which leads back to itself: set it to another path")
    return value


def parse_overrides(value: str) -> Path:
    folder = Path(value)
    parts = (folder / "templates", folder / "static")
    if not folder.is_absolute() or not any(map(isdir, parts)):
        raise ValueError(
            f"is {value!r}: set it to the absolute path of a folder with a folder templates or "
            "static in it, such as %(here)s/overrides"
        )
    return folder


def parse_data_folder(value: str) -> Path:
    """Return the folder, but move one in the package to the current folder.

    The packaged development.ini names a folder beside itself.  An upgrade may remove it, and other
    users may lack access.
    """
    path = Path(value)
    return Path.cwd() / path.name if path.parent == ini_files.PACKAGE else path


def parse_trusted_proxy(value: str) -> str:
    if value in ("*", "none"):
        return value
    try:
        return str(ip_address(value))
    except ValueError:
        raise ValueError(
            f"is {repr(value) if value else 'missing'}: set it to the proxy's IP address, to * "
            "if all clients come through proxies, or to none if they connect directly"
        ) from None


def parse_site_url(value: str) -> str:
    """Return the URL as browsers write an origin: in lower case, without a default port."""
    site = value.lower().removesuffix("/")
    found = re.fullmatch(r"https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(?::([0-9]{1,5}))?", site)
    if not found or ".." in site or not 1 <= int(found[2] or 443) <= 65535:
        raise ValueError(
            f"is {'not the URL of a site' if value else 'missing, and MAIL_URL needs it'}: "
            "set it to https://HOST, without a path"
        )
    return re.sub("(?<=^https)(://.*):443$|(?<=^http)(://.*):80$", r"\1\2", site)


def parse_mail_url(value: str) -> str:
    """Return the URL.  It may have a password, so no error repeats it, as urllib's own would."""
    if value.startswith("file:") and value != "file:":
        return f"file:{parse_data_folder(value.removeprefix('file:'))}"
    smtp = False
    try:
        parts = urlsplit(value)
        smtp = parts.scheme in ("smtp", "smtps") and bool(parts.hostname) and parts.port != 0
        smtp &= parts.path in ("", "/") and not (parts.query or parts.fragment)
        smtp &= bool(parts.username) == bool(parts.password)
        smtp &= unquote(value).isascii() and unquote(value).isprintable()  # smtplib takes no others
    except ValueError:
        pass
    if not (value == "none" or smtp):
        raise ValueError(
            "is not a URL: set it to smtp://user:password@host:587, with each of / ? # @ : % in "
            "the password as its %XX, or to none"
        )
    return value


def parse_mail_from(value: str) -> str:
    """Return the address, with or without a name in front of it."""
    # Python's own parsers take more, and fail in different ways for what they can't read.
    named = re.fullmatch(r'(?:"[^"\\]+" |[^"<>()@,:;\\\[\]]+ )<([^<>\s]+)>', value)
    address = named[1] if named else value
    try:
        if not (address.isascii() and value.isprintable()):
            raise EmailNotValidError
        validate_email(address, check_deliverability=False)
    except EmailNotValidError:
        raise ValueError(
            f"is {'not an address' if value else 'missing, and MAIL_URL needs it'}: "
            'set it to an address, such as "Hello Login <login@example.org>"'
        ) from None
    return value


def parse_site_name(value: str) -> str:
    # In the URI of an authenticator app, a colon separates the site from the account.
    if len(value) > MAX_SITE_NAME_LENGTH or not value.isprintable() or ":" in value:
        raise ValueError(
            f"is {value!r}: set it to at most {MAX_SITE_NAME_LENGTH} printable characters, "
            "without a colon"
        )
    return value


def parse_metrics_token(value: str) -> str:
    # In a header, a blank would end the token, and other characters than ASCII have no encoding.
    if not re.fullmatch("[!-~]{32,}", value):
        raise ValueError(
            "is too short, or has a blank or a letter with an accent: set it to 32 or more random "
            "characters, for example the output of: openssl rand -hex 32"
        )
    return value


def parse_contact(value: str) -> str:
    """Return the URL of the contact: a page, or an address as mailto:."""
    try:
        if not (re.fullmatch(r"https://[^\s/]+\S*", value) and value.isprintable()):
            address = value.removeprefix("mailto:")
            validate_email(address, check_deliverability=False)
            return f"mailto:{quote(address, safe='@+')}"
    except EmailNotValidError:
        raise ValueError(
            "is neither an address nor a page: set it to one such as help@example.org or "
            "https://example.org/help"
        ) from None
    return value
