"""A server follows failovers to a synchronous standby, and goes on after its loss."""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from hello_login.db import migrations
from hello_login.dev.embedded import EmbeddedPostgres
from tests.conftest import ROOT, make_folder
from tests.functional.commands import eventually
from tests.functional.servers import QUICK, Database, Person, Server, children
from tests.functional.traffic import Traffic
from tests.people import EMAIL
from tests.rows import query
from tests.standbys import list_waiting, require_standbys

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

FAILOVERS = int(os.environ.get("FAILOVERS", "2"))
"""The number of failovers; the environment can set more than the suite has time for."""


class Node(Database):
    """A primary, or the standby of another node."""

    def __init__(self, folder: Path, primary: "Node | None" = None) -> None:
        self._primary = primary
        EmbeddedPostgres.__init__(self, folder, fsync=False)
        self.url = self.start()

    def _initialize(self, lock: int) -> None:
        if self._primary is None:
            super()._initialize(lock)
            return
        primary = ("-h", self._primary.socket, "-U", "postgres")
        copy = ("-D", self._cluster, "--write-recovery-conf", "--checkpoint=fast")
        copied = self._run("pg_basebackup", *primary, *copy, inherits=lock)
        assert copied.returncode == 0, copied.stderr

    def kill_at_once(self) -> None:
        """Kill all processes, as a loss of power does."""
        postmaster = int((self._cluster / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGSTOP)  # so that it starts no other process
        for process in (postmaster, *children(postmaster)):
            os.kill(process, signal.SIGKILL)
        assert eventually(lambda: not self._is_held("server.lock"))

    def promote(self) -> None:
        self._run("pg_ctl", "promote", "-D", self._cluster, "-w")

    def follow(self, primary: "Node") -> None:
        """Replace the data of a killed node by a copy of the primary's, and become its standby."""
        self._primary = primary
        shutil.rmtree(self._cluster)
        self._ensure_running()

    def require_standby(self) -> None:
        """Let commits wait for the standby, once it streams."""
        streaming = "SELECT FROM pg_stat_replication WHERE state = 'streaming'"
        assert eventually(lambda: len(self.query(streaming)) == 1)
        require_standbys(self.url, "*")


@pytest.fixture
def nodes() -> Iterator[tuple[Node, Node]]:
    """Yield a primary and its synchronous standby; the application's role, ada, has few rights."""
    with make_folder() as folder, contextlib.ExitStack() as started:
        primary = Node(folder / "a")
        started.callback(primary.stop)
        list(migrations.migrate(primary.url, ROOT / "sql"))
        query(primary.url, "CREATE ROLE ada LOGIN")
        query(primary.url, "GRANT pg_read_all_data, pg_write_all_data TO ada")
        standby = Node(folder / "b", primary)
        started.callback(standby.stop)
        primary.require_standby()
        yield primary, standby


@pytest.fixture
def serve(nodes: tuple[Node, Node], tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server with the URL of both nodes."""
    hosts = ",".join(quote(str(each.socket), safe="") for each in nodes)
    with contextlib.ExitStack() as started:

        def start(**changes: Any) -> Server:
            server = Server(tmp_path, f"postgresql://ada@/postgres?host={hosts}", **changes)
            started.callback(server.stop)
            server.start()
            return server

        yield start


def wait_for_registrations(traffic: Traffic) -> None:
    # For each of the 8 clients, the last registration may not be in the list yet.
    enough = len(traffic.registered) + 10
    assert eventually(lambda: len(traffic.registered) >= enough, 120)


def test_failovers_lose_no_acknowledged_registration_or_logout(
    nodes: tuple[Node, Node], serve: Callable[..., Server], print_figure: Callable[[str], None]
) -> None:
    primary, standby = nodes
    server = serve(**QUICK)
    figures = []
    with Traffic(server.port) as traffic:
        for number in range(FAILOVERS):
            if number > 0:
                standby.follow(primary)
                primary.require_standby()
                # New connections must find the primary beside a server that takes no writes.
                primary.query("""
                    SELECT pg_terminate_backend(pid, 5000)
                      FROM pg_stat_activity
                     WHERE application_name = 'hello_login'
                """)
            wait_for_registrations(traffic)

            primary.kill_at_once()
            killed = time.monotonic()
            assert eventually(lambda: "read-only" in Person(server.port).ask("/readyz")[2])
            standby.promote()
            promoted = time.monotonic()
            probes = 0
            while not register(server, traffic, f"{number}.{probes}@example.org"):
                probes += 1
            served = time.monotonic()

            figures.append(f"{served - killed:.2f} s ({served - promoted:.2f} s)")
            primary, standby = standby, primary
            # A thread that has waited for a second lets no other connect in the next one.
            assert eventually(lambda: Person(server.port).ask("/readyz")[0] == 200)
            wait_for_registrations(traffic)
    statuses = traffic.statuses()
    print_figure(
        f"{FAILOVERS} failovers, without service (since the promotion): {', '.join(figures)}; "
        f"{len(traffic.registered)} registrations; {dict(statuses)}"
    )
    assert set(statuses) <= {200, 303, 503}
    traffic.check_nothing_lost_or_doubled(primary)


def register(server: Server, traffic: Traffic, email: str) -> bool:
    """Return whether a new person could register."""
    person = Person(server.port)
    person.ask("/register")
    registered = person.register(email) == 303
    (traffic.registered if registered else traffic.maybe_registered).append(email)
    return registered


def test_no_request_hangs_after_the_loss_of_the_standby(
    nodes: tuple[Node, Node], serve: Callable[..., Server], print_figure: Callable[[str], None]
) -> None:
    primary, standby = nodes
    constants = {**QUICK["constants"], "hello_login.db.standbys.COMMIT_TIMEOUT_SECONDS": 3}
    server = serve(**{**QUICK, "constants": constants})
    person = Person(server.port)
    assert person.ask("/readyz")[0] == 200
    person.ask("/register")
    assert person.register() == 303

    standby.kill_at_once()
    assert eventually(lambda: "commits wait for a standby" in person.ask("/readyz")[2])
    assert person.ask("/readyz")[0] == 503
    started = time.monotonic()
    status, retry_after, text = person.ask("/logout", {})
    seconds = time.monotonic() - started
    assert (status, retry_after, "tell whether that was done" in text) == (503, 0, True)

    with Traffic(server.port) as traffic:
        assert eventually(lambda: len(traffic.unavailable) >= 16, 120)
        require_standbys(primary.url, "")
        wait_for_registrations(traffic)
        assert person.ask("/readyz")[0] == 200
    assert set(traffic.statuses()) <= {200, 303, 503}
    assert list_waiting(primary.url) == []
    traffic.maybe_registered.append(EMAIL)
    traffic.check_nothing_lost_or_doubled(primary)
    longest = max(answered - sent for sent, answered in traffic.unavailable)
    print_figure(
        f"a logout had an answer after {seconds:.1f} s, {len(traffic.unavailable)} other requests "
        f"after at most {longest:.1f} s: {dict(traffic.statuses())}"
    )
    assert max(seconds, longest) < 30
