"""A server reports a problem of its database once, at its start, and says what to do."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import NewDatabase
from tests.functional.servers import QUICK, Person, Server

pytestmark = pytest.mark.slow

Configure = Callable[[str], Server]


@pytest.fixture
def configure(tmp_path: Path) -> Iterator[Configure]:
    """Return a function that prepares a server of two processes for a database."""
    servers = []

    def make(url: str) -> Server:
        servers.append(Server(tmp_path, url, processes="2", **QUICK))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


def test_a_server_exits_with_one_sentence_if_postgresql_refuses_its_database(
    configure: Configure, server_url: str
) -> None:
    server = configure(server_url.replace("/postgres?", "/nowhere?"))
    with pytest.raises(AssertionError):
        server.start()
    (process,) = server._processes
    assert process.wait(timeout=60) == 1
    (logged,) = server.log.read_text().splitlines()
    assert logged.startswith("PostgreSQL refuses DATABASE_URL: ")
    assert logged.endswith(": create the database, or correct its name in DATABASE_URL.")


def test_a_server_logs_an_unreachable_database_once_and_serves(configure: Configure) -> None:
    server = configure("postgresql://ada:pa55@127.0.0.1:1/app")
    server.start()
    logged = server.log.read_text()
    assert logged.count(": start it, or correct DATABASE_URL.") == 1
    assert "pa55" not in logged
    assert [Person(server.port).ask(path)[0] for path in ("/healthz", "/readyz")] == [200, 503]


def test_a_server_logs_missing_tables_once_and_serves_pages_without_queries(
    configure: Configure, new_database: NewDatabase
) -> None:
    url = new_database()
    server = configure(url)
    server.start()
    warning = f"The schema is out of date: run initialize_db {server.ini}"
    assert server.log.read_text().count(warning) == 1
    person = Person(server.port)
    assert [person.ask(path)[0] for path in ("/login", "/readyz")] == [200, 503]
    assert person.log_in() == (503, 5)
    initialize = Path(sys.executable).parent / "initialize_db"
    subprocess.run(
        [initialize, server.ini], check=True, env=server.environment, stdout=subprocess.DEVNULL
    )
    assert person.ask("/readyz")[0] == 200
    assert person.log_in()[0] == 422
