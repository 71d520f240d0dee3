"""Fixtures: a checkout, commands that run in it, and people who log in in two steps."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import webtest

from hello_login.db import transactions
from hello_login.dev.embedded import EmbeddedPostgres
from tests.conftest import ROOT, MakeIni
from tests.functional.authenticator import Clock, Person
from tests.functional.commands import BIN, database_runs
from tests.functional.mail_site import MailSite
from tests.functional.servers import free_port

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def checkout(folder: Path) -> Iterator[Path]:
    """Return a folder with what pserve and initialize_db need; its path has a blank."""
    for name in ("development.ini", "production.ini", "sql"):
        (folder / name).symlink_to(ROOT / name)
    yield folder
    if database_runs(folder):  # Its files can't be removed while it writes some.
        database = EmbeddedPostgres(folder / ".postgres")
        database.start()
        database.stop()


@pytest.fixture
def port() -> int:
    """Return an unused port."""
    return free_port()


@pytest.fixture
def start(checkout: Path) -> Iterator[Start]:
    """Return a function that starts a command in the checkout, in a process group of its own."""
    started = []

    def run(*command: str, **environ: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [BIN / command[0], *command[1:]],
            cwd=checkout,
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stop the clock."""
    return Clock(monkeypatch)


@pytest.fixture
def ada(browser: webtest.TestApp) -> Person:
    return Person(browser)


@pytest.fixture
def site(url: str, ini: MakeIni, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MailSite:
    """Return a site with mail; on a loaded machine, a race may wait for long."""
    monkeypatch.setattr(transactions, "LOCK_TIMEOUT_SECONDS", 30)
    monkeypatch.setattr(transactions, "STATEMENT_TIMEOUT_SECONDS", 60)
    return MailSite(ini, url, tmp_path / "mail")


@pytest.fixture
def owner(site: MailSite) -> webtest.TestApp:
    """Return a browser in which Ada has registered by a link and is logged in."""
    browser = site.open_browser()
    site.register(browser)
    return browser
