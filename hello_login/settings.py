"""The settings of a deployment, read from the .ini file and the environment.

An operator's mistake raises SystemExit with a text that says what is wrong and what to do.  It ends
the program with this text on stderr, exit code 1 and no traceback.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import parse_dsn

from . import ini_files

PREFIX = "hello_login."
ENVIRONMENT = {
    "database_url": "DATABASE_URL",
    "secret_key": "SECRET_KEY",
    "log_level": "LOG_LEVEL",
    "processes": "WEB_CONCURRENCY",
    "trusted_proxy": "TRUSTED_PROXY",
    "trusted_proxy_count": "TRUSTED_PROXY_COUNT",
}
"""The environment variables that override settings."""

RENAMED = {"drain_seconds": "graceful_timeout", "verifications": "hash_workers"}
"""New names of settings by their old ones, which are refused."""

REMOVED = {
    *("event_days", "fresh_login_minutes", "lock_timeout_seconds", "password_max_length"),
    *("queue_seconds", "remembered_idle_hours", "remembered_limit_hours", "session_idle_hours"),
    *("session_limit_hours", "statement_timeout_seconds", "throttle_account"),
    *("throttle_account_network", "throttle_check", "throttle_device"),
    *("throttle_longest_wait_seconds", "throttle_network", "throttle_registration"),
    "throttle_wait_seconds",
}
"""Names of former settings, which are constants now.  They are refused."""


def _parse_number(low: int, high: int, value: str) -> int:
    if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
        raise ValueError(f"is {value!r}: set it to a whole number from {low} to {high}")
    return int(value)


def _parse_boolean(value: str) -> bool:
    if value not in ("true", "false"):
        raise ValueError(f"is {value!r}: set it to true or false")
    return value == "true"


def _parse_level(value: str) -> str:
    if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError(f"is {value!r}: set it to debug, info, warning or error")
    return value.upper()


def _parse_secret_key(value: str) -> str:
    if len(value) < 32:
        raise ValueError(
            f"is {'too short' if value else 'missing'}: set it to 32 or more random characters, "
            "for example the output of: openssl rand -base64 33"
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


def _parse_migrations(value: str) -> Path:
    if not any(Path(value).glob("*.sql")):
        raise ValueError(f"is {value!r}, a folder without .sql files: set it to the project's sql/")
    return Path(value)


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


def _explain_unknown(name: str) -> str:
    if name in RENAMED:
        return f"is now called {PREFIX}{RENAMED[name]}: rename it"
    if name in REMOVED:
        return "is no longer a setting: remove the line"
    return "is not a setting: correct its name"


def _setting(parse: Callable[[str], Any], default: Any = MISSING, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"parse": parse})


def _number(default: int, low: int, high: int) -> Any:
    return _setting(partial(_parse_number, low, high), default)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings, each of them hello_login.<name> in [app:main] of the .ini file."""

    database_url: str | None = _setting(_parse_database_url, None, secret=True)
    """A URL that begins with postgresql:// or postgres://.  None: embedded_postgres is used."""

    secret_key: str = _setting(_parse_secret_key, secret=True)
    """Signs the session cookie."""

    migrations: Path = _setting(_parse_migrations, ini_files.PACKAGE / "sql")
    """The folder of the yoyo migration files."""

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

    processes: int = _number(1, 1, 64)
    """The number of serving processes."""

    hash_workers: int = _number(0, 0, 1000)
    """The number of passwords that a process hashes at once; 0: its share of the processors."""

    log_level: str = _setting(_parse_level, "INFO")
    """The lowest level that is logged."""

    graceful_timeout: int = _number(25, 0, 3600)
    """Seconds that a stopping server has to finish the requests it has begun.  Heroku kills it
    after 30."""


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
    required |= set() if values.get("secure_cookies") == "false" else {"trusted_proxy"}
    problems = []
    checked = {}
    for each in fields(Settings):
        value = values.pop(each.name, "").strip()
        try:
            if value or each.name in required:
                checked[each.name] = each.metadata["parse"](value)
        except ValueError as error:
            problems.append(f"{ENVIRONMENT.get(each.name, PREFIX + each.name)} {error}.")
    problems += [f"{PREFIX}{name} {_explain_unknown(name)}." for name in values]
    try:
        port(global_config, environ)
    except ValueError as error:
        problems.append(str(error))

    lanes = checked.get("argon2_lanes", Settings.argon2_lanes)
    if checked.get("argon2_memory_kib", Settings.argon2_memory_kib) < 8 * lanes:
        problems.append(f"{PREFIX}argon2_memory_kib is too low: set it to {8 * lanes} or more.")

    if checked.get("secure_cookies", True) and "development-only" in checked.get("secret_key", ""):
        problems.append("SECRET_KEY is the public one of development.ini: replace it.")

    if problems:
        raise SystemExit("\n".join(problems))
    return Settings(**checked)


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
