"""Lets the operator look after accounts."""

import argparse
import getpass
import sys
from datetime import datetime

import plaster
import psycopg2
from psycopg2.extensions import connection as Connection

from .. import accounts, database, settings
from ..passwords import PasswordRefused
from ..repositories import users

COMMANDS = {
    "list": "list accounts, the newest first (--before ID goes on from there)",
    "show": "show an account, its sessions and its last ten events",
    "set-password": "replace the password, and end all sessions",
    "deactivate": "let nobody log in any more, and end all sessions",
    "reactivate": "let the owner log in again",
    "end-sessions": "end all sessions: every device has to log in again",
    "delete": "delete the account and all that is of it (--yes does not ask)",
}


def main(argv: list[str] | None = None) -> None:
    """The console script manage_accounts.

    Raises SystemExit with a sentence, and so ends with exit code 1, when that can't be done.
    """
    arguments = _parse(argv)
    checked = settings.read(arguments.config_uri)
    plaster.setup_logging(arguments.config_uri)
    url = database.locate(checked)
    database.wait(url, 0)
    connection = database.connect(url)
    try:
        with accounts.as_operator(connection, checked) as operator:
            _run(arguments, connection, operator)
    except psycopg2.errors.UndefinedTable:
        raise SystemExit(
            f"There is no such table yet: initialize_db {arguments.config_uri}"
        ) from None
    finally:
        connection.close()


def _parse(argv: list[str] | None) -> argparse.Namespace:
    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog="manage_accounts",
        description="Look after accounts.\n\n"
        + "\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()),
        epilog="Examples:\n"
        "  manage_accounts production.ini list\n"
        "  manage_accounts production.ini show ada@example.com\n"
        "  manage_accounts production.ini deactivate 17\n"
        "  openssl rand -base64 15 | tee /dev/tty | manage_accounts production.ini set-password 17",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config_uri", metavar="INI", help="development.ini or production.ini")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="one of the above")
    parser.add_argument("account", metavar="ACCOUNT", nargs="?", help="its id or its address")
    parser.add_argument("--before", metavar="ID", type=int, default=2**63 - 1)
    parser.add_argument("--number", metavar="N", type=int, default=50, help="how many to list")
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    arguments = parser.parse_intermixed_args(argv)
    if (arguments.account is None) is not (arguments.command == "list"):
        parser.error("list takes no ACCOUNT, and every other command takes one")
    return arguments


def _run(arguments: argparse.Namespace, db: Connection, operator: accounts.Accounts) -> None:
    if arguments.command == "list":
        for each in users.list_newest(db, before=arguments.before, number=arguments.number):
            print(f"{each.id:>8}  {_moment(each.created_at)}  {each.email}  {_state(each)}")
        return
    named = arguments.account
    user = users.find(db, user_id=int(named)) if named.isdecimal() else users.find(db, email=named)
    if user is None:
        raise SystemExit(f"There is no account {named}: look for it with list.")
    if arguments.command == "show":
        _show(user, operator)
    elif arguments.command == "set-password":
        _set_password(user, operator)
    elif arguments.command == "end-sessions":
        operator.end_sessions(user)
    elif arguments.command == "delete":
        if not arguments.yes and input(f"Delete {user.email} for ever? Type yes: ") != "yes":
            raise SystemExit("Nothing was deleted.")
        operator.delete(user)
    else:
        operator.set_active(user, arguments.command == "reactivate")
    if arguments.command != "show":
        print(f"{arguments.command}: done for account {user.id}, {user.email}")


def _show(user: users.User, operator: accounts.Accounts) -> None:
    print(f"Account     {user.id}, {_state(user)}")
    print(f"Name        {user.name}")
    print(f"Address     {user.email}")
    print(f"Registered  {_moment(user.created_at)}")
    print(f"Last login  {_moment(user.last_login_at)}")
    print("\nSessions (fingerprint, last seen, address, device)")
    for session in operator.sessions(user):
        seen = _moment(session.last_seen_at)
        print(f"  {session.fingerprint}  {seen}  {session.address or '-'}  {session.device}")
    print("\nLast events (when, what, session, address)")
    for event in operator.events(user):
        where = f"{event.fingerprint or '-'}  {event.address or '-'}"
        print(f"  {_moment(event.happened_at)}  {event.event}  {where}")


def _set_password(user: users.User, operator: accounts.Accounts) -> None:
    if sys.stdin.isatty():
        password = getpass.getpass("New password: ")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    try:
        operator.change_password(user, password)
    except PasswordRefused as error:
        raise SystemExit(f"Nothing was changed. {error}") from None


def _moment(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M %Z}" if time else "never"


def _state(user: users.User) -> str:
    return f"deactivated {_moment(user.deactivated_at)}" if user.deactivated_at else "active"
