"""A real PgBouncer in front of the tests' PostgreSQL."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import psycopg2
import pytest

from hello_login.db import migrations, transactions
from tests.rows import execute

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
ROLE = "pooled"
"""The role of PgBouncer's sessions.  A test's own connections have another one."""

CREATE_ROLE = f"""
    DO $$ BEGIN
        IF to_regrole('{ROLE}') IS NULL THEN CREATE ROLE {ROLE} SUPERUSER LOGIN; END IF;
    END $$
"""


def alter_role(url: str) -> None:
    """Give ROLE the settings of requests in the database of the URL, as initialize_db does."""
    with closing(psycopg2.connect(url, user=ROLE)) as connection:
        statements = migrations.role_statements(connection, transactions.session_settings())
        if statements:
            migrations.alter_role(connection, statements)


class PgBouncer:
    """A running PgBouncer on a Unix socket, whose sessions have ROLE."""

    def __init__(self, server_url: str, mode: str, **settings: object) -> None:
        """Start PgBouncer, or skip the test if the program is missing.

        server_url: the URL of EmbeddedPostgres.start().  settings: further ones of PgBouncer.
        """
        if PROGRAM is None:
            pytest.skip("needs PgBouncer: make poolers installs it (on Debian, as root)")
        with closing(psycopg2.connect(server_url)) as connection:
            execute(connection, CREATE_ROLE)
            connection.commit()
        self._server = parse_qs(urlsplit(server_url).query)["host"][0]
        self._folder = Path(tempfile.mkdtemp(prefix="hello_login-pooler-"))
        configuration = {
            "pool_mode": mode,
            "unix_socket_dir": self._folder,
            "listen_addr": "",
            "listen_port": 5432,
            "auth_type": "any",
            "ignore_startup_parameters": "options" if mode == "session" else "",
            **settings,
        }
        lines = [f"{name} = {value}" for name, value in configuration.items()]
        database = f"* = host={self._server} user={ROLE}"
        (self._folder / "pgbouncer.ini").write_text(
            "\n".join(["[databases]", database, "[pgbouncer]", *lines])
        )
        self._process = self._start(PROGRAM)

    def _start(self, program: str) -> "subprocess.Popen[bytes]":
        user: dict[str, Any] = {}
        if os.geteuid() == 0:  # PgBouncer refuses root, as PostgreSQL does
            owner = Path(self._server).stat()
            user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
            os.chown(self._folder, owner.st_uid, owner.st_gid)
        command = [program, "--quiet", str(self._folder / "pgbouncer.ini")]
        with (self._folder / "log").open("wb") as log:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                command, cwd="/", stdout=log, stderr=log, **user
            )
        while True:
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(str(self._folder / ".s.PGSQL.5432"))
                except OSError:
                    assert process.poll() is None, (self._folder / "log").read_text()
                    time.sleep(0.02)
                else:
                    return process

    def url(self, url: str) -> str:
        """Return the URL of the database through PgBouncer, or url itself for another server."""
        return url.replace(quote(self._server, safe=""), quote(str(self._folder), safe=""))

    def close(self) -> None:
        """End PgBouncer."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)
