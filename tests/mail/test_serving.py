"""A serving process sends mails, and neither its pages nor its stop wait for the SMTP server."""

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from psycopg2.extensions import connection as Connection
from waitress.adjustments import Adjustments

import hello_login
from hello_login.mail import transports
from hello_login.repositories import mails
from hello_login.server.serving import SIGNALS, Server
from tests.conftest import MakeIni
from tests.mail.conftest import MakeSmtp
from tests.mail.smtp import SmtpServer, hang_at
from tests.server.sites import PAGE, wait_for

ADA = "ada@example.com"
Run = Callable[..., float]


@pytest.fixture
def run(ini: MakeIni, url: str, smtp: SmtpServer) -> Iterator[Run]:
    """Return a function that serves until a SIGTERM, and meanwhile calls another with the port.

    It returns the seconds from the signal to the end.
    """
    handlers = {number: signal.getsignal(number) for number in SIGNALS}

    def serve(during: Callable[[int], None], *, graceful_timeout: float = 60) -> float:
        mail = {"mail_url": smtp.url, "mail_from": "login@example.org"}
        app = hello_login.main({}, **ini(database_url=url, site_url="https://a.example", **mail))
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        server = Server(app, listener, Adjustments(threads=2, asyncore_use_poll=True, ident=""))
        failed: list[BaseException] = []
        stopped: list[float] = []

        def act() -> None:
            try:
                during(port)
            except BaseException as error:
                failed.append(error)
            stopped.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGTERM)

        server.stop_at_signals()
        thread = threading.Thread(target=act)
        thread.start()
        server.run_until_stopped(graceful_timeout)
        seconds = time.monotonic() - stopped[0]
        thread.join()
        # A thread whose mail hangs would still log when the next test runs.
        smtp.stop()
        app.registry.mail_sender.join(60)
        for connection in app.registry.pool._idle:
            connection.close()
        if failed:
            raise failed[0]
        return seconds

    yield serve
    for number, handler in handlers.items():
        signal.signal(number, handler)


def count_waiting(db: Connection) -> int:
    with db.cursor() as cursor:
        cursor.execute("SELECT FROM mails")
        return cursor.rowcount


def test_a_serving_process_sends_what_waits(
    run: Run, smtp: SmtpServer, database: Connection
) -> None:
    mails.insert(database, "register", ADA)
    run(lambda _: wait_for(lambda: count_waiting(database) == 0))
    (mail,) = smtp.received
    assert "https://a.example/link/" in mail.text


def test_a_stopping_process_finishes_the_current_mail_and_leaves_the_others(
    run: Run, smtp: SmtpServer, database: Connection
) -> None:
    reached = threading.Event()

    async def dawdle(step: str, _recipient: str, _server: object) -> None:
        if step == "DATA":
            reached.set()
            await asyncio.sleep(0.5)

    smtp.act = dawdle
    for number in range(3):
        mails.insert(database, "register", f"{number}@example.com")
    run(lambda _: wait_for(reached.is_set))
    assert len(smtp.received) == 1
    assert count_waiting(database) == 2


def test_a_hanging_smtp_server_delays_neither_pages_nor_the_stop(
    run: Run, smtp: SmtpServer, database: Connection
) -> None:
    smtp.act = hang_at("DATA")
    mails.insert(database, "register", ADA)

    def during(port: int) -> None:
        wait_for(lambda: smtp.logins)
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.sendall(PAGE)
                assert connection.recv(100).startswith(b"HTTP/1.1 200")

    seconds = run(during, graceful_timeout=1)
    assert 1 <= seconds < transports.DELIVERY_SECONDS / 2
    # It is sent at the next try.
    assert count_waiting(database) == 1


@pytest.mark.parametrize("mail_url", ["", "none"])
def test_without_a_mail_url_there_is_no_sender(ini: MakeIni, mail_url: str) -> None:
    assert hello_login.main({}, **ini(mail_url=mail_url)).registry.mail_sender is None


@pytest.mark.usefixtures("make_smtp")
def test_an_application_that_does_not_serve_sends_nothing(
    ini: MakeIni, url: str, make_smtp: MakeSmtp, database: Connection
) -> None:
    smtp = make_smtp()
    mails.insert(database, "register", ADA)
    mail = {"mail_url": smtp.url, "mail_from": "login@example.org"}
    hello_login.main({}, **ini(database_url=url, site_url="https://a.example", **mail))
    assert [each.name for each in threading.enumerate() if each.name == "mail"] == []
    assert count_waiting(database) == 1
