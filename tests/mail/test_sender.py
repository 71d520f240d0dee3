"""Each queued mail is sent, retried, and given up on schedule; the log has no secret."""

import asyncio
import hashlib
import logging
import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from hello_login.auth import links
from hello_login.db.connections import ConnectionPool
from hello_login.logs import JSONFormatter
from hello_login.mail import messages
from hello_login.mail import sender as sender_module
from hello_login.mail.sender import (
    REQUESTED,
    REQUESTED_TRIES,
    TRIES,
    WAITS,
    Sender,
)
from hello_login.repositories import mails, tokens, users
from hello_login.scripts import manage_accounts
from hello_login.settings import Settings
from tests.conftest import ROOT
from tests.mail.conftest import MakeSender, MakeSmtp
from tests.mail.smtp import PASSWORD, SmtpServer, drop_at, hang_at, refuse_at
from tests.rows import add_user, execute
from tests.server.sites import wait_for

ADA, GRACE = "ada@example.com", "grace@example.com"
FACTS = {"from_address": "192.0.2.1", "device": "Firefox on Linux"}


def let_time_pass(db: Connection, time: timedelta) -> None:
    """Move the clock of the mails that wait."""
    statement = "UPDATE mails SET try_at = try_at - %s, created_at = created_at - %s"
    execute(db, statement, time, time)


def count_tries(sender: Sender, db: Connection) -> tuple[int, timedelta]:
    """Try until the mail is sent or given up; return the tries and the time they took."""
    tries, past = sender.send_due(), timedelta()
    while waits := execute(db, "SELECT try_at - now() FROM mails WHERE try_at <> 'infinity'"):
        ((wait,),) = waits
        let_time_pass(db, wait)
        past += wait
        tries += sender.send_due()
    return tries, past


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return what the sender logged, with the reasons."""
    return [
        (record.getMessage(), getattr(record, "fields", {}).get("reason", ""))
        for record in caplog.records
        if record.name == "hello_login.mail.sender"
    ]


# The kinds of mails


def find_kinds() -> set[str]:
    """Return the kinds of mails that the code queues, as its calls name them."""
    kinds = set()
    for path in (ROOT / "hello_login").rglob("*.py"):
        calls = (
            r"(?:notify|record_added|record_removed|mails\.insert|mails\.insert_notice|queue_mail)"
            r"\((?:[^\"()]*[ (\[])?\"(\w+)\""
        )
        kinds |= set(re.findall(calls, path.read_text()))
    return kinds


def test_every_kind_of_mail_is_sent_and_every_template_is_used(
    sender: Sender, smtp: SmtpServer, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = set()
    compose = messages.compose

    def watch(template: str, **facts: Any) -> Any:
        templates.add(template)
        return compose(template, **facts)

    monkeypatch.setattr(sender_module, "compose", watch)
    ada, kinds = add_user(database), find_kinds()
    assert kinds > REQUESTED
    for kind in kinds - REQUESTED:
        mails.insert_notice(database, kind, ada, **FACTS)
    for kind in ("register", "forgot"):
        mails.insert(database, kind, ADA)
        mails.insert(database, kind, f"{kind}@example.com")
    for kind in ("change", "confirm"):
        mails.insert(database, kind, f"{kind}@example.com", user_id=ada, name="Ada")
    add_user(database, GRACE)
    mails.insert(database, "change", GRACE, user_id=ada, name="Ada")

    assert sender.send_due() == len(kinds - REQUESTED) + 7
    assert execute(database, "SELECT * FROM mails") == []
    # Nothing was sent to the unknown address whose password was "forgotten".
    assert len(smtp.received) == len(kinds - REQUESTED) + 6
    assert {f"{template}.txt" for template in templates} == set(messages.TEMPLATES.list_templates())


@pytest.mark.parametrize(
    ("kind", "recipient", "purpose"),
    [
        ("register", GRACE, "register"),
        ("forgot", ADA, "reset"),
        ("change", GRACE, "change"),
        ("confirm", ADA, "change"),
        ("address_changed", ADA, "undo"),
    ],
)
def test_the_link_of_a_mail_is_for_its_purpose_and_only_its_hash_is_stored(
    sender: Sender,
    smtp: SmtpServer,
    database: Connection,
    kind: str,
    recipient: str,
    purpose: str,
) -> None:
    ada = add_user(database)
    if kind in ("register", "forgot"):
        mails.insert(database, kind, recipient)
    else:
        mails.insert(database, kind, recipient, user_id=ada, **FACTS)
    sender.send_due()
    (mail,) = smtp.received
    link = tokens.find(database, hashlib.sha256(mail.token.encode()).digest())
    user_id = None if kind == "register" else ada
    assert link is not None
    assert (link.purpose, link.user_id, link.address) == (purpose, user_id, recipient)
    assert mail.recipient == recipient


def test_the_owner_of_an_address_is_told_that_somebody_else_wants_it(
    sender: Sender, smtp: SmtpServer, database: Connection
) -> None:
    ada = add_user(database)
    add_user(database, GRACE)
    mails.insert(database, "change", GRACE, user_id=ada)
    mails.insert(database, "register", GRACE)
    sender.send_due()
    subjects = [each.message["Subject"] for each in smtp.received]
    assert subjects == ["Somebody wants to use your address", "You have an account already"]
    assert execute(database, "SELECT * FROM tokens") == []


@pytest.mark.parametrize("kind", ["forgot", "register", "change"])
def test_mails_to_an_owner_go_to_the_address_of_the_account_and_not_to_the_typed_one(
    sender: Sender, smtp: SmtpServer, database: Connection, kind: str
) -> None:
    add_user(database, "kate@example.com")
    # The Kelvin sign: somebody else may have this mailbox.
    mails.insert(database, kind, "\u212aATE@example.com", user_id=add_user(database))
    sender.send_due()
    (mail,) = smtp.received
    assert mail.recipient == "kate@example.com"
    addresses = {address for (address,) in execute(database, "SELECT address FROM tokens")}
    assert addresses == ({"kate@example.com"} if kind == "forgot" else set())


def test_a_deactivated_account_gets_no_link(
    sender: Sender, smtp: SmtpServer, database: Connection
) -> None:
    users.deactivate(database, add_user(database))
    mails.insert(database, "forgot", ADA)
    assert sender.send_due() == 1
    assert smtp.received == []
    assert (
        execute(database, "SELECT * FROM mails") == execute(database, "SELECT * FROM tokens") == []
    )


@pytest.mark.parametrize("kind", ["change", "confirm", "address_changed"])
def test_a_link_for_an_account_is_never_issued_without_one(
    sender: Sender, smtp: SmtpServer, database: Connection, kind: str
) -> None:
    mails.insert(database, kind, ADA)
    assert sender.send_due() == 1
    assert smtp.received == []
    assert (
        execute(database, "SELECT * FROM mails") == execute(database, "SELECT * FROM tokens") == []
    )


def test_voiding_the_links_of_an_account_includes_those_of_mails_that_wait(
    sender: Sender, smtp: SmtpServer, database: Connection
) -> None:
    ada = add_user(database)
    for kind in ("change", "confirm", "address_changed", "new_device"):
        mails.insert(database, kind, ADA, user_id=ada, **FACTS)
    links.void(database, ada)
    assert [each.kind for each in mails.list_all(database, 10)] == ["address_changed", "new_device"]
    execute(database, "DELETE FROM mails")
    assert sender.send_due() == len(smtp.received) == 0


def test_a_link_is_not_issued_if_links_are_voided_after_the_mail_was_claimed(
    sender: Sender, smtp: SmtpServer, database: Connection, url: str
) -> None:
    ada = add_user(database)
    mails.insert(database, "change", GRACE, user_id=ada)
    mail = mails.claim(database, WAITS)
    assert mail is not None
    other = psycopg2.connect(url)
    users.lock(other, ada)
    links.void(other, ada)
    with ThreadPoolExecutor() as threads:
        composed = threads.submit(sender._compose, database, mail)
        waiting = (
            "SELECT FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        with closing(psycopg2.connect(url)) as watching:
            watching.autocommit = True
            while not execute(watching, waiting):
                assert not composed.done()
                time.sleep(0.01)
        other.commit()
        assert composed.result(60) is None
    other.close()
    assert (
        execute(database, "SELECT * FROM tokens") == execute(database, "SELECT * FROM mails") == []
    )
    assert sender.send_due() == len(smtp.received) == 0


def test_mails_to_one_address_that_were_asked_for_are_limited(
    sender: Sender, smtp: SmtpServer, database: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(5):
        mails.insert(database, "forgot", ADA)
        mails.insert(database, "forgot", ADA.upper())
    add_user(database)
    assert sender.send_due() == 10
    assert len(smtp.received) == 3
    assert Counter(logged(caplog)) == {("mail_sent", ""): 3, ("mail_rate_limited", ""): 7}


def test_a_retry_is_not_limited(sender: Sender, smtp: SmtpServer, database: Connection) -> None:
    for _ in range(3):
        mails.insert(database, "register", ADA)
    smtp.act = refuse_at("DATA", "451 later")
    sender.send_due()
    smtp.act = refuse_at("none", "")
    let_time_pass(database, WAITS[0])
    sender.send_due()
    assert len(smtp.received) == 3


# Retries


@pytest.mark.parametrize("answer", ["451 later", "550 never"])
@pytest.mark.parametrize("step", ["RCPT", "DATA"])
def test_a_notice_is_tried_for_a_day_and_given_up(
    sender: Sender,
    smtp: SmtpServer,
    database: Connection,
    caplog: pytest.LogCaptureFixture,
    step: str,
    answer: str,
) -> None:
    mails.insert_notice(database, "new_device", add_user(database), **FACTS)
    smtp.act = refuse_at(step, answer)
    tries, past = count_tries(sender, database)
    assert tries == TRIES
    assert timedelta(hours=23) < past < timedelta(hours=25)
    error = {"RCPT": "SMTPRecipientsRefused", "DATA": "SMTPDataError"}[step]
    reason = f"{error} {answer[:3]}"
    assert logged(caplog) == [("mail_delayed", reason)] * 10 + [("mail_failed", reason)]


@pytest.mark.parametrize("kind", sorted(REQUESTED))
def test_a_mail_with_a_link_is_tried_six_times_within_an_hour(
    sender: Sender,
    smtp: SmtpServer,
    database: Connection,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    ada = add_user(database)
    owner = {"user_id": ada} if kind in ("change", "confirm") else {}
    mails.insert(database, kind, ADA, **owner)  # type: ignore[arg-type]  # user_id
    smtp.act = drop_at("RCPT")
    tries, past = count_tries(sender, database)
    assert tries == REQUESTED_TRIES == 6
    assert timedelta(minutes=50) < past < timedelta(hours=1)
    assert [name for name, _ in logged(caplog)] == ["mail_delayed"] * 5 + ["mail_failed"]


def test_the_waits_between_tries_grow(database: Connection) -> None:
    assert sorted(WAITS) == WAITS
    # A process that is killed in the last try leaves the mail to another.
    mails.insert(database, "reset", ADA)
    for wait in [*WAITS, WAITS[-1], WAITS[-1]]:
        mail = mails.claim(database, WAITS)
        assert mail is not None
        ((left,),) = execute(database, "SELECT try_at - now() FROM mails")
        assert wait - timedelta(seconds=5) < left <= wait
        assert mails.claim(database, WAITS) is None
        let_time_pass(database, left)


def test_a_mail_that_failed_is_sent_when_the_server_works_again(
    sender: Sender, smtp: SmtpServer, database: Connection
) -> None:
    mails.insert(database, "register", ADA)
    smtp.act = refuse_at("DATA", "451 later")
    assert sender.send_due() == 1
    smtp.act = refuse_at("none", "")
    assert sender.send_due() == 0
    let_time_pass(database, WAITS[0])
    assert sender.send_due() == 1
    (mail,) = smtp.received
    assert tokens.find(database, hashlib.sha256(mail.token.encode()).digest()) is not None


def test_mails_that_wait_for_a_server_that_was_down_for_ten_minutes_are_sent_afterwards(
    make_sender: MakeSender, smtp: SmtpServer, database: Connection
) -> None:
    for number in range(20):
        mails.insert(database, "register", f"{number}@example.com")
    port_of_nobody = make_sender("smtp://127.0.0.1:1")
    assert port_of_nobody.send_due() == 20
    for _ in range(10):
        let_time_pass(database, timedelta(minutes=1))
        port_of_nobody.send_due()
    assert smtp.received == []
    sender = make_sender(smtp.url)
    let_time_pass(database, max(WAITS[:REQUESTED_TRIES]))
    assert sender.send_due() == 20
    assert len({each.recipient for each in smtp.received}) == 20


def test_the_operator_sees_what_waits_and_what_was_given_up(
    make_sender: MakeSender,
    database: Connection,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("SECRET_KEY", "k" * 32)
    sender = make_sender("smtp://127.0.0.1:1")
    mails.insert(database, "register", ADA)
    count_tries(sender, database)
    mails.insert(database, "forgot", GRACE)
    add_user(database, GRACE)
    sender.send_due()
    manage_accounts.main([str(ROOT / "production.ini"), "mails"])
    failed, waits = capsys.readouterr().out.splitlines()[1:]
    assert re.search(r"given up +6  register +ada@example\.com$", failed)
    assert re.search(r"\d\d:\d\d UTC +1  forgot +grace@example\.com$", waits)


def test_a_mail_that_was_given_up_is_deleted_after_a_month(
    sender: Sender, database: Connection
) -> None:
    mails.insert(database, "register", ADA)
    ((number,),) = execute(database, "SELECT id FROM mails")
    mails.give_up(database, number)
    let_time_pass(database, timedelta(days=29))
    sender.send_due()
    assert execute(database, "SELECT id FROM mails") == [(number,)]
    let_time_pass(database, timedelta(days=2))
    sender.send_due()
    assert execute(database, "SELECT id FROM mails") == []


# Mails that cannot be sent


@pytest.mark.parametrize(
    ("kind", "recipient", "reason"),
    [
        ("no_such_kind", ADA, "TemplateNotFound"),
        ("new_device", ADA, "UndefinedError"),
        ("register", "ada@example.com\nBcc: eve@example.com", "EmailSyntaxError"),
        ("register", "", "EmailSyntaxError"),
        (
            "register",
            "jürgen@example.com",
            (
                "One or more source or delivery addresses require internationalized email "
                "support, but the server does not advertise the required SMTPUTF8 capability"
            ),
        ),
    ],
)
def test_a_mail_that_cannot_be_sent_is_given_up_and_stops_no_other_mail(
    sender: Sender,
    smtp: SmtpServer,
    database: Connection,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    recipient: str,
    reason: str,
) -> None:
    mails.insert(database, kind, recipient)
    mails.insert(database, "register", GRACE)
    sender.send_due()
    assert [each.recipient for each in smtp.received] == [GRACE]
    count_tries(sender, database)
    assert logged(caplog)[-1] == ("mail_failed", reason)
    assert len(smtp.received) == 1


def test_a_lost_database_stops_neither_the_thread_nor_later_mails(
    smtp: SmtpServer,
    database: Connection,
    url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sender_module, "POLL_SECONDS", 0.01)
    pool = ConnectionPool(url.replace("/test_", "/missing_"))
    settings = Settings(
        secret_key="k" * 32,
        mail_url=smtp.url,
        mail_from="login@example.org",
        site_url="https://login.example.org",
    )
    sender = Sender(pool, settings)
    mails.insert(database, "register", ADA)

    def complaints() -> list[str]:
        return [name for name, _ in logged(caplog) if name.startswith("Can't")]

    send_due, rounds = sender.send_due, []
    monkeypatch.setattr(sender, "send_due", lambda: rounds.append(send_due()))
    sender.start()
    wait_for(lambda: len(complaints()) == 1)
    time.sleep(0.1)
    assert rounds == []
    pool.url = url
    wait_for(lambda: rounds)  # without an error
    assert rounds[0] == len(smtp.received) == 1
    # The thread survives every error, and says once what is wrong.
    pool.acquire = None  # type: ignore[assignment,method-assign]
    wait_for(lambda: len(complaints()) == 2)
    time.sleep(0.1)
    sender.stop()
    sender.join(60)
    assert len(complaints()) == 2
    assert "does not exist" in complaints()[0]
    assert complaints()[1] == "Can't read the mails that wait: TypeError"


# The thread


def test_a_mail_is_sent_as_soon_as_the_sender_is_woken(
    sender: Sender, smtp: SmtpServer, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "POLL_SECONDS", 600)
    sender.start()
    time.sleep(0.2)
    mails.insert(database, "register", ADA)
    sender.wake()
    wait_for(lambda: smtp.received)
    sender.stop()
    sender.join(60)


def test_a_stopped_sender_finishes_the_current_mail_and_takes_no_other(
    sender: Sender, smtp: SmtpServer, database: Connection
) -> None:
    reached, may_go_on = threading.Event(), threading.Event()

    async def hold(step: str, _recipient: str, _server: object) -> None:
        if step == "DATA":
            reached.set()
            while not may_go_on.is_set():
                await asyncio.sleep(0.01)

    smtp.act = hold
    for number in range(3):
        mails.insert(database, "register", f"{number}@example.com")
    sender.start()
    assert reached.wait(60)
    sender.stop()
    sender.join(0.1)
    assert sender._thread.is_alive()
    may_go_on.set()
    sender.join(60)
    assert not sender._thread.is_alive()
    assert len(smtp.received) == 1
    assert execute(database, "SELECT count(*) FROM mails") == [(2,)]


def test_no_connection_is_held_while_a_mail_is_delivered(
    sender: Sender, smtp: SmtpServer, database: Connection
) -> None:
    smtp.act = hang_at("DATA")
    mails.insert(database, "register", ADA)
    sender.start()
    wait_for(lambda: smtp.logins)
    wait_for(lambda: len(sender._pool._idle) == 1)
    states = execute(
        database,
        "SELECT state FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'hello_login'",
    )
    assert {*states} == {("idle",)}
    sender.stop()
    smtp.stop()
    sender.join(60)


def test_two_senders_share_the_work_and_send_each_mail_once(
    make_sender: MakeSender, database: Connection, tmp_path: Path
) -> None:
    for number in range(100):
        mails.insert(database, "register", f"{number}@example.com")
    tries = []
    each_has_a_mail = threading.Barrier(2, timeout=60)

    def send() -> None:
        sender = make_sender(f"file:{tmp_path}")
        deliver = sender._deliver

        def wait_for_the_other(message: EmailMessage) -> None:
            sender._deliver = deliver
            each_has_a_mail.wait()
            deliver(message)

        sender._deliver = wait_for_the_other
        tries.append(sender.send_due())

    senders = [threading.Thread(target=send) for _ in range(2)]
    for each in senders:
        each.start()
    for each in senders:
        each.join()
    written = [message_from_bytes(each.read_bytes())["To"] for each in tmp_path.glob("*.eml")]
    assert Counter(written) == {f"{number}@example.com": 1 for number in range(100)}
    assert sum(tries) == 100
    assert min(tries) > 0


# The log


@pytest.mark.parametrize("step", ["none", "RCPT", "DATA", "login", "starttls"])
def test_the_log_has_no_token_recipient_or_password(
    smtp: SmtpServer,
    make_smtp: MakeSmtp,
    make_sender: MakeSender,
    database: Connection,
    caplog: pytest.LogCaptureFixture,
    step: str,
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.DEBUG, "hello_login")
    words = f"550 {{recipient}} https://login.example.org/link/secret {PASSWORD}"
    smtp.act = refuse_at(step, words)
    mail_url = smtp.url
    if step == "login":
        mail_url = mail_url.replace("pass%2Fword", "pass%2Fwort")
    elif step == "starttls":
        mail_url = make_smtp(starttls=False).url
    sender = make_sender(mail_url)
    mails.insert(database, "register", ADA)
    mails.insert_notice(database, "new_device", add_user(database, GRACE), **FACTS)
    sender.send_due()
    count_tries_of_all(sender, database)
    deliver_to_file = make_sender(f"file:{tmp_path}/file/that/is/no/folder")
    (tmp_path / "file").touch()
    mails.insert(database, "register", ADA)
    deliver_to_file.send_due()
    records = [each for each in caplog.records if each.name.startswith("hello_login")]
    text = "\n".join(JSONFormatter().format(each) for each in records)
    assert "mail_sent" in text or "mail_failed" in text
    assert "NotADirectoryError" in text or "FileExistsError" in text
    secrets = [ADA, GRACE, "example.com", "/link/", PASSWORD, "pass%2Fwor", "secret"]
    secrets += [each.token for each in smtp.received if "/link/" in each.text]
    assert [each for each in secrets if each in text] == []


def count_tries_of_all(sender: Sender, db: Connection) -> None:
    while execute(db, "SELECT FROM mails WHERE try_at <> 'infinity'"):
        let_time_pass(db, WAITS[-1])
        sender.send_due()
