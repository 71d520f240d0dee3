"""Clients that keep a server busy, as a proxy does: each request has a client's address."""

import asyncio
import itertools
import random
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode

HOST = "login.example.org"
BROWSER = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
HTTPS, FORM = "X-Forwarded-Proto: https", "Content-Type: application/x-www-form-urlencoded"
HTML, JSON = "text/html", "application/json"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
COOKIE = re.compile(rb"\r\nset-cookie: *([^=\r\n]+)=([^;\r\n]*)", re.IGNORECASE)
CLOSED = re.compile(rb"\r\nconnection: *close|^HTTP/1\.0", re.IGNORECASE)
TOKEN = re.compile(rb'name="(?:csrf_token|csrfmiddlewaretoken)"[^>]*value="([^"]+)"')
USERS = 5000
PASSWORD = "correct horse battery staple"  # noqa: S105
numbers = itertools.count(1)  # They make every registration and every address unique.


@dataclass(frozen=True)
class Site:
    """The paths of a site, and the fields of its forms."""

    login: str = "/login"
    register: str = "/register"
    logout: str = "/logout"
    account: str = "/account"
    email: str = "email"  # in the form of the login
    passwords: tuple[str, str] = ("password", "confirm")  # in the form of the registration
    token: str = "csrf_token"  # noqa: S105


def new_address() -> str:
    """Return a network address that was not used before."""
    number = next(numbers)
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


@dataclass
class Client:
    """A browser with a network address, cookies and the CSRF token of the last form."""

    site: Site
    port: int
    address: str
    cookies: dict[str, str] = field(default_factory=dict)
    token: dict[str, str] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, form: dict[str, str] | None = None, accept: str = HTML) -> None:
        """Send a request, again after a 503, and keep cookies and CSRF token of the response.

        Raises ValueError unless the response is a page, or to a form a redirect.
        """
        lines = [f"{'POST' if form else 'GET'} {path} HTTP/1.1", f"Host: {HOST}", BROWSER]
        lines += [f"Accept: {accept}", f"X-Forwarded-For: {self.address}", HTTPS]
        if self.cookies:
            lines.append("Cookie: " + "; ".join(f"{k}={v}" for k, v in self.cookies.items()))
        body = urlencode(form or {})
        if form:
            lines += [f"Origin: https://{HOST}", f"Referer: https://{HOST}{path}"]
            lines += [f"Content-Length: {len(body)}", FORM]
        request = "\r\n".join([*lines, "", body]).encode()
        started = time.perf_counter()
        head, text = await self._send(request)
        while head[9:12] == b"503":
            await asyncio.sleep(0.2)
            head, text = await self._send(request)
        self.latencies.append(time.perf_counter() - started)
        if int(head[9:12]) not in ((302, 303) if form else (200,)):
            raise ValueError(f"{lines[0]}: {head[:12].decode()}: {text[-2000:]!r}")
        for name, value in COOKIE.findall(head):
            self.cookies[name.decode()] = value.decode()
        if found := TOKEN.search(text):
            self.token = {self.site.token: found[1].decode()}

    async def _send(self, request: bytes) -> tuple[bytes, bytes]:
        if not self.streams:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        text = await reader.readexactly(int(length[1]) if length else 0)
        if CLOSED.search(head):
            self.close()
        return head, text

    def close(self) -> None:
        """Close the connection."""
        if self.streams:
            self.streams[1].close()
            self.streams = None


def choose_account(client: Client) -> dict[str, str]:
    """Return the fields of a login to a random account."""
    number = random.randint(1, USERS)  # noqa: S311
    return {client.site.email: f"user{number}@example.com", "password": PASSWORD}


async def log_in_from_four_devices(client: Client) -> None:
    """Log in to one account four times.  The client keeps the last session."""
    account = choose_account(client)
    for _ in range(4):
        client.cookies, client.address = {}, new_address()
        await client.ask(client.site.login)
        await client.ask(client.site.login, account | client.token)


async def post(client: Client, path: str, form: dict[str, str]) -> None:
    """Post a form from a new network address, and keep the cookies from before."""
    before, client.address = dict(client.cookies), new_address()
    await client.ask(path, form | client.token)
    client.cookies = before


async def register(client: Client) -> None:
    """Post the registration form for a new account."""
    form = {"name": "Grace Hopper", "email": f"new{next(numbers)}@example.com"}
    form |= dict.fromkeys(client.site.passwords, PASSWORD)
    await post(client, client.site.register, form)


async def journey(client: Client) -> None:
    """Log in, request pages, and log out: 12 requests."""
    site, client.cookies, client.address = client.site, {}, new_address()
    await client.ask("/")
    await client.ask(site.login)
    await client.ask(site.login, choose_account(client) | client.token)
    for path in (*[site.account] * 5, "/"):
        await client.ask(path)
    await client.ask("/", accept=JSON)
    await client.ask(site.account)
    await client.ask(site.logout, client.token)


Step = Callable[[Client], Awaitable[None]]
WORKLOADS: dict[str, tuple[Step | None, Step]] = {
    "greeting, JSON": (None, lambda client: client.ask("/", accept=JSON)),
    "greeting, page": (None, lambda client: client.ask("/")),
    "GET login": (None, lambda client: client.ask(client.site.login)),
    "GET register": (None, lambda client: client.ask(client.site.register)),
    "GET account": (log_in_from_four_devices, lambda client: client.ask(client.site.account)),
    "POST login": (
        lambda client: client.ask(client.site.login),
        lambda client: post(client, client.site.login, choose_account(client)),
    ),
    "POST register": (lambda client: client.ask(client.site.login), register),
    "journey": (None, journey),
}
"""For each workload, the preparation of a client and the step that it repeats."""


class Crowd:
    """A number of clients of one site with one workload, kept between measurements."""

    def __init__(self, site: Site, port: int, workload: str, number: int) -> None:
        self._before, self._step = WORKLOADS[workload]
        self._clients = [Client(site, port, new_address()) for _ in range(number)]

    async def prepare(self) -> None:
        """Prepare all clients."""
        await asyncio.gather(*(self._before(each) for each in self._clients if self._before))

    async def run(self, seconds: float) -> tuple[float, list[float]]:
        """Repeat the step on new connections; return the seconds that passed, and the latencies."""
        for each in self._clients:
            each.close()
            each.latencies = []
        started = time.perf_counter()
        await asyncio.gather(*(self._repeat(each, started + seconds) for each in self._clients))
        took = time.perf_counter() - started
        return took, [latency for each in self._clients for latency in each.latencies]

    async def _repeat(self, client: Client, end: float) -> None:
        await self._step(client)
        while time.perf_counter() < end:
            await self._step(client)
        client.close()
