"""Mails are delivered over TLS only, once, and within a time limit."""

import asyncio
import socket
import stat
import time
from datetime import datetime, timezone
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from smtplib import (
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPException,
    SMTPNotSupportedError,
    SMTPRecipientsRefused,
    SMTPServerDisconnected,
)
from ssl import SSLCertVerificationError

import pytest

from hello_login.mail import transports
from hello_login.mail.messages import compose
from hello_login.mail.transports import make_transport
from tests.mail.conftest import MakeSmtp
from tests.mail.smtp import PASSWORD, USER, Act, SmtpServer, drop_at, hang_at, refuse_at


def make_message(recipient: str = "ada@example.com") -> EmailMessage:
    return compose(
        "reset",
        sender="Hello Login <login@example.org>",
        recipient=recipient,
        created_at=datetime.now(timezone.utc),
        site="https://login.example.org",
        site_name="Ada's Notes",
        link="https://login.example.org/link/token",
    )


@pytest.mark.parametrize("implicit_tls", [False, True])
def test_a_mail_is_sent_over_tls_after_a_login(make_smtp: MakeSmtp, implicit_tls: bool) -> None:
    smtp = make_smtp(implicit_tls=implicit_tls)
    make_transport(smtp.url)(make_message())
    (mail,) = smtp.received
    assert (mail.sender, mail.recipient) == ("login@example.org", "ada@example.com")
    assert smtp.logins == [(USER, PASSWORD)]
    # The name of this machine is not told, and not asked for in the DNS.
    assert smtp.commands == ([] if implicit_tls else ["EHLO example.org"])


def test_a_server_without_login_is_used_without_one(make_smtp: MakeSmtp) -> None:
    smtp = make_smtp()
    smtp._options["auth_required"] = False
    make_transport(f"smtp://127.0.0.1:{smtp.port}/")(make_message())
    assert len(smtp.received) == 1
    assert smtp.logins == []


def test_without_starttls_neither_the_mail_nor_the_password_is_sent(make_smtp: MakeSmtp) -> None:
    smtp = make_smtp(starttls=False)
    with pytest.raises(SMTPNotSupportedError, match="STARTTLS"):
        make_transport(smtp.url)(make_message())
    assert (smtp.commands, smtp.logins, smtp.received) == (["EHLO example.org"], [], [])


def test_a_server_with_the_certificate_of_another_gets_neither_mail_nor_password(
    make_smtp: MakeSmtp,
) -> None:
    smtp = make_smtp(name="another.example")
    with pytest.raises(SSLCertVerificationError):
        make_transport(smtp.url)(make_message())
    assert (smtp.logins, smtp.received) == ([], [])


def test_a_certificate_of_an_unknown_authority_is_refused(
    smtp: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(SSLCertVerificationError):
        make_transport(smtp.url)(make_message())
    assert (smtp.logins, smtp.received) == ([], [])


def test_a_wrong_password_is_reported(smtp: SmtpServer) -> None:
    url = f"smtp://{USER}:wrong@127.0.0.1:{smtp.port}"
    with pytest.raises(SMTPAuthenticationError):
        make_transport(url)(make_message())
    assert smtp.received == []


@pytest.mark.parametrize(
    ("step", "answer", "error"),
    [
        ("RCPT", "450 later", SMTPRecipientsRefused),
        ("RCPT", "550 never", SMTPRecipientsRefused),
        ("DATA", "451 later", SMTPDataError),
        ("DATA", "554 never", SMTPDataError),
    ],
)
def test_a_refused_mail_is_an_error(
    smtp: SmtpServer, step: str, answer: str, error: type[SMTPException]
) -> None:
    smtp.act = refuse_at(step, answer)
    with pytest.raises(error):
        make_transport(smtp.url)(make_message())


@pytest.mark.parametrize("step", ["EHLO", "RCPT", "DATA"])
def test_a_dropped_connection_is_an_error(smtp: SmtpServer, step: str) -> None:
    smtp.act = drop_at(step)
    with pytest.raises((OSError, SMTPServerDisconnected)):
        make_transport(smtp.url)(make_message())
    assert smtp.received == [] or step == "DATA"


@pytest.mark.parametrize("act", [refuse_at("QUIT", "421 busy"), drop_at("QUIT"), hang_at("QUIT")])
def test_an_error_after_the_server_accepted_the_mail_does_not_send_it_again(
    smtp: SmtpServer, act: Act
) -> None:
    smtp.act = act
    begun = time.monotonic()
    make_transport(smtp.url)(make_message())
    assert len(smtp.received) == 1
    assert time.monotonic() - begun < transports.DELIVERY_SECONDS / 2


@pytest.mark.parametrize("step", ["EHLO", "RCPT", "DATA"])
def test_a_server_that_hangs_is_given_up_after_a_time(
    smtp: SmtpServer, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "DELIVERY_SECONDS", 0.5)
    smtp.act = hang_at(step)
    with pytest.raises((TimeoutError, SMTPServerDisconnected)):
        make_transport(smtp.url)(make_message())
    assert smtp.received == []


def test_the_time_limit_is_for_all_steps_together(
    smtp: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "DELIVERY_SECONDS", 1.0)

    async def dawdle(*_: object) -> None:
        await asyncio.sleep(0.4)

    smtp.act = dawdle
    with pytest.raises((TimeoutError, SMTPServerDisconnected)):
        make_transport(smtp.url)(make_message())


def test_a_server_that_is_down_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    for scheme in ("smtp", "smtps"):
        with pytest.raises(ConnectionRefusedError):
            make_transport(f"{scheme}://127.0.0.1:{port}")(make_message())


def test_an_address_with_a_non_ascii_local_part_needs_smtputf8(make_smtp: MakeSmtp) -> None:
    message = make_message("jürgen@exämple.com")
    smtp = make_smtp(utf8=True)
    make_transport(smtp.url)(message)
    (mail,) = smtp.received
    assert mail.recipient == "jürgen@xn--exmple-cua.com"
    assert "SMTPUTF8" in mail.options
    assert mail.message["To"] == "jürgen@xn--exmple-cua.com"
    assert mail.token == "token"
    without = make_smtp()
    with pytest.raises(SMTPNotSupportedError, match="SMTPUTF8"):
        make_transport(without.url)(message)
    assert without.received == []


def test_an_address_with_a_non_ascii_domain_needs_nothing(smtp: SmtpServer) -> None:
    make_transport(smtp.url)(make_message("ada@straße.example"))
    (mail,) = smtp.received
    # As browsers have it (IDNA 2008); the standard library would send it to strasse.example.
    assert mail.recipient == "ada@xn--strae-oqa.example"


def test_files_of_mails_are_for_this_user_only(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "mails"
    deliver = make_transport(f"file:{folder}")
    deliver(make_message("jürgen@example.com"))
    time.sleep(0.001)
    deliver(make_message())
    first, second = sorted(folder.iterdir())
    read = [message_from_bytes(each.read_bytes(), policy=default) for each in (first, second)]
    assert [each["To"] for each in read] == ["jürgen@example.com", "ada@example.com"]
    assert [stat.S_IMODE(each.stat().st_mode) for each in (folder, first)] == [0o700, 0o600]
