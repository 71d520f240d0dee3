"""The command manage_accounts."""

import dataclasses
import io
import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from hello_login.auth import accounts
from hello_login.auth.login import AuthenticationFailed
from hello_login.auth.passwords import Passwords
from hello_login.auth.rate_limits import RateLimited
from hello_login.db import connections, migrations
from hello_login.repositories import users
from hello_login.scripts import as_operator
from hello_login.scripts.manage_accounts import main
from tests.conftest import ROOT, NewDatabase, OpenVisitor
from tests.people import EMAIL, PASSWORD
from tests.visitor import Visitor

PRODUCTION = str(ROOT / "production.ini")
NEW_PASSWORD = "staple battery horse"


@pytest.fixture
def url(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set DATABASE_URL to that of a new, migrated database, and return it."""
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("SECRET_KEY", "k" * 32)
    return url


class Owner:
    """The owner of an account, who uses it while an operator runs commands."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor
        self.user_id = visitor.register(name="Ada Lovelace", email=EMAIL, password=PASSWORD)
        self.token = visitor.complete_login(self.user_id).token
        visitor.db.commit()

    def is_logged_in(self) -> bool:
        found = self.visitor.find_session(self.token) is not None
        self.visitor.db.commit()
        return found

    def can_log_in(self, password: str = PASSWORD) -> bool:
        try:
            self.visitor.authenticate(email=EMAIL, password=password)
        except (AuthenticationFailed, RateLimited):
            return False
        finally:
            self.visitor.db.commit()
        return True


@pytest.fixture
def owner(url: str, open_visitor: OpenVisitor) -> Owner:
    """Register Ada and log her in."""
    return Owner(open_visitor(db=connections.connect(url)))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make standard input a terminal."""
    stdin = io.StringIO()
    stdin.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", stdin)


def test_it_lists_accounts_newest_first(owner: Owner, capsys: pytest.CaptureFixture[str]) -> None:
    owner.visitor.register(name="Grace", email="grace@example.com", password=PASSWORD)
    owner.visitor.db.commit()
    main([PRODUCTION, "list"])
    head, first, second = capsys.readouterr().out.splitlines()
    assert re.match(r" +2  \d{4}-\d\d-\d\d \d\d:\d\d UTC  grace@example\.com$", first)
    main([PRODUCTION, "list", "--number", "1", "--before", "2"])
    assert capsys.readouterr().out.splitlines() == [head, second]


@pytest.mark.parametrize("account", [EMAIL, EMAIL.upper(), "1"])
def test_it_shows_an_account_by_its_address_or_its_id(
    owner: Owner, capsys: pytest.CaptureFixture[str], account: str
) -> None:
    main([PRODUCTION, "show", account])
    printed = capsys.readouterr().out
    assert re.search(r"^Account +1$", printed, re.MULTILINE)
    assert re.search(r"^Name +Ada Lovelace$", printed, re.MULTILINE)
    assert re.search(r"^  [0-9a-f]{12}  .*192\.0\.2\.1  Firefox on Linux$", printed, re.MULTILINE)
    assert re.search(r"UTC  logged_in  [0-9a-f]{12}  192\.0\.2\.1$", printed, re.MULTILINE)
    assert owner.is_logged_in()


def test_it_shows_twenty_sessions_of_an_account_and_how_many_more_there_are(
    owner: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(22):
        owner.visitor.complete_login(owner.user_id)
    owner.visitor.db.commit()
    main([PRODUCTION, "show", EMAIL])
    printed = capsys.readouterr().out
    assert len(re.findall(r"^  [0-9a-f]{12}  ", printed, re.MULTILINE)) == 20
    assert "\n  and 3 more, which were used longer ago\n" in printed


def test_it_shows_an_account_without_a_login(
    url: str, capsys: pytest.CaptureFixture[str], passwords: Passwords
) -> None:
    connection = connections.connect(url)
    with as_operator(connection) as operator:
        accounts.register(operator, passwords, name="Ada", email=EMAIL, password=PASSWORD)
    connection.close()
    main([PRODUCTION, "show", EMAIL])
    printed = capsys.readouterr().out
    assert "Last login  never" in printed
    assert "registered  -  -" in printed


def test_it_sets_a_password_from_a_pipe_and_ends_all_sessions(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{NEW_PASSWORD}\n"))
    main([PRODUCTION, "set-password", EMAIL])
    assert capsys.readouterr().out == f"set-password: done for account 1, {EMAIL}\n"
    assert not owner.is_logged_in()
    assert not owner.can_log_in()
    assert owner.can_log_in(NEW_PASSWORD)


@pytest.mark.usefixtures("terminal")
def test_it_asks_for_a_password_at_a_terminal_without_showing_it(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getpass", lambda _: NEW_PASSWORD)
    main([PRODUCTION, "set-password", EMAIL])
    assert owner.can_log_in(NEW_PASSWORD)


def test_a_password_against_the_rules_changes_nothing(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    with pytest.raises(SystemExit, match=r"^Nothing was changed\. This password is too short"):
        main([PRODUCTION, "set-password", EMAIL])
    assert owner.is_logged_in()
    assert owner.can_log_in()


def test_setting_a_password_resets_the_rate_limits_of_the_account(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacked = dataclasses.replace(owner.visitor, secret_key="k" * 32)
    for _ in range(6):
        with pytest.raises((AuthenticationFailed, RateLimited)) as caught:
            attacked.authenticate(email=EMAIL, password="a wrong one")
    assert caught.type is RateLimited
    owner.visitor.db.commit()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{NEW_PASSWORD}\n"))
    main([PRODUCTION, "set-password", EMAIL])
    assert attacked.authenticate(email=EMAIL, password=NEW_PASSWORD) == owner.user_id


def test_deactivating_ends_all_sessions_and_reactivating_allows_new_logins(
    owner: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    main([PRODUCTION, "deactivate", EMAIL])
    assert not owner.is_logged_in()
    assert not owner.can_log_in()
    main([PRODUCTION, "list"])
    assert "deactivated 20" in capsys.readouterr().out
    main([PRODUCTION, "reactivate", EMAIL])
    assert not owner.is_logged_in()
    assert owner.can_log_in()


def test_it_ends_all_sessions(owner: Owner) -> None:
    main([PRODUCTION, "end-sessions", EMAIL])
    assert not owner.is_logged_in()
    assert owner.can_log_in()


@pytest.mark.parametrize(("typed", "deleted"), [("yes", True), ("y", False), ("", False)])
def test_it_deletes_an_account_only_when_yes_is_typed(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, typed: str, deleted: bool
) -> None:
    monkeypatch.setattr("builtins.input", lambda _: typed)
    if deleted:
        main([PRODUCTION, "delete", EMAIL])
    else:
        with pytest.raises(SystemExit, match="Nothing was deleted"):
            main([PRODUCTION, "delete", EMAIL])
    assert owner.can_log_in() is not deleted


def test_it_deletes_an_account_without_asking_if_yes_is_an_argument(owner: Owner) -> None:
    main([PRODUCTION, "delete", "--yes", "1"])
    assert users.get_by_id(owner.visitor.db, 1) is None


def test_an_unknown_account_is_reported(url: str) -> None:
    assert url
    for account in ("nobody@example.com", "17", "9" * 30, "-1", "", "\udcff", "\0"):
        with pytest.raises(SystemExit, match="No account has this id or address"):
            main([PRODUCTION, "show", "--", account])


def test_missing_tables_are_reported(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", new_database())
    monkeypatch.setenv("SECRET_KEY", "k" * 32)
    with pytest.raises(SystemExit, match="The schema is out of date: run initialize_db"):
        main([PRODUCTION, "list"])


def test_an_outdated_schema_is_reported(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = new_database()
    for name in ("0001.users.sql", "0002.sessions.sql"):
        shutil.copy(ROOT / "sql" / name, tmp_path)
    list(migrations.migrate(url, tmp_path))
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("SECRET_KEY", "k" * 32)
    with pytest.raises(SystemExit, match="The schema is out of date: run initialize_db"):
        main([PRODUCTION, "list"])


@pytest.mark.parametrize("command", ["deactivate", "reactivate"])
def test_a_repeated_deactivation_or_reactivation_is_reported_and_not_recorded(
    owner: Owner, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    main([PRODUCTION, "deactivate", EMAIL])
    if command == "reactivate":
        main([PRODUCTION, "reactivate", EMAIL])
    capsys.readouterr()
    main([PRODUCTION, command, EMAIL])
    assert capsys.readouterr().out == f"Account 1, {EMAIL}, is {command}d already\n"
    main([PRODUCTION, "show", EMAIL, "--events", "50"])
    assert capsys.readouterr().out.count(f"  {command}d  ") == 1
    assert owner.user_id == 1


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("command", ["delete", "set-password"])
def test_nothing_is_changed_when_nothing_is_typed(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def end_of_input(*_: object) -> None:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", end_of_input)
    monkeypatch.setattr("builtins.input", end_of_input)
    with pytest.raises(SystemExit, match="Nothing was changed: the input ended"):
        main([PRODUCTION, command, EMAIL])
    assert owner.is_logged_in()


@pytest.mark.usefixtures("terminal")
def test_two_passwords_that_differ_change_nothing(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter([NEW_PASSWORD, f"{NEW_PASSWORD}."])
    monkeypatch.setattr("getpass.getpass", lambda _: next(typed))
    with pytest.raises(SystemExit, match="the two passwords differ"):
        main([PRODUCTION, "set-password", EMAIL])
    assert owner.can_log_in()


def test_a_password_that_is_not_utf_8_changes_nothing(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"staple \xff horse\n"), "utf-8"))
    with pytest.raises(SystemExit, match="the password is not UTF-8"):
        main([PRODUCTION, "set-password", EMAIL])
    assert owner.can_log_in()


def test_a_lost_connection_is_reported(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose_connection(*_: object) -> None:
        raise psycopg2.OperationalError("the connection was lost")

    monkeypatch.setattr(accounts, "deactivate", lose_connection)
    with pytest.raises(SystemExit, match="Nothing was changed: the connection was lost"):
        main([PRODUCTION, "deactivate", EMAIL])
    assert owner.is_logged_in()


def test_a_read_only_server_is_reported(
    url: str, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(connections.connect(url)) as operator, operator.cursor() as cursor:
        operator.autocommit = True
        name = operator.info.dbname
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    for database_url in (url, f"{url}&target_session_attrs=any"):
        monkeypatch.setenv("DATABASE_URL", database_url)
        with pytest.raises(SystemExit, match=r"^PostgreSQL takes no writes: .*: name the primary"):
            main([PRODUCTION, "end-sessions", EMAIL])
    assert owner.is_logged_in()


def test_a_change_is_kept_if_its_result_cannot_be_printed(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BrokenPipeError

    redirected = []
    monkeypatch.setattr("builtins.print", fail)
    monkeypatch.setattr("os.dup2", lambda *arguments: redirected.append(arguments))
    main([PRODUCTION, "deactivate", EMAIL])
    assert len(redirected) == 1
    os.close(redirected[0][0])
    assert not owner.is_logged_in()


@pytest.mark.slow
def test_a_closed_output_pipe_is_no_error(owner: Owner) -> None:
    assert owner.user_id == 1
    program = Path(sys.executable).parent / "manage_accounts"
    with subprocess.Popen(
        [program, PRODUCTION, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "1"],
        ["list", "--number", "0"],
        ["list", "--number", "-1"],
        ["list", "--before", "9" * 30],
        ["show"],
        ["show", "1", "--yes"],
        ["nothing", "1"],
        [],
    ],
)
def test_wrong_arguments_print_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([PRODUCTION, *arguments])
    assert "usage: manage_accounts" in capsys.readouterr().err


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    printed_help = capsys.readouterr().out
    for command in ("list", "show", "set-password", "deactivate", "reactivate", "end-sessions"):
        assert re.search(rf"^    {command}\s+\w+", printed_help, re.MULTILINE)
    assert "manage_accounts production.ini show ada@example.com" in printed_help
