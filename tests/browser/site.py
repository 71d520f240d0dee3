"""A real site, and pages of a real browser whose messages and requests are checked."""

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

REFUSED_PAGE = re.compile(
    r"Failed to load resource: the server responded with a status of [45]\d\d "
)
"""Chromium's message for a page with status 4xx or 5xx, which is expected."""

LEFT = ("net::ERR_ABORTED", "NS_BINDING_ABORTED")
"""A request's failure, in Chromium and in Firefox, if its page was left before the response."""


class Site:
    """A server with plain http and cheap password hashes; if it sends mail, to files."""

    def __init__(self, folder: Path, *, host: str = "localhost", **options: Any) -> None:
        """Start the server.

        host: its host; at an IP address it offers no passkeys.  options: the options of Server.
        """
        self.database = Database(folder)
        quick = {name: QUICK[name] for name in QUICK if name != "secure_cookies" or not options}
        self._server = Server(folder, self.database.url, **quick, **options)
        self._server.environment["MAIL_URL"] = f"file:{folder}/mail" if options else "none"
        self.port = self._server.port
        self.url = self._server.environment["SITE_URL"] = f"http://{host}:{self.port}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop()
        self.database.stop()


@contextlib.contextmanager
def launch(playwright: Any) -> Iterator[Any]:
    """Start Debian's Chromium; without its sandbox as root, where the sandbox does not work."""
    browser = playwright.chromium.launch(
        executable_path=CHROMIUM, chromium_sandbox=os.geteuid() != 0, args=FLAGS
    )
    yield browser
    browser.close()


@contextlib.contextmanager
def open_page(browser: Any, site: Site, **options: Any) -> Iterator[Any]:
    """Open a page with empty cookies, and fail at the end if any error occurred on it.

    options: options of Playwright's new_context.
    """
    context = browser.new_context(base_url=site.url, **options)
    errors: list[str] = []

    def check_message(message: Any) -> None:
        if message.type == "error" and not REFUSED_PAGE.match(message.text):
            errors.append(message.text)

    def check_request(request: Any) -> None:
        if not request.url.startswith(f"{site.url}/"):
            errors.append(f"request to another origin: {request.url}")

    def check_response(response: Any) -> None:
        if "/static/" in response.url and response.status >= 400:
            errors.append(f"status {response.status}: {response.url}")

    def check_failure(request: Any) -> None:
        if request.failure not in LEFT:
            errors.append(f"failed: {request.url} {request.failure}")

    context.on("console", check_message)
    context.on("weberror", lambda error: errors.append(str(error.error)))
    context.on("request", check_request)
    context.on("response", check_response)
    context.on("requestfailed", check_failure)
    context.add_init_script(
        "addEventListener('securitypolicyviolation', event => console.error('CSP', event))"
    )
    yield context.new_page()
    context.close()
    assert errors == [], errors
