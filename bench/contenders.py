"""The servers to compare, all with the same number of processes, and of threads if they use any."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).parent
ROOT = HERE.parent
BIN = Path(sys.executable).parent
PATIENCE = 60.0  # seconds

PROCESSES, THREADS = 2, 4


@dataclass(frozen=True)
class Contender:
    """A server to start.

    In its command, {port} is the port to listen on, and {scratch} the folder of write_bare_ini().
    """

    name: str
    command: tuple[str, ...]
    folder: Path = ROOT
    environ: tuple[tuple[str, str], ...] = ()
    greets_only: bool = False
    """Whether it has neither accounts nor pages."""


GUNICORN = (
    "gunicorn",
    "-w",
    str(PROCESSES),
    "-b",
    "127.0.0.1:{port}",
    "--log-level",
    "error",
    "--no-control-socket",
)
GTHREAD = (*GUNICORN, "-k", "gthread", "--threads", str(THREADS))
WHERE = ("http_port={port}", "http_host=127.0.0.1")
PSERVE = ("pserve", "production.ini", *WHERE)
RUNNER = str(HERE / "waitress_processes.py")
WAITRESS = (sys.executable, RUNNER, "{port}", str(THREADS), str(PROCESSES))
UVICORN = ("uvicorn", "--workers", str(PROCESSES), "--port", "{port}", "--no-access-log")

HELLO_LOGIN = Contender("hello_login", PSERVE, environ=(("WEB_CONCURRENCY", str(PROCESSES)),))
ONE_PROCESS = Contender("hello_login, 1 process", PSERVE, environ=(("WEB_CONCURRENCY", "1"),))
FLASK = Contender("Flask, gunicorn gthread", (*GTHREAD, "flask_app:app"), HERE / "peers")
FLASK_SYNC = Contender("Flask, gunicorn sync", (*GUNICORN, "flask_app:app"), HERE / "peers")
DJANGO = Contender("Django, gunicorn gthread", (*GTHREAD, "django_app:application"), HERE / "peers")
PYRAMID = Contender(
    "Pyramid with SQLAlchemy, waitress",
    (*WAITRESS, "pyramid_app:app"),
    HERE / "peers",
)
FASTAPI = Contender(
    "FastAPI, uvicorn",
    (
        *UVICORN,
        "--log-level",
        "error",
        "--loop",
        "uvloop",
        "--http",
        "httptools",
        "fastapi_app:app",
    ),
    HERE / "peers",
)
BARE = Contender(
    "bare function, waitress",
    (*WAITRESS, "bare:greet"),
    HERE,
    greets_only=True,
)
BARE_SAME_SERVER = Contender(
    "bare function, our server",
    ("pserve", "{scratch}/bare.ini", *WHERE),
    environ=HELLO_LOGIN.environ,
    greets_only=True,
)
WSGI_PEERS = (FLASK, FLASK_SYNC, DJANGO, PYRAMID)
CONTENDERS = (HELLO_LOGIN, *WSGI_PEERS, FASTAPI, BARE_SAME_SERVER, BARE)


def free_port() -> int:
    """Return a port that no process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return int(unused.getsockname()[1])


class Server:
    """A running contender."""

    def __init__(self, contender: Contender, url: str, scratch: Path) -> None:
        """Start the contender on a database, and wait for its first response.

        scratch: a folder for its log.
        """
        self.port = free_port()
        environ = {
            **os.environ,
            "DATABASE_URL": url,
            "SECRET_KEY": "k" * 32,
            "TRUSTED_PROXY": "127.0.0.1",
            "PYTHONPATH": str(ROOT),
        }
        environ.update(contender.environ)
        program, *arguments = (
            each.format(port=self.port, scratch=scratch) for each in contender.command
        )
        self._log = scratch / f"{contender.name}.log"
        started = time.perf_counter()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [BIN / program, *arguments],
                cwd=contender.folder,
                env=environ,
                stdout=log,
                stderr=log,
            )
        while not self._answers():
            if self._process.poll() is not None or time.perf_counter() - started > PATIENCE:
                raise SystemExit(f"{contender.name} did not start:\n{self._log.read_text()}")
            time.sleep(0.005)
        self.cold_start = time.perf_counter() - started
        """Seconds until the first response."""

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _processes(self) -> list[psutil.Process]:
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Return the processor time that all its processes have used so far."""
        return sum(sum(each.cpu_times()[:2]) for each in self._processes())

    def memory(self) -> tuple[float, float]:
        """Return MiB: the mean RSS of a serving process, and the PSS of all processes together."""
        processes = self._processes()
        serving = [
            each
            for each in processes
            if not each.children() and "resource_tracker" not in " ".join(each.cmdline())
        ]
        resident = sum(each.memory_info().rss for each in serving) / len(serving)
        whole = sum(each.memory_full_info().pss for each in processes)
        return resident / 2**20, whole / 2**20

    def stop(self) -> None:
        """Stop all its processes."""
        processes = self._processes()
        self._process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(processes, timeout=5)
        for each in alive:
            each.kill()
        self._process.wait()


def write_bare_ini(scratch: Path) -> None:
    """Write production.ini with a bare function in place of the application."""
    text = (ROOT / "production.ini").read_text().replace("%(here)s", str(ROOT))
    (scratch / "bare.ini").write_text(
        text.replace("use = egg:hello_login\nhello", "use = call:bench.bare:make\nhello")
    )


def machine() -> Mapping[str, str]:
    """Return a description of this machine."""
    names = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "processor": names[0].partition(": ")[2] if names else "unknown",
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": os.uname().release,
        "python": sys.version.split()[0],
    }
