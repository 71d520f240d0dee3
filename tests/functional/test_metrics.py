"""The metrics of a real server: with two processes, after a kill, and while its forms wait."""

import http.client
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.functional.commands import eventually
from tests.functional.servers import QUICK, Person, Server, children
from tests.samples import HEADERS, TOKEN, Samples, parse

pytestmark = pytest.mark.slow

FOLDER = re.compile(r"/\S+/hello_login-metrics-[^/]+")

Serve = Callable[..., tuple[int, "subprocess.Popen[bytes]"]]


@pytest.fixture
def serve(tmp_path: Path, url: str) -> Iterator[Serve]:
    """Return a function that starts a server with metrics, and returns its port and process."""
    servers = []

    def start(**settings: Any) -> tuple[int, "subprocess.Popen[bytes]"]:
        servers.append(Server(tmp_path, url, metrics_token=TOKEN, **{**QUICK, **settings}))
        return servers[-1].port, servers[-1].start()

    yield start
    for server in servers:
        server.stop()


def read(port: int) -> Samples:
    """Return the samples that the server on this port returns at /metrics."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with closing(connection):
        connection.request("GET", "/metrics", headers=HEADERS)
        text = connection.getresponse().read().decode()
    return parse(text)


def greet(port: int, number: int) -> None:
    """Request the greeting, each time on a new connection, so that either process may answer."""
    for _ in range(number):
        assert Person(port).ask("/")[0] == 200


def test_the_metrics_of_two_processes_add_up_although_one_is_killed_and_replaced(
    serve: Serve,
) -> None:
    port, process = serve(processes="2")
    greet(port, 40)
    victim, other = children(process.pid)
    (folder,) = set(FOLDER.findall(Path(f"/proc/{other}/maps").read_text()))
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: len({*children(process.pid)} - {victim}) == 2, seconds=120)
    greet(port, 40)
    assert Person(port).ask("/nowhere")[0] == 404
    samples = read(port)
    assert samples["requests_total", "greeting", "200"] == 80
    assert samples["request_seconds_count", "greeting"] == 80
    assert samples["request_seconds_bucket", "+Inf", "greeting"] == 80
    assert samples["requests_total", "none", "404"] == 1
    assert read(port)["requests_total", "metrics", "200"] == 1
    assert len(list(Path(folder).iterdir())) == 9  # the replacement has added no file
    process.terminate()
    process.wait(timeout=120)
    assert not Path(folder).exists()


def test_metrics_are_returned_while_forms_wait_and_count_them(serve: Serve, url: str) -> None:
    patience = 5  # seconds; on a busy machine, the first four may wait for their threads, too
    constants = {
        **QUICK["constants"],
        "hello_login.db.transactions.LOCK_TIMEOUT_SECONDS": 300,
        "hello_login.db.transactions.STATEMENT_TIMEOUT_SECONDS": 300,
        "hello_login.server.serving.QUEUE_SECONDS": patience,
    }
    port, _ = serve(constants=constants)
    answers: list[int] = []

    def log_in(number: int) -> None:
        person = Person(port)
        person.ask("/login")
        answers.append(person.log_in(f"nobody{number}@example.com")[0])

    def is_full() -> bool:
        samples = read(port)
        return samples["forms_waiting",] == 2 and samples["connections_in_use",] == 4

    def is_empty() -> bool:
        samples = read(port)
        return samples["forms_waiting",] == samples["connections_in_use",] == 0

    with closing(psycopg2.connect(url)) as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE users")
        people = [threading.Thread(target=log_in, args=(number,)) for number in range(6)]
        for person in people:
            person.start()
        full = eventually(is_full, seconds=120)
        time.sleep(patience)  # so that the two that wait have waited for too long
    for person in people:
        person.join()
    assert full
    assert eventually(is_empty, seconds=120)
    # Two forms had waited for a thread for longer than QUEUE_SECONDS, so they were refused.
    assert sorted(answers) == [422] * 4 + [503] * 2
    samples = read(port)
    assert samples["events_total", "login_failed"] == 4
    assert samples["requests_total", "login", "422"] == 4
