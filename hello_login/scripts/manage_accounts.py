"""The command manage_accounts, with which the operator manages accounts."""

import argparse
import os
import sys
from datetime import datetime

import psycopg2
import psycopg2.errors
from email_validator import EmailNotValidError
from psycopg2.extensions import connection as Connection

from ..auth import accounts, links, rate_limits, second_factor, sessions
from ..auth.addresses import normalize_email
from ..auth.audit import RETENTION, Actor, make_event
from ..auth.totp import SecretBox
from ..db import connections
from ..repositories import events, mails, users
from ..settings import Settings
from . import as_operator, open_config

COMMANDS = {
    "list": "list accounts, newest first; --before ID continues the list",
    "show": "show an account, its sessions and its last events",
    "invite": "print a one-time link with which somebody registers with this address",
    "reset-link": "print a one-time link with which the owner sets a new password",
    "remove-factors": "remove the app and the passkeys of the account, and end all sessions",
    "unlock-codes": "accept codes of the account's app again after too many wrong ones",
    "deactivate": "refuse logins to the account, and end all sessions",
    "reactivate": "allow logins to the account again",
    "end-sessions": "end all sessions: every device has to log in again",
    "delete": "delete the account and its data; asks first, unless --yes is given",
    "mails": "list the mails that wait to be sent, or were given up",
    "renew-secrets": "encrypt the secrets of authenticator apps with the first key of SECRET_KEY",
}
WITHOUT_ACCOUNT = ("list", "invite", "mails", "renew-secrets")
MAX_ID = 2**63 - 1
SHOWN_SESSIONS = 20
LISTED_MAILS = 1000
LISTED_UNREADABLE = 10


def main(argv: list[str] | None = None) -> None:
    """Run the console script manage_accounts.

    Raises SystemExit with a sentence (exit code 1) when it fails.
    """
    arguments = _parse(argv)
    checked, url = open_config(arguments.config_uri)
    connections.wait(url, 0)
    connection = connections.connect(url)
    connection.set_session(isolation_level="READ COMMITTED")  # as requests have it
    try:
        with as_operator(connection, checked) as operator:
            output = _run_command(arguments, operator, checked)
        print(output, flush=True)
    except (psycopg2.errors.UndefinedTable, psycopg2.errors.UndefinedColumn):
        remedy = f"run initialize_db {arguments.config_uri}"
        raise SystemExit(f"The schema is out of date: {remedy}") from None
    except psycopg2.OperationalError as error:
        raise SystemExit(f"Nothing was changed: {error}") from None
    except (EOFError, KeyboardInterrupt):
        raise SystemExit("Nothing was changed: the input ended.") from None
    except BrokenPipeError:  # The reader, such as head, has closed the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        connection.close()


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 19 or not 0 < int(text) <= MAX_ID:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_ID}")
    return int(text)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="manage_accounts",
        description="Manage accounts.",
        epilog="Examples:\n"
        "  manage_accounts production.ini list\n"
        "  manage_accounts production.ini show ada@example.com\n"
        "  manage_accounts production.ini deactivate 17\n"
        "  manage_accounts production.ini reset-link ada@example.com\n"
        "  manage_accounts production.ini invite ada@example.com",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config_uri", metavar="INI", help="development.ini or production.ini")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, help_text in COMMANDS.items():
        description = f"{help_text.capitalize()}."
        command = commands.add_parser(name, help=help_text, description=description)
        if name not in WITHOUT_ACCOUNT:
            command.add_argument("account", metavar="ACCOUNT", help="its id or its address")
    listing = commands.choices["list"]
    listing.add_argument("--before", metavar="ID", type=_number, default=MAX_ID)
    listing.add_argument("--number", metavar="N", type=_number, default=50, help="(default: 50)")
    showing = commands.choices["show"]
    showing.add_argument("--events", metavar="N", type=_number, default=10, help="(default: 10)")
    commands.choices["invite"].add_argument("address", metavar="ADDRESS")
    commands.choices["delete"].add_argument("--yes", action="store_true", help="do not ask")
    return parser.parse_args(argv)


def _run_command(arguments: argparse.Namespace, operator: Actor, checked: Settings) -> str:
    """Run the command, and return the output to print after the commit."""
    if arguments.command == "list":
        return _list(operator.db, arguments.before, arguments.number)
    if arguments.command == "invite":
        return _invite(operator, checked, arguments.address)
    if arguments.command == "mails":
        return _list_mails(operator.db)
    if arguments.command == "renew-secrets":
        return _renew_secrets(operator.db, checked)
    user = _find(operator.db, arguments.account)
    if arguments.command == "show":
        return _describe(operator.db, user, arguments.events)
    if arguments.command == "reset-link":
        return _make_reset_link(operator, checked, user)
    return _change(arguments, operator, checked, user)


def _change(
    arguments: argparse.Namespace, operator: Actor, checked: Settings, user: users.User
) -> str:
    """Change an account, and return the output."""
    output = f"{arguments.command}: done for account {user.id}, {user.email}"
    if arguments.command == "unlock-codes":
        rate_limits.unlock_codes(operator.db, checked.secret_keys[0].encode(), user.id)
    elif arguments.command == "end-sessions":
        users.lock(operator.db, user.id)  # Without the lock, a login that is under way would go on.
        output += f", {sessions.end_all(operator, user)} sessions"
    elif arguments.command == "remove-factors":
        users.lock(operator.db, user.id)
        if not second_factor.remove_all(operator, user):
            return f"Account {user.id}, {user.email}, has no second factor"
        output += ".  Its password alone is enough now: use reset-link if somebody else may know it"
    elif arguments.command == "delete":
        if not arguments.yes and input(f"Delete {user.email} permanently? Type yes: ") != "yes":
            raise SystemExit("Nothing was deleted.")
        accounts.delete(operator, user)
    elif (user.deactivated_at is None) is (arguments.command == "reactivate"):
        return f"Account {user.id}, {user.email}, is {arguments.command}d already"
    elif arguments.command == "deactivate":
        accounts.deactivate(operator, user)
    else:
        accounts.reactivate(operator, user)
    return output


def _list(db: Connection, before: int, number: int) -> str:
    lines = [f"{'id':>8}  {'registered':<20}  address"]
    for user in users.list_newest(db, before=before, number=number):
        lines.append(f"{user.id:>8}  {_moment(user.created_at)}  {user.email}{_state(user)}")
    return "\n".join(lines)


def _find(db: Connection, account: str) -> users.User:
    """Return the account with this id or address.  Raises SystemExit if there is none."""
    if account.isdecimal() and len(account) < 19:
        user = users.get_by_id(db, int(account))
    else:
        email = account.encode("utf-8", "replace").decode().replace("\0", "?")
        user = users.get_by_email(db, email)
    if user is None:
        raise SystemExit(
            f"No account has this id or address: {account!r}. The command list shows all."
        )
    return user


def _describe(db: Connection, user: users.User, number: int) -> str:
    lines = [
        f"Account     {user.id}{_state(user)}",
        f"Name        {user.name}",
        f"Address     {user.email}",
        f"Registered  {_moment(user.created_at)}",
        f"Last login  {_moment(user.last_login_at)}",
        f"Second step {_describe_factors(db, user)}",
        "\nSessions (fingerprint, last seen, address, device)",
    ]
    listed = sessions.list_live(db, user.id)
    for session in listed[:SHOWN_SESSIONS]:
        seen = _moment(session.last_seen_at)
        lines.append(f"  {session.fingerprint}  {seen}  {session.address or '-'}  {session.device}")
    if listed[SHOWN_SESSIONS:]:
        lines.append(f"  and {len(listed) - SHOWN_SESSIONS} more, which were used longer ago")
    lines.append("\nLast events (when, what, session, address, device)")
    for event in events.list_of_user(db, user.id, number, RETENTION):
        where = f"{event.fingerprint or '-'}  {event.address or '-'}  {event.device or '-'}"
        lines.append(f"  {_moment(event.happened_at)}  {event.event}  {where}")
    return "\n".join(lines)


def _describe_factors(db: Connection, user: users.User) -> str:
    factors = second_factor.describe(db, user.id)
    described = []
    if factors.app_added_at is not None:
        described.append(f"authenticator app since {_moment(factors.app_added_at)}")
    if factors.passkeys:
        described.append(f"passkeys: {len(factors.passkeys)}")
    if not described:
        return "none"
    return ", ".join([*described, f"recovery codes: {factors.recovery_codes}"])


def _renew_secrets(db: Connection, checked: Settings) -> str:
    box = SecretBox(checked.secret_keys, "totp")
    try:
        renewed, unreadable = second_factor.renew_secrets(db, box)
    except (psycopg2.OperationalError, KeyboardInterrupt) as error:
        reason = str(error).strip() or "it was interrupted"
        raise SystemExit(
            f"Some secrets may not be encrypted anew yet: {reason}. Run this again."
        ) from None
    if unreadable:
        some = ", ".join(map(str, unreadable[:LISTED_UNREADABLE]))
        raise SystemExit(
            f"Encrypted {renewed} secrets anew, but no key in SECRET_KEY decrypts "
            f"{len(unreadable)} others, for example of account {some}: add the earlier key and run "
            "this again, or use remove-factors."
        )
    return f"renew-secrets: done for {renewed} secrets"


def _make_reset_link(operator: Actor, checked: Settings, user: users.User) -> str:
    if user.deactivated_at is not None:
        raise SystemExit(f"Account {user.id}, {user.email}, is deactivated: reactivate it first.")
    token = links.issue(operator.db, "recover", user.email, user.id)
    operator.record("reset_link_made", user.id)
    operator.notify("reset_link_made", user.id)
    return _describe_link(checked, token, "an hour")


def _invite(operator: Actor, checked: Settings, address: str) -> str:
    try:
        email = normalize_email(address)
    except EmailNotValidError as error:
        raise SystemExit(f"Nobody can register with {address!r}: {error}") from None
    user = users.get_by_email(operator.db, email)
    if user is not None:
        raise SystemExit(f"Account {user.id} has this address already: {user.email}")
    token = links.issue(operator.db, "invite", email, None)
    operator.log_after_commit(make_event(operator.client, "invited"))
    return _describe_link(checked, token, "7 days")


def _describe_link(checked: Settings, token: str, lifetime: str) -> str:
    path, works = f"/link/{token}", f"It works once, within {lifetime}."
    if checked.site_url is None:
        return f"{path}\nPut the URL of the site before it.  {works}"
    return f"{checked.site_url}{path}\n{works}"


def _list_mails(db: Connection) -> str:
    lines = [f"{'id':>8}  {'queued':<20}  {'next try':<20}  {'tries':>5}  {'kind':<15}  recipient"]
    for mail in mails.list_all(db, LISTED_MAILS):
        state = _moment(mail.try_at) if mail.try_at else "given up"
        lines.append(
            f"{mail.id:>8}  {_moment(mail.created_at):<20}  {state:<20}  {mail.tries:>5}"
            f"  {mail.kind:<15}  {mail.recipient}"
        )
    return "\n".join(lines)


def _moment(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M %Z}" if time else "never"


def _state(user: users.User) -> str:
    return f", deactivated {_moment(user.deactivated_at)}" if user.deactivated_at else ""
