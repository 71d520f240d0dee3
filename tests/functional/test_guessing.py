"""200 simultaneous guesses of a password on two real servers that share a database."""

import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from tests.conftest import ROOT
from tests.functional.conftest import Start
from tests.functional.servers import Person, change_ini
from tests.people import EMAIL
from tests.rows import execute

pytestmark = pytest.mark.slow


@pytest.fixture
def ports(checkout: Path, url: str, start: Start) -> tuple[int, int]:
    """Return the ports of two servers that trust the client addresses of a proxy."""
    constants = {"hello_login.server.serving.QUEUE_SECONDS": 60}  # for a busy machine
    (checkout / "patient.ini").write_text(change_ini("development.ini", {}, constants))
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
    ):
        both = (first.getsockname()[1], second.getsockname()[1])
    for each in both:
        server = start(
            *("pserve", "patient.ini", f"http_port={each}"),
            DATABASE_URL=url,
            TRUSTED_PROXY="127.0.0.1",
            MAIL_URL="none",
            PYTHONPATH=str(ROOT),
        )
        assert server.stdout is not None
        assert any("Serving" in line for line in server.stdout)
    return both


def test_five_of_200_simultaneous_guesses_are_tried_and_other_people_can_log_in(
    ports: tuple[int, int], database: Connection, print_figure: Callable[[str], None]
) -> None:
    owner, other = Person(ports[0], "192.0.2.1"), Person(ports[1], "192.0.2.2")
    for person, email in ((owner, EMAIL), (other, "grace@example.com")):
        person.ask("/register")
        assert person.register(email) == 303
        assert person.log_out() == 303
    guesser = Person(ports[0], "203.0.113.1")
    guesser.ask("/login")

    def guess(number: int) -> tuple[int, int]:
        each = Person(ports[number % 2], guesser.address)
        each.cookies = dict(guesser.cookies)
        return each.log_in(password=f"guess {number}")

    started = time.monotonic()
    with ThreadPoolExecutor(50) as pool:
        guesses = [pool.submit(guess, number) for number in range(200)]
        other_logins = [
            pool.submit(other.log_in, email="grace@example.com"),
            pool.submit(owner.log_in),
        ]
        answers = [guess.result() for guess in guesses]
        other_statuses = [each.result()[0] for each in other_logins]
    seconds = time.monotonic() - started

    counted = Counter(status for status, _ in answers)
    assert counted == {422: 5, 429: 195}
    waits = [retry_after for status, retry_after in answers if status == 429]
    assert all(1 <= wait <= 60 for wait in waits)
    assert other_statuses == [303, 303]

    stranger = Person(ports[0], "203.0.113.1")
    stranger.ask("/login")
    assert stranger.log_in()[0] == 429
    execute(database, "UPDATE throttles SET blocked_until = blocked_until - interval '1 minute'")
    assert stranger.log_in()[0] == 303
    print_figure(
        f"200 guesses in {seconds:.1f} s: {counted[422]} tried, {counted[429]} answered 429, "
        f"Retry-After {min(waits)} to {max(waits)} s; another account from another address: "
        f"{other_statuses[0]}; the owner's device: {other_statuses[1]}; the guesser's address "
        "after the wait, with the right password: 303"
    )
