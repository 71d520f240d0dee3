"""A real SMTP server, which can refuse, be slow, hang and drop connections."""

import asyncio
import email
import re
import ssl
import threading
from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from email.policy import default
from typing import Any, NamedTuple

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER, PASSWORD = "postmaster", "pass/word@%:1"
LINK = re.compile(r"https://login\.example\.org/link/([\w-]+)")

Act = Callable[[str, str, SMTP], Awaitable[str | None]]
"""Called with a step (EHLO, RCPT, DATA, TAKEN or QUIT), a recipient and the connection.  Returns a
refusal, or None."""


class Received(NamedTuple):
    """A message as it arrived."""

    sender: str
    recipient: str
    options: list[str]
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.raw, policy=default)

    @property
    def text(self) -> str:
        return str(self.message.get_content())

    @property
    def token(self) -> str:
        (token,) = LINK.findall(self.text)
        return str(token)


async def accept(_step: str, _recipient: str, _server: SMTP) -> str | None:
    return None


def refuse_at(step: str, answer: str) -> Act:
    """Refuse one step."""

    async def act(reached: str, recipient: str, _server: SMTP) -> str | None:
        return answer.format(recipient=recipient) if reached == step else None

    return act


def hang_at(step: str) -> Act:
    """Never answer one step."""

    async def act(reached: str, _recipient: str, _server: SMTP) -> str | None:
        if reached == step:
            await asyncio.sleep(3600)
        return None

    return act


def drop_at(step: str) -> Act:
    """Drop the connection in one step."""

    async def act(reached: str, _recipient: str, server: SMTP) -> str | None:
        if reached == step:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return None

    return act


class SmtpServer:
    """Takes mails after STARTTLS and a login, unless its act refuses."""

    def __init__(
        self,
        authority: trustme.CA,
        *,
        name: str = "127.0.0.1",
        starttls: bool = True,
        implicit_tls: bool = False,
        utf8: bool = False,
    ) -> None:
        self.received: list[Received] = []
        self.logins: list[tuple[str, str]] = []
        self.reached: list[str] = []
        self.commands: list[str] = []
        """What was sent without TLS."""
        self.act: Act = accept
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name).configure_cert(context)
        self._tls = context if implicit_tls else None
        self._options: dict[str, Any] = {
            "tls_context": context if starttls and not implicit_tls else None,
            "require_starttls": starttls and not implicit_tls,
            "auth_required": starttls and not implicit_tls,
            "auth_require_tls": starttls and not implicit_tls,
            "authenticator": self._authenticate,
            "enable_SMTPUTF8": utf8,
            "hostname": "localhost",
        }
        self._scheme = "smtps" if implicit_tls else "smtp"
        self.port = 0
        self._listens = threading.Event()
        self._connections: list[SMTP] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._listens.wait()

    @property
    def url(self) -> str:
        return f"{self._scheme}://{USER}:pass%2Fword%40%25%3A1@127.0.0.1:{self.port}"

    def pause(self) -> None:
        """Refuse connections, on the port that is still this server's."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()

    def resume(self) -> None:
        """Accept connections again."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def stop(self) -> None:
        """End all connections; may be called more than once."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(self._listen())
        # Not before: a stop would end the step above, and not run_forever().
        self._loop.call_soon(self._listens.set)
        self._loop.run_forever()
        self._loop.run_until_complete(self._close())
        self._loop.run_until_complete(self._end_connections())
        self._loop.close()

    async def _listen(self) -> None:
        # On a given socket, asyncio leaves Nagle's algorithm on, which delays answers by 40 ms.
        self._server = await self._loop.create_server(
            self._connect, "127.0.0.1", self.port, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()

    async def _end_connections(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A connection that was just accepted gets its transport in a later step of the loop, and a
        # transport closes some steps after its end.
        for _ in range(10):
            for each in self._connections:
                for transport in (each.transport, each._original_transport):
                    if isinstance(transport, asyncio.Transport):
                        transport.abort()
            await asyncio.sleep(0)

    def _connect(self) -> SMTP:
        connection = SMTP(self, loop=self._loop, **self._options)
        self._connections.append(connection)
        return connection

    def _authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _method: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        login = data.login.decode(), data.password.decode()
        self.logins.append(login)
        return AuthResult(success=login == (USER, PASSWORD), handled=False)

    async def _act(self, step: str, recipient: str, server: SMTP) -> str | None:
        self.reached.append(step)
        return await self.act(step, recipient, server)

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name, as below
        self, server: SMTP, session: Session, _envelope: Envelope, name: str, answers: list[str]
    ) -> list[str]:
        session.host_name = name
        if session.ssl is None and self._tls is None:
            self.commands.append(f"EHLO {name}")
        await self._act("EHLO", "", server)
        return answers

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return await self._act("RCPT", address, server) or "250 OK"

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        (recipient,) = envelope.rcpt_tos
        refused = await self._act("DATA", recipient, server)
        if refused is None:
            options = [str(each) for each in envelope.mail_options]
            raw = bytes(envelope.original_content or b"")
            self.received.append(Received(str(envelope.mail_from), recipient, options, raw))
            await self._act("TAKEN", recipient, server)
        return refused or "250 OK"

    async def handle_QUIT(  # noqa: N802
        self, server: SMTP, _session: Session, _envelope: Envelope
    ) -> str:
        return await self._act("QUIT", "", server) or "221 Bye"
