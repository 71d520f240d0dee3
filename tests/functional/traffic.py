"""Continuous requests to a server, for tests that interrupt it."""

import http.client
import threading
import time
from collections import Counter
from typing import TypeVar

from tests.functional.servers import Database, Person
from tests.people import PASSWORD

LOST = "lost"
"""The server accepted the request and never answered it."""


C = TypeVar("C", bound="Clients")


class Clients:
    """Clients in threads, each of which calls use() when a with block begins.

    use() takes the client's number, and adds to self.answers.  It must return soon after self.stop
    is set, at the end of the block.
    """

    def __init__(self, clients: int = 8) -> None:
        self.stop = threading.Event()
        self.answers: Counter[tuple[str, int | str]] = Counter()
        self._threads = [
            threading.Thread(target=self.use, args=(number,)) for number in range(clients)
        ]

    def __enter__(self: C) -> C:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()

    def use(self, client: int) -> None:
        raise NotImplementedError


class Traffic(Clients):
    """Clients that repeat a journey from registration to logout.

    They record each status, and the rows that the database must therefore contain.
    """

    def __init__(self, port: int, clients: int = 8) -> None:
        super().__init__(clients)
        self._port = port
        self.unavailable: list[tuple[float, float]] = []
        """The times when each request that got a 503 was sent and answered."""

        self.registered: list[str] = []
        self.maybe_registered: list[str] = []
        self.unexpectedly_logged_out: list[str] = []
        self.logged_out: set[str] = set()

    def statuses(self) -> Counter[int | str]:
        total: Counter[int | str] = Counter()
        for (_, status), number in list(self.answers.items()):  # clients may add some meanwhile
            total[status] += number
        return total

    def check_nothing_lost_or_doubled(self, database: Database) -> None:
        """Check that the database has every registration and logout that was acknowledged, once."""
        emails = [str(email) for (email,) in database.query("SELECT email FROM users")]
        assert len(emails) == len(set(emails))
        assert set(self.registered) <= set(emails) <= {*self.registered, *self.maybe_registered}
        sessions = database.query(
            "SELECT email, count(*) FROM sessions JOIN users ON users.id = user_id GROUP BY email"
        )
        with_session = {str(email) for email, _ in sessions}
        assert not with_session & self.logged_out
        assert self.unexpectedly_logged_out == []

    def use(self, client: int) -> None:
        journey = 0
        while not self.stop.is_set():
            journey += 1
            self._run_person(f"{client}.{journey}@example.com")

    def _run_person(self, email: str) -> None:
        person = Person(self._port)
        try:
            self._run_journey(person, email)
        finally:
            person.close()

    def _run_journey(self, person: Person, email: str) -> None:
        login = {"email": email, "password": PASSWORD}
        if self._ask(person, "/register") != 200:
            return
        new = {"name": "Ada", "confirm": PASSWORD, **login}
        if self._ask(person, "/register", new) != 303:
            self.maybe_registered.append(email)
            return
        self.registered.append(email)
        steps: list[tuple[str, dict[str, str] | None]] = [
            ("/account", None),
            ("/", None),
            ("/logout", {}),
            ("/login", login),
            ("/account", None),
            ("/logout", {}),
        ]
        for path, form in steps:
            status = self._ask(person, path, form)
            if path == "/account" and status == 303:
                self.unexpectedly_logged_out.append(email)
            if form is not None and status != 303:
                return
        self.logged_out.add(email)

    def _ask(self, person: Person, path: str, form: dict[str, str] | None = None) -> int | str:
        request = f"{'GET' if form is None else 'POST'} {path}"
        sent = time.monotonic()
        try:
            status: int | str = person.ask(path, form)[0]
        except (OSError, http.client.HTTPException):
            status = LOST
        self.answers[request, status] += 1
        if status == 503:
            self.unavailable.append((sent, time.monotonic()))
            time.sleep(0.05)  # people do not retry immediately
        return status
