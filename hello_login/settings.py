"""The settings of a deployment, read from the .ini file and the environment.

A mistake of the operator raises SystemExit with a text that names the mistake and its remedy.  It
ends the program with this text on stderr, exit code 1 and no traceback.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import ini_files, values

PREFIX = "hello_login."
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


def _setting(parse: Callable[[str], Any], default: Any = MISSING, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"parse": parse})


def _number(default: int, low: int, high: int) -> Any:
    return _setting(partial(values.parse_number, low, high), default)


def _choice(default: str, other: str) -> Any:
    return _setting(partial(values.parse_choice, (default, other)), default)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings, each of them hello_login.<name> in [app:main] of the .ini file."""

    database_url: str | None = _setting(values.parse_database_url, None, secret=True)
    """A URL that begins with postgresql:// or postgres://.  None: embedded_postgres is used."""

    database_pooler: str = _choice("session", "transaction")
    """How long a connection of DATABASE_URL keeps its session of PostgreSQL: for good, as without a
    pooler, or for a transaction."""

    database_direct_url: str | None = _setting(values.parse_database_url, None, secret=True)
    """A URL without the pooler, for initialize_db."""

    secret_key: str = _setting(values.parse_secret_key, secret=True)
    """One key or several, separated by blanks or commas: see secret_keys."""

    migrations: tuple[Path, ...] = _setting(values.parse_migrations, (values.MIGRATIONS,))
    """The folders of the yoyo migration files, the package's own first.  The setting names further
    ones, one in a line."""

    overrides: Path | None = _setting(values.parse_overrides, None)
    """A folder whose templates/ and static/ replace files of the package, and add others."""

    embedded_postgres: Path | None = _setting(values.parse_data_folder, None)
    """The folder of the development database.  Production has none, so it needs a database_url."""

    secure_cookies: bool = _setting(values.parse_boolean, True)
    """Cookies are Secure and named __Host- (ASVS 5.0, 3.3.1).  They need https, so trusted_proxy is
    required."""

    trusted_proxy: str = _setting(values.parse_trusted_proxy, "none")
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

    second_factor_required: bool = _setting(values.parse_boolean, False)
    """An account without a second factor can only set one up (ASVS 5.0, 6.3.3)."""

    processes: int = _number(1, 1, 64)
    """The number of serving processes."""

    hash_workers: int = _number(0, 0, 1000)
    """The number of passwords that all processes hash at once; 0: the number of processors."""

    log_level: str = _setting(values.parse_level, "INFO")
    """The lowest level that is logged."""

    graceful_timeout: int = _number(25, 0, 3600)
    """Seconds that a stopping server has to finish the requests it has begun.  Heroku kills it
    after 30."""

    site_url: str | None = _setting(values.parse_site_url, None)
    """The URL that links in mails and redirects begin with, such as https://login.example.org.
    Other hosts are refused (web/hosts.py)."""

    mail_url: str | None = _setting(values.parse_mail_url, None, secret=True)
    """How mail is sent: smtp:// with STARTTLS, smtps://, or file:FOLDER for development."""

    mail_from: str | None = _setting(values.parse_mail_from, None)
    """The address that mails come from."""

    site_name: str = _setting(values.parse_site_name, "Hello Login")
    """The name of the site: on pages, in mails, in authenticator apps and in lists of passkeys."""

    contact: str | None = _setting(values.parse_contact, None)
    """The operator's address or page, for users who need help."""

    registration: str = _choice("open", "closed")
    """open, or closed: only somebody with an invitation of the operator can register."""

    metrics_token: str | None = _setting(values.parse_metrics_token, None, secret=True)
    """The token that /metrics requires.  None: there is no /metrics, and nothing is counted."""

    after_login: str = _setting(values.parse_path, "/account")
    """The path that a login and a registration lead to, if no other page was asked for."""

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """Return the keys, newest first: the newest signs, and all are accepted."""
        return values.split_keys(self.secret_key)

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
    given = {name.removeprefix(PREFIX): ini[name] for name in ini if name.startswith(PREFIX)}
    for name, variable in ENVIRONMENT.items():
        given[name] = environ.get(variable) or given.get(name, "")

    required = {each.name for each in fields(Settings) if each.default is MISSING}
    required |= set() if given.get("embedded_postgres") else {"database_url"}
    https = given.get("secure_cookies") != "false"
    required |= {"trusted_proxy"} if https else set()
    if given["mail_url"].strip() not in ("", "none"):
        required |= {"mail_from", "site_url"} if https else {"mail_from"}
    problems = []
    checked = {}
    for each in fields(Settings):
        value = given.pop(each.name, "").strip()
        try:
            values.check_encoding(value)
            if value or each.name in required:
                checked[each.name] = each.metadata["parse"](value)
        except ValueError as error:
            problems.append(f"{ENVIRONMENT.get(each.name, PREFIX + each.name)} {error}.")
    problems += [f"{PREFIX}{name} is not a setting: correct its name." for name in given]
    try:
        local_url = values.parse_site_url(f"http://localhost:{port(global_config, environ)}")
        if not checked.get("secure_cookies", True):
            checked.setdefault("site_url", local_url)
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
                return values.parse_number(1, 65535, value)
            except ValueError as error:
                raise ValueError(f"{name} {error}.") from None
    return 5000
