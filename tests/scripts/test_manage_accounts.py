"""manage_accounts."""

import io
import re

import pytest

from hello_login import accounts, database, migrations, settings
from hello_login.accounts import Accounts, Refused
from hello_login.repositories import users
from hello_login.scripts.manage_accounts import main
from hello_login.throttling import Throttle
from tests.conftest import CLIENT, ROOT, MakeIni, NewDatabase, OpenAccounts
from tests.people import EMAIL, PASSWORD

PRODUCTION = str(ROOT / "production.ini")
NEW_PASSWORD = "staple battery horse"


@pytest.fixture
def url(new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch) -> str:
    """DATABASE_URL, of a migrated database."""
    url = new_database()
    list(migrations.migrate(url, ROOT / "sql"))
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("SECRET_KEY", "k" * 32)
    return url


class Site:
    """What people outside see of the accounts."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self.ada = accounts.register(name="Ada Lovelace", email=EMAIL, password=PASSWORD)
        self.token = accounts.begin_session(self.ada).token
        accounts.db.commit()

    def is_logged_in(self) -> bool:
        found = self.accounts.find_session(self.token) is not None
        self.accounts.db.commit()
        return found

    def can_log_in(self, password: str = PASSWORD) -> bool:
        try:
            self.accounts.authenticate(email=EMAIL, password=password)
        except Refused:
            return False
        finally:
            self.accounts.db.commit()
        return True


@pytest.fixture
def site(url: str, open_accounts: OpenAccounts) -> Site:
    """Ada has an account, and is logged in."""
    return Site(open_accounts(db=database.connect(url)))


def test_it_lists_accounts_from_the_newest_on(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.accounts.register(name="Grace", email="grace@example.com", password=PASSWORD)
    site.accounts.db.commit()
    main([PRODUCTION, "list"])
    first, second = capsys.readouterr().out.splitlines()
    assert re.match(r" +2  \d{4}-\d\d-\d\d \d\d:\d\d UTC  grace@example\.com  active$", first)
    main([PRODUCTION, "list", "--number", "1", "--before", "2"])
    assert capsys.readouterr().out.splitlines() == [second]


@pytest.mark.parametrize("account", [EMAIL, EMAIL.upper(), "1"])
def test_it_shows_an_account_by_its_address_or_its_id(
    site: Site, capsys: pytest.CaptureFixture[str], account: str
) -> None:
    main([PRODUCTION, "show", account])
    printed = capsys.readouterr().out
    assert re.search(r"^Account +1, active$", printed, re.MULTILINE)
    assert re.search(r"^Name +Ada Lovelace$", printed, re.MULTILINE)
    assert re.search(r"^  [0-9a-f]{12}  .*192\.0\.2\.1  Firefox on Linux$", printed, re.MULTILINE)
    assert re.search(r"UTC  logged_in  [0-9a-f]{12}  192\.0\.2\.1$", printed, re.MULTILINE)
    assert site.is_logged_in()


def test_it_shows_an_account_that_nobody_has_used(
    url: str, capsys: pytest.CaptureFixture[str], ini: MakeIni
) -> None:
    connection = database.connect(url)
    with accounts.as_operator(connection, settings.load({}, ini(), {})) as operator:
        operator.register(name="Ada", email=EMAIL, password=PASSWORD)
    connection.close()
    main([PRODUCTION, "show", EMAIL])
    printed = capsys.readouterr().out
    assert "Last login  never" in printed
    assert "registered  -  -" in printed


def test_it_sets_a_password_from_a_pipe_and_ends_all_sessions(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{NEW_PASSWORD}\n"))
    main([PRODUCTION, "set-password", EMAIL])
    assert capsys.readouterr().out == f"set-password: done for account 1, {EMAIL}\n"
    assert not site.is_logged_in()
    assert not site.can_log_in()
    assert site.can_log_in(NEW_PASSWORD)


def test_it_asks_for_a_password_at_a_terminal_without_showing_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setattr("getpass.getpass", lambda _: NEW_PASSWORD)
    main([PRODUCTION, "set-password", EMAIL])
    assert site.can_log_in(NEW_PASSWORD)


def test_a_password_against_the_rules_changes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    with pytest.raises(SystemExit, match=r"^Nothing was changed\. This is too short"):
        main([PRODUCTION, "set-password", EMAIL])
    assert site.is_logged_in()
    assert site.can_log_in()


def test_setting_a_password_lets_the_owner_of_a_besieged_account_in_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, ini: MakeIni
) -> None:
    changes = {"throttle_account": "1", "secret_key": "k" * 32}
    loaded = settings.load({}, ini(**changes), {})
    besieged = Accounts(
        site.accounts.db,
        loaded,
        site.accounts.passwords,
        Throttle(loaded),
        CLIENT,
        print,
    )
    with pytest.raises(Refused):
        besieged.authenticate(email=EMAIL, password="a wrong one")
    site.accounts.db.commit()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{NEW_PASSWORD}\n"))
    main([PRODUCTION, "set-password", EMAIL])
    assert besieged.authenticate(email=EMAIL, password=NEW_PASSWORD) == site.ada


def test_a_deactivated_accounts_sessions_are_dead_at_once_until_it_is_reactivated(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    main([PRODUCTION, "deactivate", EMAIL])
    assert not site.is_logged_in()
    assert not site.can_log_in()
    main([PRODUCTION, "list"])
    assert "deactivated 20" in capsys.readouterr().out
    main([PRODUCTION, "reactivate", EMAIL])
    assert not site.is_logged_in()
    assert site.can_log_in()


def test_it_ends_all_sessions(site: Site) -> None:
    main([PRODUCTION, "end-sessions", EMAIL])
    assert not site.is_logged_in()
    assert site.can_log_in()


@pytest.mark.parametrize(("typed", "deleted"), [("yes", True), ("y", False), ("", False)])
def test_it_deletes_an_account_when_yes_is_typed(
    site: Site, monkeypatch: pytest.MonkeyPatch, typed: str, deleted: bool
) -> None:
    monkeypatch.setattr("builtins.input", lambda _: typed)
    if deleted:
        main([PRODUCTION, "delete", EMAIL])
    else:
        with pytest.raises(SystemExit, match="Nothing was deleted"):
            main([PRODUCTION, "delete", EMAIL])
    assert site.can_log_in() is not deleted


def test_it_deletes_an_account_without_asking_where_told_so(site: Site) -> None:
    main([PRODUCTION, "delete", "--yes", "1"])
    assert users.find(site.accounts.db, user_id=1) is None


def test_an_account_that_does_not_exist_is_told(url: str) -> None:
    assert url
    for account in ("nobody@example.com", "17"):
        with pytest.raises(SystemExit, match=f"There is no account {account}"):
            main([PRODUCTION, "show", account])


def test_tables_that_do_not_exist_are_told(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", new_database())
    monkeypatch.setenv("SECRET_KEY", "k" * 32)
    with pytest.raises(SystemExit, match="There is no such table yet: initialize_db"):
        main([PRODUCTION, "list"])


@pytest.mark.parametrize("arguments", [["list", "1"], ["show"], ["nothing", "1"], []])
def test_a_wrong_call_is_told_how_to_do_it(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([PRODUCTION, *arguments])
    assert "usage: manage_accounts" in capsys.readouterr().err


def test_its_help_teaches_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    for command in ("list", "show", "set-password", "deactivate", "reactivate", "end-sessions"):
        assert re.search(rf"^  {command} +\w+", told, re.MULTILINE)
    assert "manage_accounts production.ini show ada@example.com" in told
