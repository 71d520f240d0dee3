"""Restarts, deployments, floods and kills under traffic lose no request and no data."""

import os
import signal
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_folder
from tests.functional.commands import eventually
from tests.functional.servers import PATIENT, QUICK, Database, Person, Server, children
from tests.functional.traffic import LOST, Traffic
from tests.people import EMAIL, STYLESHEET

pytestmark = pytest.mark.slow

SOON = 20
"""Seconds.  They are fewer than hello_login.graceful_timeout, and enough for a busy machine."""

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """Yield a PostgreSQL for this module."""
    with make_folder() as folder:
        started = Database(folder)
        yield started
        started.stop()


@pytest.fixture(autouse=True)
def _empty_tables(database: Database) -> None:
    database.query("TRUNCATE users, throttles, account_events CASCADE; SELECT")


Serve = Callable[..., Server]


@pytest.fixture
def serve(database: Database, tmp_path: Path) -> Iterator[Serve]:
    """Return a function that starts a server; the test's end stops it."""
    servers = []

    def start(**changes: Any) -> Server:
        server = Server(tmp_path, database.url, **changes)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()
        print(server.end_of_log())  # noqa: T201 - pytest shows it for failed tests


def count_connections(database: Database) -> int:
    ((number,),) = database.query(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hello_login'"
    )
    return int(str(number))


def wait_for_answers(traffic: Traffic) -> None:
    """Wait until each of the 8 clients may have had some more answers."""
    enough = sum(traffic.statuses().values()) + 80
    assert eventually(lambda: sum(traffic.statuses().values()) >= enough, 120)


def test_five_restarts_of_the_database_cause_no_500_and_lose_no_data(
    database: Database, serve: Serve, print_figure: Callable[[str], None]
) -> None:
    server = serve(**PATIENT)
    with Traffic(server.port) as traffic:
        wait_for_answers(traffic)
        before = count_connections(database)
        outages = []
        for _ in range(5):
            began = time.monotonic()
            database.kill("restart")
            # A server that has waited for a second tries no connection in the next one.
            assert eventually(lambda: Person(server.port).ask("/readyz")[0] == 200)
            outages.append((began, time.monotonic()))
            wait_for_answers(traffic)
        after = count_connections(database)
    statuses = traffic.statuses()
    longest = max(end - began for began, end in outages)
    print_figure(
        f"5 restarts, the longest of {longest:.1f} s: {dict(statuses)}; "
        f"connections before {before}, after {after}"
    )
    assert set(statuses) <= {200, 303, 503}
    for sent, answered in traffic.unavailable:
        assert any(began < answered and sent < end for began, end in outages)
    assert 0 < after <= 8
    traffic.check_nothing_lost_or_doubled(database)
    assert Person(server.port).ask("/readyz")[0] == 200


def test_a_database_outage_affects_only_pages_that_need_the_database(
    database: Database, serve: Serve
) -> None:
    server = serve(**QUICK)
    person = Person(server.port)
    person.ask("/register")
    assert person.register() == 303
    database.kill()
    try:
        started = time.monotonic()
        status, retry_after, text = person.ask("/account")
        assert (status, retry_after) == (503, 5)
        assert "Our database is too busy" in text
        assert time.monotonic() - started < 5
        stranger = Person(server.port)
        paths = ("/", "/login", "/register", "/healthz", STYLESHEET, "/readyz")
        assert [stranger.ask(path)[0] for path in paths] == [200] * 5 + [503]
    finally:
        database.start_again()
    assert person.ask("/account")[0] == 200


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_deployment_answers_every_accepted_request(
    serve: Serve, print_figure: Callable[[str], None], processes: str
) -> None:
    slow_hashes = {"argon2_passes": "100", "argon2_memory_kib": "1024", "processes": processes}
    server = serve(**{**PATIENT, **slow_hashes})
    with Traffic(server.port) as traffic:
        for _ in range(3):
            time.sleep(1)
            (running,) = [each for each in server._processes if each.poll() is None]
            running.send_signal(signal.SIGTERM)
            while server.listens():
                time.sleep(0.01)
            server.start()
            assert running.wait(timeout=60) == 0
        time.sleep(1)
    statuses = traffic.statuses()
    print_figure(f"3 deployments, {processes} processes: {dict(statuses)}")
    assert set(statuses) == {200, 303}


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_second_signal_stops_a_server_immediately(serve: Serve, processes: str) -> None:
    server = serve(**QUICK, processes=processes)
    (process,) = server._processes
    with socket.create_connection(("127.0.0.1", server.port)) as unfinished:
        unfinished.sendall(b"GET / HTTP/1.1\r\n")
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert eventually(lambda: not server.listens())
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=SOON) == 128 + signal.SIGTERM


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_an_idle_server_with_exit_code_0(
    serve: Serve, number: signal.Signals, processes: str
) -> None:
    server = serve(**QUICK, processes=processes)
    (process,) = server._processes
    process.send_signal(number)
    assert process.wait(timeout=SOON) == 0


@only_linux
def test_a_signal_to_all_processes_at_once_loses_no_request(serve: Serve) -> None:
    # Heroku and Ctrl-C send the signal to all processes.
    server = serve(**PATIENT, processes="2")
    (process,) = server._processes
    with Traffic(server.port) as traffic:
        wait_for_answers(traffic)
        for each in (*children(process.pid), process.pid):
            os.kill(each, signal.SIGTERM)
        while server.listens():
            time.sleep(0.01)
        server.start()
        assert process.wait(timeout=60) == 0
    assert set(traffic.statuses()) == {200, 303}


@only_linux
def test_a_killed_process_is_replaced_while_the_other_serves(
    serve: Serve, database: Database
) -> None:
    server = serve(**PATIENT, processes="2")
    (process,) = server._processes
    first = children(process.pid)
    assert len(first) == 2
    with Traffic(server.port) as traffic:
        wait_for_answers(traffic)
        os.kill(first[0], signal.SIGKILL)
        assert eventually(lambda: first[0] not in children(process.pid))
        assert eventually(lambda: len(children(process.pid)) == 2)
        wait_for_answers(traffic)
    assert first[1] in children(process.pid)
    statuses = traffic.statuses()
    # The killed process may lose one request of each client.
    assert statuses.pop(LOST, 0) <= 8
    assert set(statuses) == {200, 303}
    assert f"Process {first[0]} ended with exit code -9: starting another" in server.log.read_text()
    traffic.check_nothing_lost_or_doubled(database)


def test_a_failed_test_prints_only_the_last_50_lines_of_the_server_log(
    database: Database, folder: Path
) -> None:
    server = Server(folder, database.url)
    server.log.write_text("a line\n" * 16_000 + "the last line\n")
    shown = server.end_of_log().splitlines()
    assert (len(shown), shown[-1]) == (50, "the last line")


@only_linux
def test_processes_exit_when_their_parent_is_killed(serve: Serve) -> None:
    server = serve(**QUICK, processes="2")
    (process,) = server._processes
    started = children(process.pid)
    process.kill()
    process.wait()
    deadline = time.monotonic() + SOON
    while any(Path(f"/proc/{each}").exists() for each in started):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not server.listens()


def test_an_unfinished_request_delays_a_stop_only_until_the_graceful_timeout(serve: Serve) -> None:
    server = serve(**QUICK, graceful_timeout="1")
    (process,) = server._processes
    with socket.create_connection(("127.0.0.1", server.port)) as unfinished:
        unfinished.sendall(b"GET / HTTP/1.1\r\n")
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=SOON) == 0
    assert "Stopped, and cut off 1 connections" in server.log.read_text()


def measure_greeting(port: int, seconds: float) -> list[float]:
    """Request the greeting for some seconds, and return the milliseconds of each answer."""
    person, times = Person(port), []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        started = time.perf_counter()
        assert person.ask("/")[0] == 200
        times.append((time.perf_counter() - started) * 1000)
    return times


def test_a_flood_of_logins_does_not_take_the_site_down(
    serve: Serve, print_figure: Callable[[str], None]
) -> None:
    server = serve(secure_cookies="false", constants=QUICK["constants"])
    (process,) = server._processes
    first = Person(server.port)
    first.ask("/register")
    assert first.register() == 303
    first.log_out()
    quiet = measure_greeting(server.port, 4)

    stop = threading.Event()
    statuses: Counter[int] = Counter()

    def flood(number: int) -> None:
        person = Person(server.port)
        person.cookies = {"csrf_token": first.cookies["csrf_token"]}
        while not stop.is_set():
            status, _ = person.log_in(f"{number}@example.com", "a wrong password")
            statuses[status] += 1

    def resident() -> int:
        pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") // 2**20

    before = resident()
    threads = [threading.Thread(target=flood, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    flooded = measure_greeting(server.port, 20)
    most_memory = resident()
    stop.set()
    for thread in threads:
        thread.join()

    p99 = [statistics.quantiles(times, n=100)[98] for times in (quiet, flooded)]
    print_figure(
        f"200 logins at once for 20 s: {dict(statuses)}; greeting p99 {p99[0]:.1f} ms without, "
        f"{p99[1]:.1f} ms with: {p99[1] / p99[0]:.1f} times; {len(flooded)} greetings; resident "
        f"{before} MiB before, {most_memory} MiB with"
    )
    assert set(statuses) <= {422, 429, 503}
    assert statuses[503] > 0
    assert most_memory < before + 200


def test_a_server_killed_during_writes_leaves_no_partial_transactions(
    database: Database, serve: Serve, print_figure: Callable[[str], None]
) -> None:
    server = serve(**QUICK)
    accounts = 0
    for number in range(20):
        with Traffic(server.port, clients=4) as traffic:
            time.sleep(0.3 + number / 100)
            (running,) = [each for each in server._processes if each.poll() is None]
            running.kill()
            running.wait()
            traffic.stop.set()
            server.start()
        accounts += len(traffic.registered)
        partial_accounts = database.query(
            """
            SELECT users.id
              FROM users
              LEFT JOIN account_events AS registered
                ON registered.user_id = users.id AND registered.event = 'registered'
              LEFT JOIN account_events AS logged_in
                ON logged_in.user_id = users.id AND logged_in.event = 'logged_in'
             WHERE registered.id IS NULL
                OR logged_in.id IS NULL
                OR users.last_login_at IS NULL
            """
        )
        assert partial_accounts == []
        ((orphans,),) = database.query(
            """
            SELECT count(*)
              FROM sessions
             WHERE NOT EXISTS (SELECT
                                 FROM account_events
                                WHERE event = 'logged_in'
                                  AND fingerprint = left(encode(sessions.id, 'hex'), 12))
            """
        )
        assert orphans == 0
        traffic.check_nothing_lost_or_doubled(database)
        database.query("TRUNCATE users CASCADE; SELECT")
    print_figure(f"20 kills: {accounts} accounts registered, no partial transaction")


def test_slow_clients_do_not_block_others(
    serve: Serve, print_figure: Callable[[str], None]
) -> None:
    server = serve(**QUICK)
    heads = {
        "a slow head": b"POST /login HTTP/1.1\r\nHost: localhost\r\n",
        "a slow body": b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n",
    }
    slow_connections = []
    times: list[float] = []
    for head in heads.values():
        for _ in range(100):
            connection = socket.create_connection(("127.0.0.1", server.port))
            connection.sendall(head)
            slow_connections.append(connection)
    try:
        for _ in range(5):
            for connection in slow_connections:
                connection.sendall(b"a")
            person = Person(server.port)
            started = time.perf_counter()
            person.ask("/register")
            assert person.register(f"{len(times)}.{EMAIL}") == 303
            times.append((time.perf_counter() - started) * 1000)
    finally:
        for connection in slow_connections:
            connection.close()
    print_figure(f"beside 200 slow clients a registration took at most {max(times):.0f} ms")
    assert max(times) < 15_000  # A head has 30 s.
