"""A server follows a failover from a primary to its standby without a restart."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from hello_login.dev.embedded import EmbeddedPostgres
from tests.conftest import make_folder
from tests.functional.servers import QUICK, Database, Person, Server

pytestmark = pytest.mark.slow


class Standby(Database):
    """A read-only standby that replicates its primary."""

    def __init__(self, folder: Path, primary: Database) -> None:
        EmbeddedPostgres.__init__(self, folder / "standby", fsync=False)
        self._primary = primary
        self.url = self.start()

    def _initialize(self, lock: int) -> None:
        primary = ("-h", self._primary.socket, "-U", "postgres")
        copy = ("-D", self._cluster, "--write-recovery-conf", "--checkpoint=fast")
        copied = self._run("pg_basebackup", *primary, *copy, inherits=lock)
        assert copied.returncode == 0, copied.stderr

    def promote(self) -> None:
        self._run("pg_ctl", "promote", "-D", self._cluster, "-w")


@pytest.fixture
def pair() -> Iterator[tuple[Database, Standby]]:
    """Yield a primary and its standby."""
    with make_folder() as folder, contextlib.ExitStack() as started:
        primary = Database(folder)
        started.callback(primary.stop)
        standby = Standby(folder, primary)
        started.callback(standby.stop)
        yield primary, standby


def test_a_server_follows_a_failover_and_serves_no_writes_from_a_standby(
    pair: tuple[Database, Standby], tmp_path: Path
) -> None:
    primary, standby = pair
    hosts = ",".join(quote(str(each.socket), safe="") for each in pair)
    server = Server(tmp_path, f"postgresql://postgres@/postgres?host={hosts}", **QUICK)
    process = server.start()
    try:
        person = Person(server.port)
        person.ask("/register")
        assert person.register() == 303
        deadline = time.monotonic() + 60
        while not standby.query("SELECT FROM sessions"):
            assert time.monotonic() < deadline
        rename = {"name": "Augusta", "email": "ada@example.com"}

        primary.kill()
        status, _, text = person.ask("/readyz")
        assert (status, "read-only" in text) == (503, True)
        assert person.ask("/account/profile", rename)[0] == 503

        standby.promote()
        assert person.ask("/readyz")[0] == 200
        assert person.ask("/account/profile", rename)[0] == 303

        primary.demote()
        standby.execute("""
            SELECT pg_terminate_backend(pid, 5000)
              FROM pg_stat_activity
             WHERE application_name = 'hello_login'
        """)
        rename["name"] = "Ada Byron"
        assert person.ask("/account/profile", rename)[0] == 303
        assert standby.query("SELECT name FROM users") == [("Ada Byron",)]
        assert process.poll() is None
    finally:
        server.stop()
