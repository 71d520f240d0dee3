"""The servers to compare, all with two processes of four threads on the same PostgreSQL."""

import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg2
from argon2 import PasswordHasher

from hello_login.db import migrations
from tests.functional.round_trips import RoundTrips

from .load import HOST, PASSWORD, USERS, Site

ROOT = Path(__file__).parent.parent
Costs = tuple[int, int, int]
COSTS, LOWEST_COSTS = (19456, 2, 1), (8, 1, 1)
"""argon2's memory in KiB, passes and lanes: those of hello_login's settings, and the lowest."""


class Contender(NamedTuple):
    """A server, and the command that starts it.  {port} in the command stands for the port."""

    name: str
    command: str
    module: str = ""  # Its prepare() makes the product's tables and accounts.
    site: Site = Site()


GUNICORN = "python -m gunicorn -w 2 -k gthread --threads 4 -b 127.0.0.1:{port}"
GUNICORN += " --log-level error --no-control-socket"
PASSWORDS = Site(passwords=("password", "password_confirm"))
PATHS = ("/accounts/login/", "/accounts/signup/", "/accounts/logout/", "/accounts/sessions/")
ACCOUNTS = Site(*PATHS, "login", ("password1", "password2"), "csrfmiddlewaretoken")
PRODUCTS = (
    Contender("hello_login", "pserve bench.ini http_port={port} http_host=127.0.0.1"),
    Contender("Flask-Login", f"{GUNICORN} flask_login_site:app", "flask_login_site"),
    Contender("Flask-Security", f"{GUNICORN} security_site:app", "security_site", PASSWORDS),
    Contender("django-allauth", f"{GUNICORN} allauth_site:app", "allauth_site", ACCOUNTS),
)
LIMITS = (
    Contender("Pyramid's smallest view", "python -m waitress_limits {port} pyramid"),
    Contender("a bare function", "python -m waitress_limits {port} bare"),
)
INSERT = """INSERT INTO users (email, name, password_hash)
            SELECT 'user' || n || '@example.com', 'User', %s FROM generate_series(1, %s) AS n"""


def execute(url: str, statement: str, *values: object) -> None:
    """Execute a statement outside a transaction."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    connection.cursor().execute(statement, values)
    connection.close()


class Server:
    """A contender with a database of its own, which it can also reach through a relay."""

    def __init__(self, contender: Contender, postgres: str, scratch: Path, costs: Costs) -> None:
        """Create a folder, and a database of the same name with the accounts.

        postgres: the URL of EmbeddedPostgres.start().  scratch: the parent of the folder.
        """
        self.contender, self._costs = contender, costs
        self._folder = folder = Path(tempfile.mkdtemp(prefix="site_", dir=scratch))
        self.url = postgres.replace("/postgres?", f"/{folder.name}?")
        self.relay = RoundTrips(self.url)
        execute(postgres, f"CREATE DATABASE {folder.name}")
        if contender.module:
            code = f"import {contender.module} as site; site.prepare({USERS}, {PASSWORD!r})"
            subprocess.run(["python", "-c", code], env=self._environ(self.url), check=True)
        elif contender is PRODUCTS[0]:
            list(migrations.migrate(self.url, ROOT / "sql"))
            memory, passes, lanes = costs
            execute(self.url, INSERT, PasswordHasher(passes, memory, lanes).hash(PASSWORD), USERS)
            head, names = "[app:main]\n", ("memory_kib", "passes", "lanes")
            lines = [f"hello_login.argon2_{k} = {v}\n" for k, v in zip(names, costs, strict=True)]
            text = (ROOT / "production.ini").read_text()
            (folder / "bench.ini").write_text(text.replace(head, head + "".join(lines)))
        self.vacuum()
        execute(self.url, "CHECKPOINT")

    def _environ(self, url: str) -> dict[str, str]:
        """Return the environment of the contender's processes, with libpq's variables."""
        parts = urlsplit(url)
        programs = ROOT / "bench/.venv" / ("products/bin" if self.contender.module else "bin")
        return {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "SECRET_KEY": "k" * 32,
            "ARGON2": ",".join(map(str, self._costs)),
            "PYTHONPATH": str(ROOT / "bench/products"),
            "DATABASE_URL": url,
            "PGHOST": parse_qs(parts.query).get("host", [str(parts.hostname)])[0],
            "PGPORT": str(parts.port),
            "PGUSER": "postgres",
            "PGDATABASE": parts.path[1:],
            "TRUSTED_PROXY": "127.0.0.1",
            "SITE_URL": f"https://{HOST}",
            "WEB_CONCURRENCY": "2",
        }

    def vacuum(self) -> None:
        """Vacuum and analyze all tables; otherwise PostgreSQL would do it during a measurement."""
        execute(self.url, "VACUUM ANALYZE")

    def start(self, *, relayed: bool) -> float:
        """Start the server, and return the seconds until its first response."""
        with socket.create_server(("127.0.0.1", 0)) as unused:
            self.port = int(unused.getsockname()[1])
        command = self.contender.command.format(port=self.port)
        environ = self._environ(self.relay.url if relayed else self.url)
        log = self._folder / "log"
        started = time.perf_counter()
        with log.open("w") as file:
            places = {"cwd": self._folder, "stdout": file, "stderr": file}
            self.process = psutil.Popen(command.split(), env=environ, **places)
        while not self._answers():
            if self.process.poll() is not None:
                raise SystemExit(f"{command} failed:\n{log.read_text()}")
            time.sleep(0.005)
        return time.perf_counter() - started

    def _answers(self) -> bool:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", headers={"Host": HOST})
        with suppress(OSError), urllib.request.urlopen(request, timeout=5):  # noqa: S310
            return True
        return False

    def memory(self) -> float:
        """Return the memory of all processes together, in MiB (PSS)."""
        return float(sum(each.memory_full_info().pss for each in family(self.process)) / 2**20)

    def stop(self) -> None:
        """Stop all processes."""
        for each in (processes := family(self.process)[::-1]):
            each.terminate()
        _, alive = psutil.wait_procs(processes, timeout=5)
        for each in alive:
            each.kill()


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return the process and all its descendants."""
    return [process, *process.children(recursive=True)]
