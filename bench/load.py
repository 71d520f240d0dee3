"""Clients that keep a server busy, and their workloads: raw HTTP/1.1 on asyncio, to cost little."""

import asyncio
import itertools
import random
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

HTML, JSON = "text/html", "application/json"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
COOKIE = re.compile(rb"\r\nset-cookie: *([^=\r\n]+)=([^;\r\n]*)", re.IGNORECASE)
CLOSED = re.compile(rb"\r\nconnection: *close|^HTTP/1\.0", re.IGNORECASE)
TOKEN = re.compile(rb'name="csrf_token" value="([^"]+)"')


class Connection(asyncio.Protocol):
    """Sends one request at a time, and collects its response."""

    transport: Any

    def __init__(self) -> None:
        self.lost = True
        self._received = b""
        self._size: int | None = None
        self._head = 0
        self._answer: asyncio.Future[tuple[bytes, bytes]] | None = None

    def connection_made(self, transport: Any) -> None:
        """Store the transport of the open connection."""
        self.transport, self.lost = transport, False

    def data_received(self, data: bytes) -> None:
        """Add a part of the response; when it is complete, set the result of send()."""
        self._received += data
        if self._size is None and (head := self._received.find(b"\r\n\r\n") + 4) > 3:
            length = LENGTH.search(self._received, 0, head)
            if length is None:
                raise ValueError(f"an answer without a length: {self._received[:head]!r}")
            self._head, self._size = head, head + int(length[1])
        if self._size is not None and len(self._received) >= self._size and self._answer:
            answer = self._received[: self._head], self._received[self._head : self._size]
            self._received, self._size = b"", None
            self._answer.set_result(answer)

    def connection_lost(self, _error: Exception | None) -> None:
        """Raise ConnectionResetError in send() if it still waits for the response."""
        self.lost = True
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("closed without an answer"))

    def send(self, request: bytes) -> "asyncio.Future[tuple[bytes, bytes]]":
        """Send a request, and return a future of the response's headers and body."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer


@dataclass
class Client:
    """A browser with cookies, a connection, and its own address (all of 127/8 is this machine)."""

    port: int
    keep_alive: bool
    address: str = "127.0.0.1"
    cookies: dict[str, str] = field(default_factory=dict)
    token: str = ""
    """The CSRF token of a form, which belongs to the cookies."""

    latencies: list[float] = field(default_factory=list)
    received: int = 0
    connection: Connection = field(default_factory=Connection)

    async def ask(
        self,
        path: str,
        form: dict[str, str] | None = None,
        *,
        accept: str = HTML,
        expect: tuple[int, ...] = (200,),
        timed: bool = True,
    ) -> bytes:
        """Send a request and return the response's body.

        expect: the statuses to accept; ValueError is raised for others.
        """
        body = urlencode(form) if form else ""
        lines = [
            f"{'POST' if form else 'GET'} {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Accept: {accept}",
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        ]
        if self.cookies:
            lines.append("Cookie: " + "; ".join(f"{k}={v}" for k, v in self.cookies.items()))
        if form:
            lines.append("Content-Type: application/x-www-form-urlencoded")
            lines.append(f"Content-Length: {len(body)}")
        if not self.keep_alive:
            lines.append("Connection: close")
        started = time.perf_counter()
        head, text = await self._send("\r\n".join([*lines, "", body]).encode())
        if timed:
            self.latencies.append(time.perf_counter() - started)
            self.received += len(head) + len(text)
        if int(head[9:12]) not in expect:
            raise ValueError(
                f"{lines[0]}: {head[:12].decode()} instead of {expect}: {text[-300:]!r}"
            )
        for name, value in COOKIE.findall(head):
            self.cookies[name.decode()] = value.decode()
        if not self.keep_alive or CLOSED.search(head):
            self.close()
        return text

    async def _send(self, request: bytes) -> tuple[bytes, bytes]:
        kept = not self.connection.lost
        if not kept:
            await self._connect()
        try:
            return await self.connection.send(request)
        except ConnectionResetError:
            if not kept:
                raise
            # The server may close an idle connection just when a request comes.  Browsers retry.
            await self._connect()
            return await self.connection.send(request)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, self.connection = await loop.create_connection(
            Connection, "127.0.0.1", self.port, local_addr=(self.address, 0)
        )

    def close(self) -> None:
        """Close the connection."""
        if not self.connection.lost:
            self.connection.lost = True
            self.connection.transport.close()


@dataclass(frozen=True)
class Site:
    """A server under load, and its accounts."""

    port: int
    users: int
    password: str


Step = Callable[[Client, Site], Awaitable[None]]
numbers = itertools.count(1)
"""Make every registration and every client's address unique."""


def new_address() -> str:
    """Return an address of 127/8 that was not used before."""
    number = next(numbers) + 256
    return f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def credentials(site: Site) -> dict[str, str]:
    """Return the address and the password of a random account."""
    number = random.randint(1, site.users)  # noqa: S311
    return {"email": f"user{number}@example.com", "password": site.password}


async def csrf_token(client: Client, path: str, *, timed: bool = False) -> str:
    """Return the CSRF token of the form at the path; the client keeps its cookie."""
    found = TOKEN.search(await client.ask(path, timed=timed))
    if found is None:
        raise ValueError(f"{path} has no csrf_token")
    return found[1].decode()


async def log_in_once(client: Client, site: Site, *, timed: bool = False) -> None:
    """Prepare: log the client in."""
    form = {**credentials(site), "csrf_token": await csrf_token(client, "/login", timed=timed)}
    await client.ask("/login", form, expect=(302, 303), timed=timed)


async def greet_json(client: Client, _site: Site) -> None:
    """Request the greeting as JSON."""
    await client.ask("/", accept=JSON)


async def greet_page(client: Client, _site: Site) -> None:
    """Request the greeting as a page, without a session."""
    await client.ask("/")


async def account(client: Client, _site: Site) -> None:
    """Request the account page."""
    await client.ask("/account")


async def hold_token(client: Client, _site: Site) -> None:
    """Prepare: store a CSRF token, which is valid for many posts without a session."""
    client.token = await csrf_token(client, "/login")


async def _post(client: Client, path: str, form: dict[str, str]) -> None:
    """Post a form with the CSRF token and its cookie, but without a session."""
    before = dict(client.cookies)
    await client.ask(path, {**form, "csrf_token": client.token}, expect=(302, 303))
    client.cookies = before


async def log_in(client: Client, site: Site) -> None:
    """Post the login form."""
    await _post(client, "/login", credentials(site))


async def register(client: Client, site: Site) -> None:
    """Post the registration form from an address that has not registered yet."""
    client.close()
    client.address = new_address()
    email = f"new{next(numbers)}-{site.port}@example.com"
    words = {"password": site.password, "confirm": site.password}
    await _post(client, "/register", {"name": "Grace Hopper", "email": email, **words})


async def journey(client: Client, site: Site) -> None:
    """Log in, request pages, and log out: 12 requests."""
    client.cookies.clear()
    await client.ask("/")
    await log_in_once(client, site, timed=True)
    for _ in range(5):
        await client.ask("/account")
    await client.ask("/")
    await client.ask("/", accept=JSON)
    token = await csrf_token(client, "/account", timed=True)
    await client.ask("/logout", {"csrf_token": token}, expect=(302, 303))


async def nothing(_client: Client, _site: Site) -> None:
    """Prepare nothing."""


WORKLOADS: dict[str, tuple[Step, Step]] = {
    "greeting, JSON": (nothing, greet_json),
    "greeting, page": (nothing, greet_page),
    "/account": (log_in_once, account),
    "login": (hold_token, log_in),
    "register": (hold_token, register),
    "journey": (nothing, journey),
}
"""For each workload, the preparation of a client and the step that it repeats."""


@dataclass
class Load:
    """The result of one measurement of all clients."""

    seconds: float
    latencies: list[float]
    received: int

    @property
    def rate(self) -> float:
        """Return the requests per second."""
        return len(self.latencies) / self.seconds


class Crowd:
    """A number of clients of one site with one workload, kept between measurements."""

    def __init__(self, site: Site, workload: str, number: int, *, keep_alive: bool = True) -> None:
        self._site = site
        self._before, self._step = WORKLOADS[workload]
        self._clients = [Client(site.port, keep_alive, new_address()) for _ in range(number)]
        self._prepared = False

    async def run(self, seconds: float) -> Load:
        """Keep the site busy for this time; each client does at least one step."""
        if not self._prepared:
            await asyncio.gather(*(self._before(each, self._site) for each in self._clients))
            self._prepared = True
        for each in self._clients:
            each.latencies, each.received = [], 0
        started = time.perf_counter()
        await asyncio.gather(*(self._repeat(each, started + seconds) for each in self._clients))
        took = time.perf_counter() - started
        latencies = [latency for each in self._clients for latency in each.latencies]
        return Load(took, latencies, sum(each.received for each in self._clients))

    async def _repeat(self, client: Client, end: float) -> None:
        await self._step(client, self._site)
        while time.perf_counter() < end:
            await self._step(client, self._site)

    def close(self) -> None:
        """Close the connections of all clients."""
        for each in self._clients:
            each.close()
