"""A limit that several processes share."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from hello_login import settings
from hello_login.auth import shared_limit
from hello_login.auth.passwords import Passwords
from hello_login.auth.shared_limit import SharedLimit
from tests.conftest import MakeIni


@pytest.fixture
def fork() -> Iterator[Callable[[SharedLimit], int]]:
    """Yield a function that forks a process that holds the limit until it is killed."""
    children = []

    def fork_holder(limit: SharedLimit) -> int:
        reading_end, writing_end = os.pipe()

        def hold() -> None:
            with limit.held():
                os.write(writing_end, b"held")
                signal.pause()

        children.append(start(hold))
        os.close(writing_end)
        assert os.read(reading_end, 4) == b"held"
        os.close(reading_end)
        return children[-1]

    yield fork_holder
    for child in children:
        kill(child)


def start(act: Callable[[], object]) -> int:
    """Fork a process that calls act, and return its id.  It ends after 10 minutes at the latest."""
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(600)
            act()
        finally:  # The child must not go on with the tests.
            os._exit(1)
    return child


def kill(child: int) -> None:
    """Kill a process, unless it has been waited for."""
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def test_no_more_threads_than_the_limit_are_inside_at_once() -> None:
    limit, inside, most, lock = SharedLimit(2), 0, 0, threading.Lock()
    both = threading.Barrier(2)

    def enter(_: int) -> None:
        nonlocal inside, most
        with limit.held():
            with lock:
                inside += 1
                most = max(most, inside)
            both.wait(60)  # fails unless two threads are inside at once
            with lock:
                inside -= 1

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(enter, range(20)))
    assert most == 2


def test_a_process_waits_while_others_use_up_the_limit(fork: Callable[[SharedLimit], int]) -> None:
    limit, entered = SharedLimit(2), threading.Event()
    fork(limit)

    def enter() -> None:
        with limit.held():
            entered.set()

    with limit.held():
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(60)
    thread.join()


def test_a_killed_process_frees_its_share_of_the_limit(fork: Callable[[SharedLimit], int]) -> None:
    limit = SharedLimit(1)
    kill(fork(limit))
    with limit.held():
        pass


def test_others_go_on_while_a_stopped_process_holds_the_limit(
    fork: Callable[[SharedLimit], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_limit, "PATIENCE_SECONDS", 0.1)
    limit = SharedLimit(1)
    stopped = fork(limit)
    os.kill(stopped, signal.SIGSTOP)
    with limit.held():
        pass
    monkeypatch.setattr(shared_limit, "PATIENCE_SECONDS", 600)
    with limit.held():  # without another wait
        pass
    kill(stopped)
    with limit.held():
        pass
    another = fork(limit)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(limit.held().__enter__)
        assert not wait([waiting], 0.2).done
        kill(another)


def test_an_error_inside_frees_the_limit() -> None:
    limit = SharedLimit(1)
    with pytest.raises(KeyError), limit.held():
        raise KeyError
    with limit.held():
        pass


def test_processes_hash_no_more_passwords_at_once_than_hash_workers(ini: MakeIni) -> None:
    costs = {"argon2_memory_kib": "65536", "argon2_passes": "3"}
    passwords = Passwords(settings.load({}, ini(processes="2", hash_workers="1", **costs), {}))

    def hash_for_ever() -> None:
        while True:
            passwords.hash("correct horse battery")

    hashing = start(hash_for_ever)

    def is_kept_waiting(pause: float) -> bool:
        time.sleep(pause)
        os.kill(hashing, signal.SIGSTOP)
        done = wait([threads.submit(passwords.hash, "correct horse battery")], 2).done
        os.kill(hashing, signal.SIGCONT)
        return not done

    with ThreadPoolExecutor() as threads:
        try:
            # Once it has begun, it is hardly ever stopped between two hashes.
            assert any(is_kept_waiting(seconds) for seconds in (0.1, 0.3, 1, 3, 10))
        finally:
            kill(hashing)
