"""pserve, initialize_db and yoyo as real processes."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import psycopg2
import pytest

from hello_login.db import migrations
from hello_login.dev import embedded
from tests.conftest import ROOT, NewDatabase
from tests.functional.commands import GREETING, PRODUCTION, database_runs, eventually, get
from tests.functional.conftest import Start

pytestmark = pytest.mark.slow


def interrupt(process: "subprocess.Popen[str]") -> str:
    """Press Ctrl-C, and return what the process had printed."""
    os.killpg(process.pid, signal.SIGINT)
    return process.communicate(timeout=120)[0]


@pytest.mark.parametrize("options", [(), ("--reload",)])
def test_pserve_serves_until_ctrl_c_stops_it_and_its_database(
    start: Start, checkout: Path, port: int, options: tuple[str, ...]
) -> None:
    server = start("pserve", "development.ini", f"http_port={port}", *options)
    assert get(port) == GREETING
    assert get(port, "/readyz")["schema"] == "up to date"
    assert database_runs(checkout)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as response:
        assert "Server" not in response.headers
    printed = interrupt(server)
    assert f"Serving http://localhost:{port}" in printed
    assert f"its data in {checkout}/.postgres" in printed
    assert "Traceback" not in printed
    # Without a clean exit of pserve, PostgreSQL would run for LINGER seconds more.
    assert eventually(lambda: not database_runs(checkout), seconds=embedded.LINGER / 2)


def test_a_changed_file_reloads_the_server_and_keeps_the_database(
    start: Start, checkout: Path, port: int
) -> None:
    ini = (checkout / "development.ini").read_text()
    (checkout / "development.ini").unlink()
    (checkout / "development.ini").write_text(ini)
    server = start("pserve", "development.ini", "--reload", PORT=str(port))
    get(port)
    pid = (checkout / ".postgres/cluster/postmaster.pid").read_text().split()[0]
    printed: list[str] = []

    def read() -> None:
        assert server.stdout is not None
        for line in server.stdout:
            printed.append(line)

    def reloads() -> bool:
        """Change the file again, because hupper may have missed the last change."""
        (checkout / "development.ini").write_text(f"{ini}# changed at {time.monotonic()}\n")
        time.sleep(1)
        return any("changed; reloading" in line for line in printed)

    def serves_again() -> bool:
        """Return whether the last of the servers serves: before that, Ctrl-C is a traceback."""
        text = "".join(printed)
        return text.rfind("Serving http") > text.rfind("changed; reloading")

    reader = threading.Thread(target=read)
    reader.start()
    assert eventually(reloads)
    assert eventually(serves_again, seconds=120)
    get(port, "/readyz")
    assert (checkout / ".postgres/cluster/postmaster.pid").read_text().split()[0] == pid
    os.killpg(server.pid, signal.SIGINT)
    server.wait(timeout=120)
    reader.join()
    assert "Traceback" not in "".join(printed)


def test_data_survives_a_kill_of_the_server_and_its_database(
    start: Start, checkout: Path, port: int
) -> None:
    server = start("pserve", "development.ini", f"http_port={port}", "--reload")
    get(port)
    start("initialize_db", "development.ini", "--sample-users").communicate()
    pid = int((checkout / ".postgres/cluster/postmaster.pid").read_text().split()[0])
    os.killpg(server.pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    server.wait()

    shown = start("initialize_db", "development.ini").communicate(timeout=120)[0]
    assert "users                    3" in shown
    assert eventually(lambda: not database_runs(checkout))


@pytest.mark.parametrize("options", [(), ("--reload",)])
def test_a_port_in_use_is_reported_and_no_database_is_started(
    start: Start, checkout: Path, options: tuple[str, ...]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        server = start("pserve", "development.ini", f"http_port={number}", *options)
        printed = server.communicate(timeout=120)[0]
    assert server.returncode == 1
    assert f"Can't listen on 127.0.0.1, port {number}" in printed
    assert "Traceback" not in printed
    assert not (checkout / ".postgres").exists()


def test_production_lists_all_missing_settings_and_does_not_start(start: Start, port: int) -> None:
    missing = {"DATABASE_URL": "", "SECRET_KEY": "", "TRUSTED_PROXY": ""}
    server = start("pserve", "production.ini", f"http_port={port}", **missing)
    printed = server.communicate(timeout=120)[0]
    assert server.returncode == 1
    assert [line.split(" is ")[0] for line in printed.splitlines()] == [
        "DATABASE_URL",
        "SECRET_KEY",
        "TRUSTED_PROXY",
    ]


def test_production_starts_before_the_migrations_and_is_ready_after_them(
    start: Start, port: int, new_database: NewDatabase
) -> None:
    url = new_database()
    start("pserve", "production.ini", DATABASE_URL=url, PORT=str(port), **PRODUCTION)
    assert get(port) == GREETING
    with pytest.raises(urllib.error.HTTPError, match="503") as unavailable:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz")
    with unavailable.value as answer:
        assert json.load(answer)["schema"] == "out of date"
    list(migrations.migrate(url, ROOT / "sql"))
    assert get(port, "/readyz")["schema"] == "up to date"


def test_ten_simultaneous_runs_of_initialize_db_apply_each_migration_once(
    start: Start, checkout: Path
) -> None:
    processes = [start("initialize_db", "development.ini") for _ in range(10)]
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 10
    for name in migrations.names(ROOT / "sql"):
        assert "".join(printed).count(f"Applied {name} in") == 1
    assert eventually(lambda: not database_runs(checkout))


def test_initialize_db_killed_midway_can_be_run_again(
    start: Start, checkout: Path, new_database: NewDatabase
) -> None:
    (checkout / "sql").unlink()
    (checkout / "sql").mkdir()
    slow = "CREATE TABLE first (id int); SELECT pg_sleep(2); CREATE TABLE last (id int);"
    (checkout / "sql/0001.slow.sql").write_text(slow)
    ini = (checkout / "production.ini").read_text()
    folder = "hello_login.migrations = %(here)s/sql\n\n[server:main]"
    (checkout / "slow.ini").write_text(ini.replace("\n[server:main]", folder))
    variables = {"DATABASE_URL": new_database(), **PRODUCTION}
    killed = start("initialize_db", "slow.ini", **variables)
    connection = psycopg2.connect(variables["DATABASE_URL"])
    connection.autocommit = True
    with connection.cursor() as cursor:

        def is_sleeping() -> bool:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
            return cursor.fetchone() == (1,)

        assert eventually(is_sleeping)
        killed.kill()
        killed.wait()
    connection.close()
    again = start("initialize_db", "slow.ini", **variables)
    assert "Applied 0001.slow in" in again.communicate(timeout=120)[0]
    assert again.returncode == 0


def test_the_yoyo_command_applies_the_migrations_and_rolls_the_last_ones_back(
    start: Start, new_database: NewDatabase
) -> None:
    url = new_database()

    def run(command: str, *options: str) -> None:
        same = ("--batch", "--no-config-file", "--database", url)
        process = start("yoyo", command, *same, *options, "sql")
        process.communicate(timeout=120)
        assert process.returncode == 0

    run("apply")
    assert list(migrations.migrate(url, ROOT / "sql")) == []
    run("rollback", "--revision", "0012.event_months")
    again = [name for name, _ in migrations.migrate(url, ROOT / "sql")]
    assert again == [name for name in migrations.names(ROOT / "sql") if name >= "0012"]
