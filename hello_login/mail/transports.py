"""Delivers messages by the transport that MAIL_URL names: SMTP, or files in a folder."""

import secrets
import smtplib
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from email.message import EmailMessage
from email.policy import SMTPUTF8
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Deliver = Callable[[EmailMessage], None]
"""Delivers a message to its one recipient.  Raises an exception if it may not have arrived."""

CONNECT_SECONDS = 15
"""The time limit for a connection to one address of the SMTP server."""

DELIVERY_SECONDS = 45
"""The time limit for all of a delivery by SMTP.  It is shorter than the first of sender.WAITS: no
other process tries the same mail meanwhile."""


def make_transport(mail_url: str) -> Deliver:
    """Return the function that delivers a message to the server or the folder of MAIL_URL."""
    if mail_url.startswith("file:"):
        return partial(_write_file, Path(mail_url.removeprefix("file:")))
    # Reading the certificate authorities takes milliseconds of processor time: once is enough.
    return partial(_send_by_smtp, mail_url, ssl.create_default_context())


class _TimeLimit:
    """Makes smtplib wait for the server's replies until DELIVERY_SECONDS after the beginning."""

    sock: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._deadline = time.monotonic() + DELIVERY_SECONDS
        super().__init__(*arguments, **options)

    def getreply(self) -> tuple[int, bytes]:
        """Return the reply to a command.  Raises OSError or SMTPServerDisconnected."""
        self.sock.settimeout(max(0.001, self._deadline - time.monotonic()))
        reply: tuple[int, bytes] = super().getreply()  # type: ignore[misc]  # smtplib has it
        return reply


class _SMTP(_TimeLimit, smtplib.SMTP):
    pass


class _SMTPS(_TimeLimit, smtplib.SMTP_SSL):
    pass


def _send_by_smtp(mail_url: str, context: ssl.SSLContext, message: EmailMessage) -> None:
    """Send a message by SMTP over TLS, after a login if the URL has a user."""
    server = urlsplit(mail_url)
    sender, recipient = (message[name].addresses[0] for name in ("From", "To"))
    host, port = server.hostname or "", server.port
    # By default, smtplib asks DNS for the name of this machine, which may take long.
    options = {"local_hostname": sender.domain, "timeout": CONNECT_SECONDS}
    smtp: smtplib.SMTP
    if server.scheme == "smtps":
        smtp = _SMTPS(host, port or 465, context=context, **options)
    else:
        smtp = _SMTP(host, port or 587, **options)
    try:
        if server.scheme == "smtp":
            smtp.starttls(context=context)
        if server.username:
            smtp.login(unquote(server.username), unquote(server.password or ""))
        smtp.send_message(message, sender.addr_spec, [recipient.addr_spec])
        # The server has accepted the message.  An error now must not send it again, and a process
        # that is killed while it waits for an answer would do so.
        with suppress(OSError, smtplib.SMTPException):
            smtp.putcmd("QUIT")
    finally:
        smtp.close()


def _write_file(folder: Path, message: EmailMessage) -> None:
    """Write a message to a file of its own, which only this user can read."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{time.time():.6f}-{secrets.token_hex(4)}.eml"
    unfinished = folder / f"{name}.unfinished"
    unfinished.touch(mode=0o600)
    unfinished.write_bytes(message.as_bytes(policy=SMTPUTF8))
    unfinished.rename(folder / name)
