"""Two hundred guesses at once, against two real servers that share a database."""

import http.client
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import pytest

from hello_login import migrations
from tests.conftest import ROOT, NewDatabase
from tests.functional.test_processes import Start, checkout, port, start
from tests.people import EMAIL, PASSWORD

pytestmark = pytest.mark.process

__all__ = ["checkout", "port", "start"]  # fixtures

WAIT = 8


class Person:
    """Somebody at an address, with the cookies of a browser."""

    def __init__(self, port: int, address: str) -> None:
        self.port = port
        self.address = address
        self.cookies: dict[str, str] = {}

    def ask(self, path: str, **form: str) -> tuple[int, int, str]:
        """The status, Retry-After in seconds, and the text of the answer."""
        connection = http.client.HTTPConnection("localhost", self.port, timeout=60)
        headers = {
            "Accept": "text/html",
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            "X-Forwarded-For": self.address,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        if form:
            body = urlencode({"csrf_token": self.cookies["csrf_token"], **form})
            connection.request("POST", path, body, headers)
        else:
            connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        for header in answer.headers.get_all("Set-Cookie", []):
            name, _, value = header.partition(";")[0].partition("=")
            self.cookies[name] = value
        text = answer.read().decode()
        connection.close()
        return answer.status, int(answer.headers.get("Retry-After", "0")), text

    def log_in(self, email: str = EMAIL, password: str = PASSWORD) -> tuple[int, int]:
        """The status and Retry-After."""
        status, retry_after, _ = self.ask("/login", email=email, password=password)
        return status, retry_after

    def register(self, email: str) -> int:
        form = {"name": "Ada", "email": email, "password": PASSWORD, "confirm": PASSWORD}
        return self.ask("/register", **form)[0]


@pytest.fixture
def ports(checkout: Path, new_database: NewDatabase, start: Start, port: int) -> tuple[int, int]:
    """Where two servers listen, behind a proxy that tells who asks."""
    url = new_database()
    list(migrations.migrate(url, ROOT / "sql"))
    text = (ROOT / "development.ini").read_text()
    quick = f"hello_login.throttle_wait_seconds = {WAIT}\n\n[server:main]"
    (checkout / "quick.ini").write_text(text.replace("\n[server:main]", quick))
    both = (port, port + 1)
    for each in both:
        server = start(
            "pserve", "quick.ini", f"http_port={each}", DATABASE_URL=url, TRUSTED_PROXY="127.0.0.1"
        )
        assert server.stdout is not None
        assert any("Serving" in line for line in server.stdout)
    return both


def test_of_200_guesses_at_once_five_are_tried_and_nobody_else_is_kept_out(
    ports: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    owner, other = Person(ports[0], "192.0.2.1"), Person(ports[1], "192.0.2.2")
    for person, email in ((owner, EMAIL), (other, "grace@example.com")):
        person.ask("/register")
        assert person.register(email) == 303
        assert person.ask("/logout", any="thing")[0] == 303
    guessers = [Person(each, "203.0.113.1") for each in ports]
    for guesser in guessers:
        guesser.ask("/login")

    begun = time.monotonic()
    with ThreadPoolExecutor(50) as pool:
        guesses = [
            pool.submit(guessers[number % 2].log_in, password=f"guess {number}")
            for number in range(200)
        ]
        meanwhile = [
            pool.submit(other.log_in, email="grace@example.com"),
            pool.submit(owner.log_in),
        ]
        answers = [guess.result() for guess in guesses]
        others = [each.result()[0] for each in meanwhile]
    took = time.monotonic() - begun

    counted = Counter(status for status, _ in answers)
    assert counted == {422: 5, 429: 195}
    waits = [retry_after for status, retry_after in answers if status == 429]
    assert all(1 <= wait <= WAIT for wait in waits)
    assert others == [303, 303]

    stranger = Person(ports[0], "203.0.113.1")
    stranger.ask("/login")
    status, wait = stranger.log_in()
    assert status == 429
    time.sleep(wait)
    assert stranger.log_in()[0] == 303
    with capsys.disabled():
        sys.stdout.write(
            f"\n200 guesses in {took:.1f} s: {counted[422]} tried, {counted[429]} answered 429, "
            f"Retry-After {min(waits)} to {max(waits)} s; another account from another address: "
            f"{others[0]}; the owner's device: {others[1]}; the guesser's address after the wait, "
            "with the right password: 303\n"
        )
