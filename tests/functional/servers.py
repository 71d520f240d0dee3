"""Real servers on a real PostgreSQL, and people who use them over HTTP."""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import psycopg2
from psycopg2.extensions import cursor as Cursor

from hello_login.db import migrations
from hello_login.dev.embedded import EmbeddedPostgres
from tests.conftest import ROOT
from tests.functional.site import PREFIX
from tests.people import EMAIL, PASSWORD

PSERVE = Path(sys.executable).parent / "pserve"

QUICK: dict[str, Any] = {
    "argon2_memory_kib": "8",
    "argon2_passes": "1",
    "secure_cookies": "false",
    "constants": {
        "hello_login.auth.rate_limits.MAX_REGISTRATIONS_PER_NETWORK": 10000,
        "hello_login.auth.rate_limits.MAX_PER_NETWORK": 10000,
    },
}
"""Settings for traffic: cheap password hashes, and high rate limits for people of one network."""

PATIENT: dict[str, Any] = {
    **QUICK,
    "constants": {**QUICK["constants"], "hello_login.server.serving.QUEUE_SECONDS": 60},
}
"""QUICK, for tests that expect no 503: on a busy machine a form may wait long for a thread."""


CSRF_TOKEN = re.compile('name="csrf_token" value="([^"]+)"')


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return int(unused.getsockname()[1])


class Database(EmbeddedPostgres):
    """A PostgreSQL that tests can kill, restart and demote."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "database", fsync=False)
        self.url = self.start()
        list(migrations.migrate(self.url, ROOT / "sql"))

    def kill(self, action: str = "stop") -> None:
        """Stop or restart PostgreSQL without a clean shutdown, as after a crash."""
        log = ("-l", self.data / "server.log") if action == "restart" else ()
        self._run("pg_ctl", action, "-D", self._cluster, "-w", "-m", "immediate", *log)

    def start_again(self) -> None:
        self._ensure_running()

    @property
    def socket(self) -> Path:
        """Return the folder of the socket."""
        return self._socket

    def demote(self) -> None:
        """Start a killed PostgreSQL as a read-only standby."""
        (self._cluster / "standby.signal").touch()
        self._ensure_running()

    def query(self, statement: str) -> list[tuple[object, ...]]:
        with self._cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def execute(self, statement: str) -> None:
        with self._cursor() as cursor:
            cursor.execute(statement)

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[Cursor]:
        connection = psycopg2.connect(self.url)
        try:
            with connection, connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()


def change_ini(
    name: str, settings: Mapping[str, str], constants: Mapping[str, float] = MappingProxyType({})
) -> str:
    """Return the text of an .ini file with changed settings and constants.

    settings: values by name, without "hello_login.".
    constants: values by full name; see tests/functional/site.py.  The server needs PYTHONPATH.
    """
    lines = [f"hello_login.{each} = {settings[each]}" for each in settings]
    lines += [f"{PREFIX}{each} = {constants[each]}" for each in constants]
    text = (ROOT / name).read_text().replace("%(here)s", str(ROOT))
    if constants:
        text = text.replace("use = egg:hello_login", "use = call:tests.functional.site:main", 1)
    return text.replace("\n[server:main]", "\n".join([*lines, "\n[server:main]"]))


class Server:
    """pserve with an .ini file whose settings and constants are changed."""

    def __init__(
        self,
        folder: Path,
        url: str,
        constants: Mapping[str, float] = MappingProxyType({}),
        base: str = "production.ini",
        **settings: str,
    ) -> None:
        self.ini = folder / "changed.ini"
        self.ini.write_text(change_ini(base, settings, constants))
        # Each Person sends an address of its own, as a proxy would.
        self.environment = {
            **os.environ,
            "DATABASE_URL": url,
            "SECRET_KEY": "k" * 32,
            "TRUSTED_PROXY": "127.0.0.1",
            "PYTHONPATH": str(ROOT),
        }
        self.port = free_port()
        self.log = folder / "server.log"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the server, and return its process when it serves."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [PSERVE, self.ini, f"http_port={self.port}", "http_host=127.0.0.1"],
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        deadline = time.monotonic() + 120
        while self.log.read_text().count("Serving http") < len(self._processes):
            assert process.poll() is None, self.end_of_log()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return process

    def end_of_log(self) -> str:
        """Return the last 50 lines of the log; more would flood the report of a failed test."""
        return "\n".join(self.log.read_text().splitlines()[-50:])

    def listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()


def children(process: int) -> list[int]:
    """Return the ids of the processes that a process has started, oldest first."""
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(each) for each in text.split()]


class Person:
    """A person with the cookies of a browser and a keep-alive connection."""

    def __init__(self, port: int, address: str = "192.0.2.1") -> None:
        self.port = port
        self.address = address
        self.cookies: dict[str, str] = {}
        self._csrf_tokens: dict[str, str] = {}
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, path: str, form: dict[str, str] | None = None) -> tuple[int, int, str]:
        """Send a request, and return the status, Retry-After in seconds, and the text.

        form: the fields of a POST request; None for GET.
        Raises OSError or HTTPException if the server accepted the request but did not answer.
        """
        session = self.cookies.get("session", "")
        if form is not None and session and session not in self._csrf_tokens:
            page = self.ask("/")
            if page[0] == 503:  # no page, so no CSRF token
                return page
        connection = self._connect()
        headers = {
            "Accept": "text/html",
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            "X-Forwarded-For": self.address,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        self._connection = None
        keep_alive = False
        try:
            if form is None:
                connection.request("GET", path, headers=headers)
            else:
                body = urlencode({"csrf_token": self._csrf_token(session), **form})
                connection.request("POST", path, body, headers)
            with connection.getresponse() as answer:
                for header in answer.headers.get_all("Set-Cookie", []):
                    name, _, value = header.partition(";")[0].partition("=")
                    self.cookies[name] = value
                text = answer.read().decode()
                if token := CSRF_TOKEN.search(text):
                    self._csrf_tokens[self.cookies.get("session", "")] = token[1]
                keep_alive = not answer.will_close
        finally:
            if keep_alive:
                self._connection = connection
            else:
                connection.close()
        return answer.status, int(answer.headers.get("Retry-After", "0")), text

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    __del__ = close

    def _csrf_token(self, session: str) -> str:
        """Return the CSRF token for the next form: that of the session's pages, or the cookie's."""
        if session:
            return self._csrf_tokens.get(session, "")
        return self.cookies.get("csrf_token", "")

    def _connect(self) -> http.client.HTTPConnection:
        """Return the open connection, or a new one; wait two minutes for a server that listens."""
        deadline = time.monotonic() + 120
        while self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                self._connection.connect()
            except ConnectionError:
                self.close()
                self._connection = None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        return self._connection

    def log_in(self, email: str = EMAIL, password: str = PASSWORD) -> tuple[int, int]:
        """Send the login form, and return the status and Retry-After in seconds."""
        status, retry_after, _ = self.ask("/login", {"email": email, "password": password})
        return status, retry_after

    def register(self, email: str = EMAIL) -> int:
        form = {"name": "Ada", "email": email, "password": PASSWORD, "confirm": PASSWORD}
        return self.ask("/register", form)[0]

    def log_out(self) -> int:
        return self.ask("/logout", {})[0]


def send_raw(port: int, data: bytes) -> bytes:
    """Send the data, and return all that the server sends until it closes the connection."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        # The server may close the connection before it has read everything.
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65536):
                answer += part
    return answer
