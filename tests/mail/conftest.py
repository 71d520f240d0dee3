"""SMTP servers, and senders that use them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from hello_login.db.connections import ConnectionPool
from hello_login.mail.sender import Sender
from hello_login.settings import Settings
from tests.mail.smtp import SmtpServer

MakeSmtp = Callable[..., SmtpServer]
MakeSender = Callable[..., Sender]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Return the authority of the SMTP servers' certificates."""
    return trustme.CA()


@pytest.fixture(autouse=True)
def certificates(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let clients trust the authority, and return the file with its certificate."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


@pytest.fixture
def make_smtp(authority: trustme.CA) -> Iterator[MakeSmtp]:
    """Yield a function that starts SMTP servers."""
    servers = []

    def start(**options: Any) -> SmtpServer:
        servers.append(SmtpServer(authority, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def smtp(make_smtp: MakeSmtp) -> SmtpServer:
    """Return an SMTP server with STARTTLS."""
    return make_smtp()


@pytest.fixture
def url(emptied_url: str) -> str:
    """Return the URL of an empty database."""
    return emptied_url


@pytest.fixture
def make_sender(url: str) -> Iterator[MakeSender]:
    """Yield a function that makes a sender for a MAIL_URL, with connections of its own."""

    pools: list[ConnectionPool] = []

    def make(mail_url: str) -> Sender:
        pools.append(ConnectionPool(url))
        settings = Settings(
            secret_key="k" * 32,
            mail_url=mail_url,
            mail_from="Hello Login <login@example.org>",
            site_url="https://login.example.org",
            site_name="Ada's Notes",
        )
        return Sender(pools[-1], settings)

    yield make
    for pool in pools:
        for connection in pool._idle:
            connection.close()


@pytest.fixture
def sender(make_sender: MakeSender, smtp: SmtpServer) -> Sender:
    """Return a sender for smtp."""
    return make_sender(smtp.url)
