"""The pages in a real Chromium, on a real server."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hello_login import migrations
from tests.conftest import ROOT, NewDatabase
from tests.people import EMAIL, PASSWORD

playwright = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed: make browser", exc_type=ImportError
)
CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.process,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: make browser"),
]


@pytest.fixture(scope="module")
def site(new_database: NewDatabase) -> Iterator[str]:
    """The URL of the development server, on a database of its own."""
    url = new_database()
    list(migrations.migrate(url, ROOT / "sql"))
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    command = [str(Path(sys.executable).parent / "pserve"), "development.ini", f"http_port={port}"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stderr is not None
        for line in server.stderr:
            if "Serving" in line:
                break
        yield f"http://localhost:{port}"
        server.terminate()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser."""
    with playwright.sync_playwright() as started:
        options = ["--disable-quic", "--disable-background-networking", "--disable-sync"]
        browser = started.chromium.launch(
            executable_path=CHROMIUM, chromium_sandbox=os.geteuid() != 0, args=options
        )
        yield browser
        browser.close()


@pytest.fixture(params=[True, False], ids=["with JavaScript", "without JavaScript"])
def page(chromium: Any, site: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page of a person who was never here before; nothing it does may be an error."""
    context = chromium.new_context(base_url=site, java_script_enabled=request.param)
    page = context.new_page()
    wrong: list[str] = []

    def note_error(message: Any) -> None:
        if message.type == "error" and "status of 422" not in message.text:
            wrong.append(message.text)

    def note_stranger(sent: Any) -> None:
        if not sent.url.startswith(f"{site}/"):
            wrong.append(sent.url)

    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", note_error)
    page.on("request", note_stranger)
    yield page
    context.close()
    assert wrong == []


def test_a_person_registers_is_greeted_logs_out_and_logs_in_again(page: Any) -> None:
    email = f"{secrets.token_hex(4)}.{EMAIL}"
    expect = playwright.expect
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text(
        "Hello World, Little Dude, How Are You?"
    )
    page.get_by_role("navigation").get_by_role("link", name="Register").click()
    page.get_by_label("Name").fill("Ada Lovelace")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password", exact=True).fill("too short")
    page.get_by_label("Password, once more").fill("too short")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_text("This is too short")).to_be_visible()

    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password, once more").fill(PASSWORD)
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your account")
    page.get_by_role("link", name="Hello Login").click()
    expect(page.get_by_text("Good to see you, Ada Lovelace")).to_be_visible()

    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_text("Ada Lovelace")).to_have_count(0)
    page.goto("/account")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Stay logged in").check()
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url("/account")
    expect(page.get_by_role("definition").first).to_have_text("Ada Lovelace")


def test_the_stylesheet_is_applied(page: Any) -> None:
    page.goto("/login")
    with page.expect_response("**/style.css") as caught:
        page.reload()
    assert caught.value.ok
    assert page.get_by_label("Password").bounding_box()["width"] > 200
