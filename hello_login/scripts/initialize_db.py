"""The command initialize_db, which migrates the database and lists its tables."""

import argparse
import os
import secrets
from contextlib import closing

import psycopg2
import psycopg2.errors
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import parse_dsn

from ..auth import accounts, audit
from ..auth.passwords import Passwords
from ..db import connections, migrations, transactions
from ..settings import Settings
from . import as_operator, open_config

SAMPLE_USERS = [
    ("Ada Lovelace", "ada@example.com"),
    ("Grace Hopper", "grace@example.com"),
    ("Katherine Johnson", "katherine@example.com"),
]

FLAGS = {
    "--no-migrate": "do not change the schema: only wait, and list the tables",
    "--sample-users": "add sample users, and print their passwords, once",
    "--force": "add them even if the database is not on this machine",
}


def main(argv: list[str] | None = None) -> None:
    """Run the console script initialize_db.

    Raises SystemExit with a sentence (exit code 1) when it fails.
    """
    arguments = _parse(argv)
    checked, url = open_config(arguments.config_uri)
    variable = "DATABASE_DIRECT_URL" if checked.database_direct_url else "DATABASE_URL"
    url = checked.database_direct_url or url
    if checked.shares_sessions and not (checked.database_direct_url or arguments.no_migrate):
        raise SystemExit(
            "No migration is applied through a pooler that shares sessions: set "
            "DATABASE_DIRECT_URL to the URL of PostgreSQL itself, or add --no-migrate."
        )
    if arguments.sample_users and not arguments.force and not _is_local(url):
        raise SystemExit(
            f"Sample users are for a database on this machine, but {variable} names another one: "
            "add --force to add them there."
        )
    connections.wait(url, arguments.wait, variable)
    if not arguments.no_migrate:
        _migrate(url, checked)
        if checked.shares_sessions:
            _alter_role(url)
    with closing(connections.connect(url)) as connection:
        if not arguments.no_migrate:
            _prepare_months(connection)
        if arguments.sample_users:
            _add_sample_users(connection, checked)
        print("\nTable                 Rows")
        limit = migrations.MAX_COUNTED_ROWS
        for table, rows in migrations.count_rows(connection):
            print(f"{table:<16}{rows if rows <= limit else f'> {limit}':>10}")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="initialize_db",
        description="Bring the schema up to date and list the tables.  It drops no data but "
        "expired events, and may run repeatedly, or several times at once.",
        epilog="Example: initialize_db production.ini --wait 30",
    )
    parser.add_argument("config_uri", metavar="INI", help="development.ini or production.ini")
    wait_help = "how long to wait until PostgreSQL answers (default: %(default)s)"
    parser.add_argument("--wait", metavar="SECONDS", type=float, default=0, help=wait_help)
    for flag, help_text in FLAGS.items():
        parser.add_argument(flag, action="store_true", help=help_text)
    return parser.parse_args(argv)


def _is_local(url: str) -> bool:
    dsn = parse_dsn(url)
    host = dsn.get("hostaddr") or dsn.get("host") or os.environ.get("PGHOST", "")
    named = host in ("", "localhost", "127.0.0.1", "::1") or host.startswith("/")
    return named and "service" not in dsn


def _migrate(url: str, checked: Settings) -> None:
    applied = False
    try:
        for name, seconds in migrations.migrate(url, *checked.migrations):
            applied = True
            print(f"Applied {name} in {seconds * 1000:.0f} ms")
    # yoyo goes on without its tables if it can't create them.
    except (psycopg2.errors.InsufficientPrivilege, psycopg2.errors.UndefinedTable) as error:
        reason = str(error).partition("\n")[0]
        raise SystemExit(
            f"The schema can't be brought up to date: {reason}: run initialize_db as a role that "
            "owns the tables and may create others, or add --no-migrate."
        ) from None
    if not applied:
        print("The schema is up to date")


def _alter_role(url: str) -> None:
    """Give the role the settings of requests, which a pooler does not pass on."""
    with closing(connections.connect(url)) as connection:
        statements = migrations.role_statements(connection, transactions.session_settings())
        if not statements:
            return
        try:
            migrations.alter_role(connection, statements)
            print(f"Executed {statements}")
        except psycopg2.Error as error:
            reason = str(error).partition("\n")[0]
            print(
                f"The role's settings are missing: {reason}: as an administrator, run {statements}"
            )


def _prepare_months(connection: Connection) -> None:
    connection.autocommit = True
    problem = audit.prepare_months(connection)
    connection.autocommit = False
    if problem is not None:
        raise SystemExit(problem)


def _add_sample_users(db: Connection, checked: Settings) -> None:
    print()
    passwords = Passwords(checked)
    with as_operator(db, checked) as operator:
        for name, email in SAMPLE_USERS:
            password = secrets.token_urlsafe(12)
            try:
                accounts.register(operator, passwords, name=name, email=email, password=password)
            except accounts.EmailTaken:
                print(f"{email:<24}exists already")
            else:
                print(f"{email:<24}password: {password}")
