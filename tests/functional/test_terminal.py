"""People start and stop make serve in a terminal."""

import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.functional.commands import BIN, GREETING, database_runs, eventually, get

pytestmark = pytest.mark.slow

MAKE_SERVE = 'make -f "$1" -o .venv/installed serve'
BY_ITSELF = f"exec {MAKE_SERVE}"
"""As `ssh -t HOST make serve` and `xterm -e make serve` start it."""

IN_A_SHELL = f"{MAKE_SERVE} > server.log 2>&1; true"


class Terminal:
    """A terminal in which make serve is started."""

    def __init__(self, folder: Path, command: str = BY_ITSELF, **variables: str) -> None:
        self._master, self._slave = (os.fdopen(end, "r+b", buffering=0) for end in os.openpty())
        script = f'exec < "$0" > "$0" 2>&1; {command}'
        self.process = subprocess.Popen(
            # A session's first process gets the first terminal that it opens as its own.
            ["sh", "-c", script, os.ttyname(self._slave.fileno()), ROOT / "Makefile"],
            cwd=folder,
            env={**os.environ, **variables},
            start_new_session=True,
        )
        self.printed = ""
        self._closing = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            if select.select([self._master], [], [], 0.05)[0]:
                self.printed += self._master.read(4096).decode().replace("\r\n", "\n")
            elif self._closing:
                break

    def press(self, key: str) -> None:
        self._master.write(key.encode())

    def press_ctrl_c(self) -> list[str]:
        """Press Ctrl-C, wait for the end, and return the lines printed since, without log lines."""
        before = len(self.printed)
        self.press("\x03")
        self.wait()
        lines = self.printed[before:].replace("^C", "").splitlines()
        return [line for line in lines if line and not line.startswith("INFO ")]

    def wait(self) -> int:
        """Wait until the command has ended, and return its exit code."""
        code = self.process.wait(timeout=120)
        self._closing = True
        self._reader.join()
        return code

    def close(self) -> None:
        """Close the terminal's window."""
        self._closing = True
        self._reader.join()
        self._master.close()
        self._slave.close()

    def has_ended(self, last: signal.Signals | None = None) -> bool:
        """Send a last signal, if given, and return whether all processes here had ended before."""
        self.process.poll()
        try:
            os.killpg(self.process.pid, last or 0)
        except ProcessLookupError:
            return True
        return False


MakeServe = Callable[..., Terminal]


@pytest.fixture
def make_serve(checkout: Path, port: int) -> Iterator[MakeServe]:
    """Return a function that opens a terminal with make serve; the test's end closes it."""
    (checkout / ".venv").mkdir()
    (checkout / ".venv/bin").symlink_to(BIN)
    opened = []

    def open_terminal(command: str = BY_ITSELF, **variables: str) -> Terminal:
        opened.append(Terminal(checkout, command, PORT=str(port), **variables))
        return opened[-1]

    yield open_terminal
    for terminal in opened:
        terminal.close()
        terminal.has_ended(signal.SIGKILL)
        terminal.process.wait()


def include_module(checkout: Path, code: str) -> dict[str, str]:
    """Let the application include a module `edited`; return the environment that it needs."""
    ini = (checkout / "development.ini").read_text()
    (checkout / "development.ini").unlink()
    edited = ini.replace("\n[server:main]", "pyramid.includes = edited\n\n[server:main]")
    (checkout / "development.ini").write_text(edited)
    (checkout / "edited.py").write_text(code)
    return {"PYTHONPATH": str(checkout)}


POLL_ALL_THE_TIME = """
from hello_login.mail import sender
sender.POLL_SECONDS = 0.001
def includeme(config): pass
"""


def test_ctrl_c_stops_make_serve_with_one_line_while_a_browser_is_connected(
    make_serve: MakeServe, checkout: Path, port: int
) -> None:
    # The thread that sends mails meets the end of the database for certain.
    terminal = make_serve(**include_module(checkout, POLL_ALL_THE_TIME))
    assert get(port) == GREETING
    with socket.create_connection(("127.0.0.1", port)):
        assert terminal.press_ctrl_c() == ["Received SIGINT, waiting for server to exit ..."]
    assert terminal.process.returncode in (0, 130, -signal.SIGINT)
    assert eventually(lambda: not database_runs(checkout))


def test_ctrl_c_stops_make_serve_with_one_line_while_the_database_is_created(
    make_serve: MakeServe, checkout: Path, port: int
) -> None:
    terminal = make_serve()
    assert eventually((checkout / ".postgres/cluster.unfinished").exists)
    assert terminal.press_ctrl_c() == ["Received SIGINT, waiting for server to exit ..."]
    assert terminal.process.returncode in (0, 130, -signal.SIGINT)
    make_serve()
    assert get(port) == GREETING


@pytest.mark.parametrize("command", [BY_ITSELF, IN_A_SHELL], ids=["by itself", "in a shell"])
def test_closing_the_terminal_stops_the_server_and_its_database(
    make_serve: MakeServe, checkout: Path, port: int, command: str
) -> None:
    terminal = make_serve(command)
    assert get(port) == GREETING
    terminal.close()
    assert eventually(terminal.has_ended)
    assert eventually(lambda: not database_runs(checkout))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def break_a_setting(checkout: Path) -> str:
    ini = (checkout / "development.ini").read_text()
    (checkout / "development.ini").unlink()
    wrong = ini.replace("secure_cookies = false", "secure_cookies = no")
    (checkout / "development.ini").write_text(wrong)
    return "hello_login.secure_cookies is 'no': set it to true or false."


def break_the_database(checkout: Path) -> str:
    (checkout / ".postgres").write_text("no folder")
    return f"Can't use {checkout}/.postgres for PostgreSQL"


@pytest.mark.parametrize("do_break", [break_a_setting, break_the_database])
def test_make_serve_prints_once_why_it_cannot_start_and_exits(
    make_serve: MakeServe, checkout: Path, do_break: Callable[[Path], str]
) -> None:
    reason = do_break(checkout)
    terminal = make_serve()
    assert terminal.wait() == 2
    assert terminal.printed.count(reason) == 1
    assert "Traceback" not in terminal.printed
    assert "Press ENTER" not in terminal.printed


def test_make_serve_waits_for_the_fix_of_a_syntax_error(
    make_serve: MakeServe, checkout: Path, port: int
) -> None:
    terminal = make_serve(**include_module(checkout, "def includeme("))
    assert eventually(lambda: "SyntaxError" in terminal.printed), terminal.printed
    assert eventually(lambda: "Press ENTER" in terminal.printed)
    (checkout / "edited.py").write_text("def includeme(config): pass\n")
    terminal.press("\n")
    assert get(port) == GREETING
