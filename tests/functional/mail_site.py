"""A site that sends mail to a folder, and the mails in people's mailboxes."""

import email
import re
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import psycopg2
import webtest

import hello_login
from tests.conftest import MakeIni
from tests.people import EMAIL, PASSWORD, csrf_token
from tests.rows import empty_tables, execute

MAIL_FROM = "Hello Login <login@example.org>"
WAITING_FOR_LOCKS = """
    SELECT count(*)
      FROM pg_stat_activity
     WHERE datname = current_database()
       AND wait_event_type = 'Lock'
"""


class MailSite:
    """An application with mail, on a database of its own."""

    def __init__(self, ini: MakeIni, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self._database = psycopg2.connect(url)
        self._database.autocommit = True
        settings = {"mail_url": f"file:{folder}", "mail_from": MAIL_FROM}
        self.app: Any = hello_login.main(
            {}, **ini(database_url=url, site_url="http://localhost", **settings)
        )

    def empty(self) -> None:
        """Delete all accounts and mails."""
        empty_tables(self.url)
        for left in self.folder.glob("*"):
            left.unlink()

    def open_browser(self, **environ: str) -> webtest.TestApp:
        """Return a browser without cookies."""
        headers = {"HTTP_HOST": "localhost", "HTTP_ACCEPT": "text/html"}
        environ = {**headers, "REMOTE_ADDR": "192.0.2.1", **environ}
        return webtest.TestApp(self.app, extra_environ=environ)

    def deliver(self) -> list[EmailMessage]:
        """Send the mails that are due, and return them, the first sent first."""
        self.app.registry.mail_sender.send_due()
        messages: list[EmailMessage] = []
        for file in sorted(self.folder.glob("*.eml")):
            messages.append(email.message_from_bytes(file.read_bytes(), policy=default))
            file.unlink()
        return messages

    def deliver_link(self, recipient: str = EMAIL) -> str:
        """Send the mails that are due, and return the path of the only link to this recipient."""
        (path,) = [
            link_of(each)
            for each in self.deliver()
            if each["To"] == recipient and "/link/" in text_of(each)
        ]
        return path

    def ask(self, page: str, address: str = EMAIL, *, status: int = 200) -> Any:
        """Ask for a mail at /register or /forgot in a new browser, and return the page."""
        return ask_in(self.open_browser(), page, address, status=status)

    def register(self, browser: webtest.TestApp, address: str = EMAIL) -> None:
        """Register by a link, and log in; no mail waits afterwards."""
        ask_in(browser, "/register", address)
        use(browser, self.deliver_link(address), name="Ada", password=PASSWORD)

    def execute(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Execute a statement, commit, and return its rows."""
        return execute(self._database, statement, *parameters)

    def dump(self) -> str:
        """Return every row of every table as text."""
        tables = self.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        )
        names = sorted(name for (name,) in tables if "yoyo" not in name)
        rows = {name: self.execute(f"SELECT t::text FROM {name} AS t") for name in names}  # noqa: S608
        return str(rows)

    def run_at_once(self, *requests: Callable[[], Any]) -> list[Any]:
        """Let the requests wait for the accounts' rows, the first one first; return the answers."""
        with closing(psycopg2.connect(self.url)) as holder, ThreadPoolExecutor() as threads:
            with holder.cursor() as cursor:
                cursor.execute("SELECT FROM users FOR UPDATE")
            running: list[Future[Any]] = []
            for request in requests:
                running.append(threads.submit(request))
                while self.execute(WAITING_FOR_LOCKS) != [(len(running),)]:
                    assert not running[-1].done(), running[-1].result()
                    time.sleep(0.01)
            holder.commit()
            return [each.result(60) for each in running]


def text_of(message: EmailMessage) -> str:
    """Return the text with the line ends of Python."""
    return str(message.get_content()).replace("\r\n", "\n")


def link_of(message: EmailMessage) -> str:
    """Return the path of the only link in the message."""
    (path,) = re.findall(r"http://localhost(/link/\S+)", text_of(message))
    return str(path)


def ask_in(browser: webtest.TestApp, page: str, address: str = EMAIL, *, status: int = 200) -> Any:
    """Ask for a mail at /register or /forgot, and return the page."""
    form = last_form(browser.get(page))
    form["email"] = address
    return form.submit(status=status)


def use(
    browser: webtest.TestApp, path: str, *, status: int | None = 303, **typed: str
) -> webtest.TestResponse:
    """Open a link, fill in the form and send it; a password is typed twice.

    status: None for any.
    """
    return fill_in(browser, path, **typed).submit(status=status or "*")


def fill_in(browser: webtest.TestApp, path: str, **typed: str) -> Any:
    """Open a link, fill in the form, and return it."""
    form = last_form(browser.get(path))
    if "password" in typed:
        typed["confirm"] = typed["password"]
    for name, value in typed.items():
        form[name] = value
    return form


def last_form(page: Any) -> Any:
    """Return the last form on the page; the first may be that of the logout."""
    return page.forms[max(key for key in page.forms if isinstance(key, int))]


def change_address(browser: webtest.TestApp, address: str) -> webtest.TestResponse:
    """Ask for another address on the profile's page."""
    return use(browser, "/account/profile", email=address)


def ask_to_confirm(browser: webtest.TestApp) -> webtest.TestResponse:
    """Press the button on the account page that asks for a mail to the address."""
    return browser.post("/account/confirm-address", {"csrf_token": csrf_token(browser)}, status=303)
