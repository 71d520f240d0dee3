"""Real servers send every mail, even if they are killed or SMTP fails."""

import asyncio
import hashlib
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from aiosmtpd.smtp import SMTP

from hello_login.mail import transports
from hello_login.mail.sender import REQUESTED_TRIES
from hello_login.repositories import mails
from tests.conftest import make_folder
from tests.functional.servers import QUICK, Database, Server, send_raw
from tests.mail.conftest import MakeSmtp
from tests.mail.smtp import SmtpServer, accept, hang_at
from tests.server.sites import wait_for

pytestmark = pytest.mark.slow

PrintFigure = Callable[[str], None]
Serve = Callable[..., Server]

MAILS = 500
KILLS = 10


@pytest.fixture(scope="module")
def server_database() -> Iterator[Database]:
    """Yield a PostgreSQL for these tests only."""
    with make_folder() as folder:
        started = Database(folder)
        yield started
        started.stop()


@pytest.fixture
def serve(server_database: Database, tmp_path: Path, certificates: Path) -> Iterator[Serve]:
    """Yield a function that makes a server that sends mails by SMTP, and does not start it."""
    server_database.execute("TRUNCATE users, mails, tokens, throttles CASCADE")
    made = []

    def make(smtp: SmtpServer, **settings: str) -> Server:
        constants = {**QUICK["constants"], "hello_login.mail.sender.POLL_SECONDS": 0.05}
        mail = {"site_url": "https://login.example.org", "mail_from": "login@example.org"}
        quick = {name: QUICK[name] for name in QUICK if name != "constants"}
        server = Server(
            tmp_path,
            server_database.url,
            constants,
            mail_url=smtp.url.replace("%", "%%"),
            **mail,
            **quick,
            **settings,
        )
        server.environment["SSL_CERT_FILE"] = str(certificates)
        made.append(server)
        return server

    yield make
    for server in made:
        server.stop()


def queue(database: Database, number: int) -> list[str]:
    """Queue mails, half of them with a link, and return their recipients."""
    recipients = [f"person{each}@example.com" for each in range(number)]
    with closing(psycopg2.connect(database.url)) as connection:
        for each, recipient in enumerate(recipients):
            kind = ("register", "new_device")[each % 2]
            facts = {"from_address": "192.0.2.1", "device": "Firefox on Linux"}
            mails.insert(connection, kind, recipient, user_id=None, **facts)
        connection.commit()
    return recipients


def count_waiting(database: Database) -> int:
    ((number,),) = database.query("SELECT count(*) FROM mails")
    assert isinstance(number, int)
    return number


def make_due(database: Database) -> None:
    """Move the clock until all mails are due."""
    database.execute("UPDATE mails SET try_at = now() WHERE try_at <> 'infinity'")


def check_log(server: Server, smtp: SmtpServer) -> None:
    """Check that the log has neither a recipient nor a token."""
    log = server.log.read_text()
    assert "mail_sent" in log
    tokens = [each.token for each in smtp.received if "/link/" in each.text]
    assert not [each for each in ("example.com", "/link/", *tokens) if each in log]
    assert "Traceback" not in log


def test_no_mail_is_lost_when_the_server_is_killed_while_it_sends(
    serve: Serve, smtp: SmtpServer, server_database: Database, print_figure: PrintFigure
) -> None:
    chance = random.Random(15)  # noqa: S311 - it fails at the same places each time
    steps: Counter[str] = Counter()
    failures: Counter[str] = Counter()

    async def fail_a_third(step: str, recipient: str, server: SMTP) -> str | None:
        """Refuse, or drop the connection; but not so often that a mail is given up."""
        steps[step] += 1
        if step != "RCPT" or failures[recipient] == REQUESTED_TRIES - 2 or chance.random() > 1 / 3:
            return None
        failures[recipient] += 1
        if chance.random() < 0.2:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return chance.choice(["451 later", "550 never"])

    smtp.act = fail_a_third
    recipients = queue(server_database, MAILS)
    server = serve(smtp)
    waiting_at_kills = []
    for _ in range(KILLS):
        # A kill costs a try.  Only the refusals of the SMTP server are counted here.
        server_database.execute("UPDATE mails SET tries = least(tries, 1)")
        process = server.start()
        sent = len(smtp.received)
        wait_for(lambda sent=sent: len(smtp.received) >= sent + 20)  # type: ignore[misc]
        time.sleep(chance.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        waiting_at_kills.append(count_waiting(server_database))
        make_due(server_database)
    assert min(waiting_at_kills) > 0
    server_database.execute("UPDATE mails SET tries = least(tries, 1)")
    server.start()

    def all_sent() -> bool:
        make_due(server_database)
        time.sleep(0.2)
        return count_waiting(server_database) == 0

    wait_for(all_sent, seconds=600)  # a busy machine sends a few mails in a second
    arrived = Counter(each.recipient for each in smtp.received)
    twice = sum(arrived.values()) - len(arrived)
    print_figure(
        f"{len(arrived)} of {MAILS} mails arrived, {twice} of them twice, after {KILLS} kills; "
        f"SMTP failed in {sum(failures.values())} of {steps['RCPT']} tries"
    )
    assert set(arrived) == set(recipients)
    assert max(arrived.values()) <= 2
    assert twice <= 10
    assert "mail_failed" not in server.log.read_text()
    check_log(server, smtp)
    # Each link that arrived works.
    hashes = {bytes(row[0]) for row in server_database.query("SELECT id FROM tokens")}  # type: ignore[call-overload]
    links = [each for each in smtp.received if "/link/" in each.text]
    assert len(links) >= MAILS / 2
    assert {hashlib.sha256(each.token.encode()).digest() for each in links} <= hashes


@pytest.mark.parametrize("step", ["EHLO", "RCPT", "DATA", "TAKEN"])
def test_a_mail_is_sent_after_a_kill_in_any_step_of_its_delivery(
    serve: Serve, smtp: SmtpServer, server_database: Database, step: str
) -> None:
    recipients = queue(server_database, 2)
    smtp.act = hang_at(step)
    server = serve(smtp)
    process = server.start()
    wait_for(lambda: step in smtp.reached)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert count_waiting(server_database) == 2
    smtp.act = accept
    make_due(server_database)
    server.start()
    wait_for(lambda: count_waiting(server_database) == 0)
    arrived = Counter(each.recipient for each in smtp.received)
    # Only a mail that the SMTP server had taken before the kill arrives twice.
    assert sorted(arrived.values()) == ([1, 2] if step == "TAKEN" else [1, 1])
    assert set(arrived) == set(recipients)


def test_the_processes_of_a_server_share_the_work_and_send_each_mail_once(
    serve: Serve, smtp: SmtpServer, server_database: Database, print_figure: PrintFigure
) -> None:
    recipients = queue(server_database, 200)
    server = serve(smtp, processes="2")
    process = server.start()
    started = time.monotonic()
    wait_for(lambda: count_waiting(server_database) == 0)
    print_figure(f"Two processes sent 200 mails in {time.monotonic() - started:.1f} s")
    assert Counter(each.recipient for each in smtp.received) == dict.fromkeys(recipients, 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    check_log(server, smtp)


def test_pages_keep_their_pace_while_the_smtp_server_hangs_and_a_stop_is_in_time(
    serve: Serve, smtp: SmtpServer, server_database: Database, print_figure: PrintFigure
) -> None:
    server = serve(smtp, graceful_timeout="2")
    process = server.start()

    def measure() -> float:
        times = []
        for _ in range(300):
            begun = time.perf_counter()
            assert send_raw(server.port, b"GET /login HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200")
            times.append(time.perf_counter() - begun)
        return statistics.median(times) * 1000

    measure()
    before = measure()
    smtp.act = hang_at("DATA")
    queue(server_database, 10)
    wait_for(lambda: bool(smtp.logins))
    during = measure()
    print_figure(f"A page takes {during:.2f} ms while SMTP hangs, {before:.2f} ms before")
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert time.monotonic() - begun < transports.DELIVERY_SECONDS / 2
    assert process.returncode == 0
    assert count_waiting(server_database) == 10


def test_mails_that_wait_while_smtp_is_down_for_ten_minutes_are_sent_afterwards(
    serve: Serve, make_smtp: MakeSmtp, server_database: Database
) -> None:
    smtp = make_smtp()
    recipients = queue(server_database, 20)
    smtp.pause()
    server = serve(smtp)
    server.start()
    wait_for(lambda: server.log.read_text().count("mail_delayed") == 20)
    for minute in range(1, 11):
        server_database.execute("UPDATE mails SET try_at = try_at - interval '1 minute'")
        tries = 20 * (1 + sum(minute >= each for each in (1, 4, 10)))
        wait_for(lambda tries=tries: server.log.read_text().count("mail_delayed") >= tries)  # type: ignore[misc]
    smtp.resume()
    server_database.execute("UPDATE mails SET try_at = try_at - interval '15 minutes'")
    wait_for(lambda: count_waiting(server_database) == 0)
    assert Counter(each.recipient for each in smtp.received) == dict.fromkeys(recipients, 1)
    check_log(server, smtp)
