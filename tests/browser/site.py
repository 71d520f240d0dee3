"""A real site, and a real Chromium of which every message and every request is looked at."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.functional.servers import QUICK, Database, Server

CHROMIUM = shutil.which("chromium")
FLAGS = ["--disable-quic", "--disable-background-networking", "--disable-sync"]

REFUSED = re.compile(r"Failed to load resource: the server responded with a status of [45]\d\d ")
"""How Chromium notes each form and page that is refused, as it should be; files never are."""


class Site:
    """A server with production's settings, but for http and the cost of hashing."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(folder)
        self._server = Server(folder, self.database.url, **QUICK)
        self.port = self._server.port
        self.url = f"http://localhost:{self.port}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop()
        self.database.stop()


@contextlib.contextmanager
def launch(playwright: Any) -> Iterator[Any]:
    """Chromium, as Debian builds it; its sandbox does not work for root."""
    browser = playwright.chromium.launch(
        executable_path=CHROMIUM, chromium_sandbox=os.geteuid() != 0, args=FLAGS
    )
    yield browser
    browser.close()


@contextlib.contextmanager
def open_page(browser: Any, site: Site, **options: Any) -> Iterator[Any]:
    """A page of a person who was never here before; nothing that it does may be an error.

    options: of Playwright's new_context.
    """
    context = browser.new_context(base_url=site.url, **options)
    wrong: list[str] = []

    def note_message(message: Any) -> None:
        is_file = "/static/" in message.location["url"]
        if message.type == "error" and (is_file or not REFUSED.match(message.text)):
            wrong.append(message.text)

    def note_request(request: Any) -> None:
        if not request.url.startswith(f"{site.url}/"):
            wrong.append(f"asked another origin: {request.url}")

    def note_failure(request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # the person went on before it came
            wrong.append(f"failed: {request.url} {request.failure}")

    context.on("console", note_message)
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    context.on("request", note_request)
    context.on("requestfailed", note_failure)
    context.add_init_script(
        "addEventListener('securitypolicyviolation', event => console.error('CSP', event))"
    )
    yield context.new_page()
    context.close()
    assert wrong == [], wrong
