"""The command manage_accounts."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from hello_login import settings
from hello_login.auth import accounts, login, rate_limits, second_factor, totp
from hello_login.auth.accounts import LinkExpired
from hello_login.auth.audit import Actor
from hello_login.auth.login import AuthenticationFailed, SecondFactorNeeded
from hello_login.auth.passwords import Passwords
from hello_login.auth.rate_limits import RateLimited
from hello_login.auth.second_factor import Factors
from hello_login.auth.totp import SecretBox, SecretUnreadable
from hello_login.db import connections, migrations
from hello_login.repositories import mails, users
from hello_login.repositories import totp as apps
from hello_login.repositories.throttles import FOREVER
from hello_login.scripts import as_operator
from hello_login.scripts.manage_accounts import main
from tests.conftest import ROOT, MakeIni, NewDatabase, OpenVisitor
from tests.people import EMAIL, PASSWORD
from tests.rows import add_passkey, execute
from tests.visitor import Visitor

PRODUCTION = str(ROOT / "production.ini")
KEY = "k" * 32
NEWER_KEY = "n" * 32
NEW_PASSWORD = "staple battery horse"


@pytest.fixture
def url(emptied_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set DATABASE_URL to that of an empty database, and return it."""
    monkeypatch.setenv("DATABASE_URL", emptied_url)
    monkeypatch.setenv("SECRET_KEY", KEY)
    return emptied_url


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

    def add_app(self) -> bytes:
        """Set up an authenticator app, and return its secret."""
        secret = totp.make_secret()
        session = self.visitor.find_session(self.token)
        assert session is not None
        code = totp.code_at(secret, totp.current_step())
        box = SecretBox([KEY], "totp")
        second_factor.add_app(self.visitor.actor, box, session, secret, code)
        self.visitor.db.commit()
        return secret

    def add_passkey(self, passkey_id: bytes = b"phone") -> bytes:
        """Add a passkey, and return its id."""
        add_passkey(self.visitor.db, self.user_id, passkey_id)
        self.visitor.db.commit()
        return passkey_id

    def begin_half_login(self) -> str:
        """Type the right password, and return the token of the half login."""
        token = login.begin_half_login(self.visitor.actor, self.user_id, remembered=False)
        self.visitor.db.commit()
        return token


@pytest.fixture
def owner(url: str, open_visitor: OpenVisitor) -> Iterator[Owner]:
    """Register Ada and log her in."""
    with closing(connections.connect(url)) as connection:
        yield Owner(open_visitor(db=connection))


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
    assert re.search(
        r"UTC  logged_in  [0-9a-f]{12}  192\.0\.2\.1  Firefox on Linux$", printed, re.MULTILINE
    )
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
    url: str, capsys: pytest.CaptureFixture[str], passwords: Passwords, ini: MakeIni
) -> None:
    connection = connections.connect(url)
    with as_operator(connection, settings.load({}, ini(), {})) as operator:
        accounts.register(operator, passwords, name="Ada", email=EMAIL, password=PASSWORD)
    connection.close()
    main([PRODUCTION, "show", EMAIL])
    printed = capsys.readouterr().out
    assert "Last login  never" in printed
    assert "registered  -  -  -\n" in printed


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the site send mail."""
    monkeypatch.setenv("SITE_URL", "https://login.example.org")
    monkeypatch.setenv("MAIL_URL", "smtp://mail.example.org")
    monkeypatch.setenv("MAIL_FROM", "login@example.org")


def make_link(capsys: pytest.CaptureFixture[str]) -> str:
    """Make a link to reset Ada's password, and return its first line."""
    main([PRODUCTION, "reset-link", EMAIL])
    return capsys.readouterr().out.splitlines()[0]


def reset(visitor: Visitor, link: str) -> None:
    """Set NEW_PASSWORD with the link of an operator."""
    token = link.rpartition("/link/")[2]
    accounts.reset_password(
        visitor.actor, visitor.passwords, token, "recover", visitor.user(), NEW_PASSWORD
    )
    visitor.db.commit()


def test_the_owner_sets_a_password_with_a_link_which_works_once_within_an_hour(
    owner: Owner, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITE_URL", "https://login.example.org")
    main([PRODUCTION, "reset-link", EMAIL])
    link, told = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"https://login\.example\.org/link/[\w-]{43}", link)
    assert told == "It works once, within an hour."
    assert owner.is_logged_in()
    assert owner.can_log_in()
    reset(owner.visitor, link)
    assert not owner.is_logged_in()
    assert not owner.can_log_in()
    assert owner.can_log_in(NEW_PASSWORD)
    assert owner.visitor.user().confirmed_at is None  # no mail has proven the address
    with pytest.raises(LinkExpired):
        reset(owner.visitor, link)


def test_without_site_url_the_operator_is_told_to_complete_the_link(
    url: str, owner: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    main([PRODUCTION, "reset-link", str(owner.user_id)])
    link, told = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"/link/[\w-]{43}", link)
    assert told.startswith("Put the URL of the site before it.")
    with closing(psycopg2.connect(url)) as connection:
        assert mails.list_all(connection, 10) == []


def test_an_invitation_is_a_link_that_works_once_within_a_week(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main([PRODUCTION, "invite", "ada@EXAMPLE.com"])
    printed = capsys.readouterr()
    link, told = printed.out.splitlines()
    assert re.fullmatch(r"/link/[\w-]{43}", link)
    assert told == "Put the URL of the site before it.  It works once, within 7 days."
    assert '"message": "invited"' in printed.err
    assert "ada@" not in printed.err
    monkeypatch.setenv("SITE_URL", "https://login.example.org")
    main([PRODUCTION, "invite", EMAIL])
    link, told = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"https://login\.example\.org/link/[\w-]{43}", link)
    assert told == "It works once, within 7 days."
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT address FROM tokens")
        assert cursor.fetchall() == [(EMAIL,)]


def test_an_address_with_an_account_is_not_invited(owner: Owner) -> None:
    with pytest.raises(SystemExit) as caught:
        main([PRODUCTION, "invite", EMAIL.upper()])
    assert caught.value.code == f"Account {owner.user_id} has this address already: {EMAIL}"


@pytest.mark.parametrize("address", ["ada", "ada@example", "a\0@example.com", f"a@{'b' * 64}.com"])
def test_text_that_is_not_an_address_is_not_invited(url: str, address: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([PRODUCTION, "invite", address])
    assert str(caught.value.code).startswith(f"Nobody can register with {address!r}: ")
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT FROM tokens")
        assert cursor.rowcount == 0


def test_a_reset_link_of_the_operator_is_recorded_and_the_owner_is_told(
    url: str, owner: Owner, mail: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mail is None
    make_link(capsys)
    main([PRODUCTION, "show", str(owner.user_id)])
    assert "  reset_link_made  -  -" in capsys.readouterr().out
    with closing(psycopg2.connect(url)) as connection:
        (waiting,) = mails.list_all(connection, 10)
    assert (waiting.kind, waiting.recipient) == ("reset_link_made", EMAIL)
    assert waiting.facts == {"from_address": None, "device": "Unknown device"}


def test_a_deactivated_account_gets_no_link(
    owner: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    link = make_link(capsys)
    main([PRODUCTION, "deactivate", EMAIL])
    with pytest.raises(SystemExit, match="is deactivated: reactivate it first"):
        main([PRODUCTION, "reset-link", EMAIL])
    main([PRODUCTION, "reactivate", EMAIL])
    with pytest.raises(LinkExpired):  # the earlier link was voided
        reset(owner.visitor, link)


def test_a_reset_link_lets_the_owner_of_a_locked_account_in_again(
    owner: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    attacked = dataclasses.replace(owner.visitor, secret_key=KEY)
    for _ in range(6):
        with pytest.raises((AuthenticationFailed, RateLimited)) as caught:
            attacked.authenticate(email=EMAIL, password="a wrong one")
    assert caught.type is RateLimited
    owner.visitor.db.commit()
    reset(owner.visitor, make_link(capsys))
    assert attacked.authenticate(email=EMAIL, password=NEW_PASSWORD) == owner.user_id


def test_unlock_codes_makes_codes_work_again_after_too_many_wrong_ones(
    owner: Owner, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "LOCK_AFTER", 1)
    attacked = dataclasses.replace(owner.visitor, secret_key=KEY)
    attacked.rate_limiter.admit_code(owner.user_id, is_app_code=True)
    with pytest.raises(RateLimited) as caught:
        attacked.rate_limiter.admit_code(owner.user_id, is_app_code=True)
    assert caught.value.wait == FOREVER
    owner.visitor.db.commit()
    main([PRODUCTION, "unlock-codes", EMAIL])
    assert capsys.readouterr().out == f"unlock-codes: done for account {owner.user_id}, {EMAIL}\n"
    attacked.rate_limiter.admit_code(owner.user_id, is_app_code=True)


@pytest.mark.parametrize(
    "add_factors",
    [
        [Owner.add_app],
        [Owner.add_passkey],
        [Owner.add_app, Owner.add_passkey, lambda owner: owner.add_passkey(b"key")],
    ],
    ids=["app", "passkey", "all"],
)
def test_removing_the_factors_ends_all_sessions_and_logins_take_one_step_again(
    owner: Owner,
    capsys: pytest.CaptureFixture[str],
    add_factors: list[Callable[[Owner], bytes]],
) -> None:
    for add in add_factors:
        add(owner)
    half_login = owner.begin_half_login()
    with pytest.raises(SecondFactorNeeded):
        owner.visitor.complete_login(owner.user_id)
    owner.visitor.db.commit()  # unlocks the account
    main([PRODUCTION, "remove-factors", EMAIL])
    output = capsys.readouterr().out
    assert output.startswith(f"remove-factors: done for account 1, {EMAIL}.  Its password alone")
    assert not owner.is_logged_in()
    assert login.find_half_login(owner.visitor.db, half_login) is None
    assert second_factor.describe(owner.visitor.db, owner.user_id) == Factors(None, 0, None, [])
    assert owner.visitor.complete_login(owner.user_id)


def test_a_removal_of_factors_by_the_operator_is_recorded_and_the_owner_is_told(
    url: str, owner: Owner, mail: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mail is None
    owner.add_app()
    owner.add_passkey()
    main([PRODUCTION, "remove-factors", str(owner.user_id)])
    capsys.readouterr()
    main([PRODUCTION, "show", EMAIL])
    shown = capsys.readouterr().out
    with closing(psycopg2.connect(url)) as connection:
        waiting = mails.list_all(connection, 10)
    for kind in ("factor_removed", "passkey_removed"):
        assert f"  {kind}  -  -" in shown
        (mail_of_kind,) = [each for each in waiting if each.kind == kind]
        assert mail_of_kind.recipient == EMAIL
        assert mail_of_kind.facts == {"from_address": None, "device": "Unknown device"}
    assert len(waiting) == 2


def test_an_account_without_a_factor_is_reported_and_not_changed(
    owner: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    main([PRODUCTION, "remove-factors", EMAIL])
    assert capsys.readouterr().out == f"Account 1, {EMAIL}, has no second factor\n"
    assert owner.is_logged_in()
    main([PRODUCTION, "show", EMAIL])
    assert "factor_removed" not in capsys.readouterr().out


def test_it_shows_whether_a_login_takes_a_second_step(
    owner: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    def show() -> str:
        """Return the line about the second step."""
        main([PRODUCTION, "show", EMAIL])
        (line,) = re.findall(r"^Second step (.*)$", capsys.readouterr().out, re.MULTILINE)
        return re.sub(r"\b20\d\d-\d\d-\d\d \d\d:\d\d UTC", "TIME", line)

    assert show() == "none"
    owner.add_app()
    assert show() == "authenticator app since TIME, recovery codes: 10"
    owner.add_passkey()
    owner.add_passkey(b"key")
    assert show() == "authenticator app since TIME, passkeys: 2, recovery codes: 10"
    apps.delete(owner.visitor.db, owner.user_id)
    owner.visitor.db.commit()
    assert show() == "passkeys: 2, recovery codes: 10"


def read_secret(url: str, user_id: int) -> bytes:
    """Return the encrypted secret of the account's app."""
    with closing(psycopg2.connect(url)) as connection:
        app = apps.get(connection, user_id)
    assert app is not None
    return app.secret


def test_renewed_secrets_need_the_newest_key_only(
    url: str,
    owner: Owner,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = owner.add_app()
    newest = SecretBox([NEWER_KEY], "totp")
    with pytest.raises(SecretUnreadable):
        newest.decrypt(owner.user_id, read_secret(url, owner.user_id))
    monkeypatch.setenv("SECRET_KEY", f"{NEWER_KEY} {KEY}")
    main([PRODUCTION, "renew-secrets"])
    assert capsys.readouterr().out == "renew-secrets: done for 1 secrets\n"
    assert newest.decrypt(owner.user_id, read_secret(url, owner.user_id)) == secret
    assert owner.is_logged_in()


def test_secrets_that_no_key_decrypts_are_reported_and_kept(
    url: str, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = owner.add_app()
    grace = owner.visitor.register(name="Grace", email="grace@example.com", password=PASSWORD)
    lost = SecretBox(["l" * 32], "totp").encrypt(grace, totp.make_secret())
    apps.insert(owner.visitor.db, grace, lost, last_step=0)
    owner.visitor.db.commit()
    monkeypatch.setenv("SECRET_KEY", f"{NEWER_KEY} {KEY}")
    with pytest.raises(SystemExit) as ended:
        main([PRODUCTION, "renew-secrets"])
    assert ended.value.code == (
        "Encrypted 1 secrets anew, but no key in SECRET_KEY decrypts 1 others, for example of "
        f"account {grace}: add the earlier key and run this again, or use remove-factors."
    )
    assert read_secret(url, grace) == lost
    renewed = read_secret(url, owner.user_id)
    assert SecretBox([NEWER_KEY], "totp").decrypt(owner.user_id, renewed) == secret


def test_an_interrupted_renewal_of_secrets_is_reported_and_can_be_repeated(
    url: str,
    owner: Owner,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lose_connection(*_: object) -> None:
        raise psycopg2.OperationalError("the connection was lost")

    secret = owner.add_app()
    monkeypatch.setenv("SECRET_KEY", f"{NEWER_KEY} {KEY}")
    with monkeypatch.context() as patch:
        patch.setattr(apps, "replace_secret", lose_connection)
        with pytest.raises(SystemExit) as ended:
            main([PRODUCTION, "renew-secrets"])
    assert ended.value.code == (
        "Some secrets may not be encrypted anew yet: the connection was lost. Run this again."
    )
    main([PRODUCTION, "renew-secrets"])
    assert capsys.readouterr().out == "renew-secrets: done for 1 secrets\n"
    renewed = read_secret(url, owner.user_id)
    assert SecretBox([NEWER_KEY], "totp").decrypt(owner.user_id, renewed) == secret


def test_the_secrets_of_any_number_of_apps_are_renewed(
    url: str, owner: Owner, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    box = SecretBox([KEY], "totp")
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO users (email, name, password_hash)"
            " SELECT n || '@example.com', 'Ada', '' FROM generate_series(1, 1100) AS n RETURNING id"
        )
        for (user_id,) in cursor.fetchall():
            apps.insert(connection, user_id, box.encrypt(user_id, b"secret"), last_step=0)
        connection.commit()
    monkeypatch.setenv("SECRET_KEY", f"{NEWER_KEY} {KEY}")
    main([PRODUCTION, "renew-secrets"])
    assert capsys.readouterr().out == "renew-secrets: done for 1100 secrets\n"
    newest = SecretBox([NEWER_KEY], "totp")
    assert newest.decrypt(1101, read_secret(url, 1101)) == b"secret"
    assert owner.user_id == 1


def test_it_lists_the_mails_that_wait_and_those_that_were_given_up(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(psycopg2.connect(url)) as connection:
        mails.insert(connection, "forgot", EMAIL)
        mails.insert(connection, "register", "grace@example.com")
        mails.give_up(connection, 2)
        connection.commit()
    main([PRODUCTION, "mails"])
    head, first, second = capsys.readouterr().out.splitlines()
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"
    assert head.split() == ["id", "queued", "next", "try", "tries", "kind", "recipient"]
    assert re.fullmatch(rf" +1  {time}  {time}  +0  forgot +ada@example\.com", first)
    assert re.fullmatch(rf" +2  {time}  given up  +0  register +grace@example\.com", second)


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
    monkeypatch.setenv("SECRET_KEY", KEY)
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
    monkeypatch.setenv("SECRET_KEY", KEY)
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


def test_nothing_is_changed_when_nothing_is_typed(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise EOFError

    monkeypatch.setattr("builtins.input", end)
    with pytest.raises(SystemExit, match="Nothing was changed: the input ended"):
        main([PRODUCTION, "delete", EMAIL])
    assert owner.is_logged_in()


def test_a_lost_connection_is_reported(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose_connection(*_: object) -> None:
        raise psycopg2.OperationalError("the connection was lost")

    monkeypatch.setattr(accounts, "deactivate", lose_connection)
    with pytest.raises(SystemExit, match="Nothing was changed: the connection was lost"):
        main([PRODUCTION, "deactivate", EMAIL])
    assert owner.is_logged_in()


def test_a_commit_with_an_unknown_outcome_is_reported_as_that(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_backend(operator: Actor, _: object) -> None:
        pid = operator.db.info.backend_pid
        execute(owner.visitor.db, "SELECT pg_terminate_backend(%s, 5000)", pid)

    monkeypatch.setattr(accounts, "deactivate", end_backend)
    with pytest.raises(SystemExit, match="lost during the commit: check whether it was done"):
        main([PRODUCTION, "deactivate", EMAIL])


def test_a_read_only_server_is_reported(
    url: str, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(connections.connect(url)) as operator, operator.cursor() as cursor:
        operator.autocommit = True
        name = operator.info.dbname
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        try:
            for database_url in (url, f"{url}&target_session_attrs=any"):
                monkeypatch.setenv("DATABASE_URL", database_url)
                with pytest.raises(
                    SystemExit, match=r"^PostgreSQL takes no writes: .*: name the primary"
                ):
                    main([PRODUCTION, "end-sessions", EMAIL])
        finally:
            cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
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
def test_a_closed_output_pipe_is_not_an_error(owner: Owner) -> None:
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
    for command in (
        "list",
        "show",
        "invite",
        "reset-link",
        "remove-factors",
        "deactivate",
        "reactivate",
        "end-sessions",
        "mails",
        "renew-secrets",
    ):
        assert re.search(rf"^    {command}\s+\w+", printed_help, re.MULTILINE)
    assert "manage_accounts production.ini show ada@example.com" in printed_help
