"""Several processes that serve one port."""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest
from waitress.adjustments import Adjustments

from hello_login.server import processes
from hello_login.server.serving import SIGNALS, Server


@pytest.fixture
def listeners() -> Iterator[list[socket.socket]]:
    """Return two sockets that listen on one port and have no server yet."""
    first = socket.create_server(("127.0.0.1", 0), reuse_port=True)
    second = socket.create_server(first.getsockname(), reuse_port=True)
    with first, second:
        yield [first, second]


@pytest.fixture(autouse=True)
def _restored_signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the signal handlers afterwards, and replace dead processes without a pause."""
    monkeypatch.setattr(processes, "RESTART_SECONDS", 0)
    handlers = {each: signal.getsignal(each) for each in (*SIGNALS, signal.SIGCHLD)}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def make_server(listener: socket.socket) -> Server:
    """Return a server whose application answers nothing."""
    adjustments = Adjustments(threads=1, asyncore_use_poll=True, ident="")
    return Server(lambda *_: [], listener, adjustments)


def fail() -> NoReturn:
    raise RuntimeError("no server today")


def kill() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.parametrize(("die", "code"), [(fail, 1), (kill, -9)])
def test_a_process_that_dies_is_replaced_until_a_signal_stops_all(
    listeners: list[socket.socket],
    caplog: pytest.LogCaptureFixture,
    die: Callable[[], NoReturn],
    code: int,
) -> None:
    parent = os.getpid()
    reading, writing = os.pipe()
    os.write(writing, b"dddse")

    def make_or_die(listener: socket.socket) -> Server:
        """Let three children die, let one serve, and let one stop the parent."""
        task = os.read(reading, 1)
        if task == b"d":
            die()
        if task == b"e":
            os.kill(parent, signal.SIGTERM)
        return make_server(listener)

    processes.run(listeners, make_or_die, url="http://localhost", graceful_timeout=1)
    lines = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert len(lines) == 3
    assert all(each.endswith(f"ended with exit code {code}: starting another") for each in lines)
    assert [each.fileno() for each in listeners] == [-1, -1]
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("number", [1, 2])
def test_a_signal_stops_the_server_as_soon_as_its_log_says_that_it_serves(
    listeners: list[socket.socket], caplog: pytest.LogCaptureFixture, number: int
) -> None:
    class Reader(logging.Handler):
        """Sends a SIGTERM when it reads that the server serves."""

        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("Serving "):
                os.kill(os.getpid(), signal.SIGTERM)

    # Without the server's handler, this fails, and ends no process.
    signal.signal(signal.SIGTERM, lambda *_: pytest.fail("the server does not handle it"))
    caplog.set_level("INFO")
    reader = Reader()
    processes.log.addHandler(reader)
    try:
        processes.run(listeners[:number], make_server, url="http://localhost", graceful_timeout=1)
    finally:
        processes.log.removeHandler(reader)
    assert [each.fileno() for each in listeners[:number]] == [-1] * number


def test_a_second_signal_kills_all_processes(
    listeners: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = os.getpid()
    really_exit = os._exit

    def exit_process(status: int) -> None:
        if os.getpid() != parent:
            really_exit(status)
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", exit_process)
    really_fork, started = os.fork, []

    def fork() -> int:
        started.append(really_fork())
        return started[-1]

    monkeypatch.setattr(os, "fork", fork)

    def signal_parent(_: socket.socket) -> NoReturn:
        """Send the parent signals, until two have arrived: pending signals of a kind are merged."""
        while True:
            os.kill(parent, signal.SIGTERM)
            time.sleep(0.01)

    with pytest.raises(SystemExit) as caught:
        processes.run(listeners, signal_parent, url="http://localhost", graceful_timeout=1)
    assert caught.value.code == 128 + signal.SIGTERM
    # A child that is not dead yet may send another signal.
    assert [os.WTERMSIG(os.waitpid(child, 0)[1]) for child in started] == [signal.SIGKILL] * 2
