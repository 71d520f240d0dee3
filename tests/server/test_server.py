"""The server binds its port before anything else, and serves with waitress."""

import errno
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import values

from hello_login import server
from hello_login.web import metrics
from hello_login.web.tweens import REQUEST_ID_KEY
from tests.conftest import ROOT, SECRET_KEY

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
UNREACHABLE = "postgresql://ada:pa55@127.0.0.1:1/app"
CONFIG = {"__file__": str(ROOT / "production.ini")}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", UNREACHABLE)
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY)


@pytest.fixture
def used_port() -> Iterator[int]:
    """Return a port where another server listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


class OneRequestSite:
    """An application on a real server, which answers one request and ends at a signal."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.response = b""
        self.request_id: str | None = None

    def app(self, environ: Any, start_response: Any) -> list[bytes]:
        self.request_id = environ.get(REQUEST_ID_KEY)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{environ['REMOTE_ADDR']} {environ['wsgi.url_scheme']}".encode()]

    def serve_until(self, stop_signal: signal.Signals, headers: str = "") -> None:
        """Serve one request with these headers, and return when the signal has ended the server."""
        client = threading.Thread(target=self._send_request, args=(stop_signal, headers))
        handlers = {each: signal.getsignal(each) for each in SIGNALS}
        serve = server.bind(
            {**CONFIG, "http_port": str(self.port)}, host="127.0.0.1", threads="1", ident=""
        )
        client.start()
        try:
            serve(self.app)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            client.join()

    def _send_request(self, stop_signal: signal.Signals, headers: str) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(f"GET / HTTP/1.0\r\n{headers}\r\n".encode())
            while part := connection.recv(4096):
                self.response += part
        os.kill(os.getpid(), stop_signal)


@pytest.fixture
def site() -> OneRequestSite:
    """Return a site on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return OneRequestSite(port)


@pytest.mark.parametrize("stop_signal", SIGNALS)
def test_the_application_is_served_until_a_signal(
    site: OneRequestSite, stop_signal: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    site.serve_until(stop_signal)
    assert site.response.startswith(b"HTTP/1.0 200 OK")
    assert b"Server:" not in site.response
    assert "Serving http://localhost:" in caplog.text


@pytest.mark.parametrize(
    ("proxy", "seen"),
    [("none", "127.0.0.1 http"), ("192.0.2.7", "127.0.0.1 http"), ("*", "192.0.2.2 https")],
)
def test_only_the_values_that_a_trusted_proxy_added_itself_are_trusted(
    site: OneRequestSite, monkeypatch: pytest.MonkeyPatch, proxy: str, seen: str
) -> None:
    monkeypatch.setenv("TRUSTED_PROXY", proxy)
    site.serve_until(
        signal.SIGTERM,
        "X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n"
        "X-Forwarded-Proto: https\r\n"
        "X-Forwarded-Port: 443\r\n",
    )
    assert site.response.endswith(seen.encode())


@pytest.mark.parametrize("forged", ["", "203.0.113.1, ", "203.0.113.1, 203.0.113.2, "])
def test_behind_two_proxies_a_forged_address_is_ignored(
    site: OneRequestSite, monkeypatch: pytest.MonkeyPatch, forged: str
) -> None:
    monkeypatch.setenv("TRUSTED_PROXY", "127.0.0.1")
    monkeypatch.setenv("TRUSTED_PROXY_COUNT", "2")
    site.serve_until(signal.SIGTERM, f"X-Forwarded-For: {forged}192.0.2.1, 198.51.100.1\r\n")
    assert site.response.endswith(b"192.0.2.1 http")


UUID = "0b7c5f2e-53a7-4c2b-9d0e-5a1f3b7c9d2e"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("headers", "request_id"),
    [
        (f"X-Request-ID: {UUID}", UUID),
        (f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01", TRACE),
        (f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\nX-Request-ID: {UUID}", UUID),
        (f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\nX-Request-ID: a b", TRACE),
        ("X-Request-ID: short", None),
        (f"X-Request-ID: {'a' * 65}", None),
        (f"X-Request-ID: {UUID}\r\nX-Request-ID: {UUID}", None),
        ('X-Request-ID: "},{"user_id":1', None),
        ("X-Request-ID: 0123456789\xe5", None),
        (f"X_Request_ID: {UUID}", None),
        (f"traceparent: 00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"traceparent: 00-{TRACE.upper()}-00f067aa0ba902b7-01", None),
    ],
)
def test_a_well_formed_id_of_a_trusted_proxy_is_the_id_of_the_request(
    site: OneRequestSite, monkeypatch: pytest.MonkeyPatch, headers: str, request_id: str | None
) -> None:
    monkeypatch.setenv("TRUSTED_PROXY", "127.0.0.1")
    site.serve_until(signal.SIGTERM, f"{headers}\r\nX-Forwarded-For: 192.0.2.1\r\n")
    assert site.response.endswith(b"192.0.2.1 http")
    assert site.request_id == request_id


@pytest.mark.parametrize("proxy", ["none", "192.0.2.7"])
def test_the_id_that_another_client_sends_is_ignored(
    site: OneRequestSite, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("TRUSTED_PROXY", proxy)
    site.serve_until(signal.SIGTERM, f"X-Request-ID: {UUID}\r\nX-Forwarded-For: {proxy}\r\n")
    assert site.response.startswith(b"HTTP/1.0 200 OK")
    assert site.request_id is None


@pytest.fixture
def two_processes(used_port: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the configuration of a server with two processes that counts; its port is in use.

    What metrics.share() changes is restored after the test.
    """
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    monkeypatch.setenv("METRICS_TOKEN", "0123456789abcdef0123456789abcdef")
    monkeypatch.setenv(metrics.FOLDER_VARIABLE, "")
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    return {**CONFIG, "http_port": str(used_port)}


def test_several_processes_count_in_a_folder_that_only_their_user_can_read(
    two_processes: dict[str, str],
) -> None:
    with pytest.raises(SystemExit, match="Can't listen"):
        server.bind(two_processes, host="127.0.0.1")
    folder = Path(os.environ[metrics.FOLDER_VARIABLE])
    assert folder.parent == Path(metrics.SHARED_MEMORY)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_several_processes_without_room_for_their_metrics_say_so_in_one_sentence(
    two_processes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "SHARED_MEMORY", "/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(SystemExit, match=r"^METRICS_TOKEN needs a folder .* \(No such file "):
        server.bind(two_processes, host="127.0.0.1")


def test_one_process_needs_no_folder_for_its_metrics(
    two_processes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "1")
    with pytest.raises(SystemExit, match="Can't listen"):
        server.bind(two_processes, host="127.0.0.1")
    assert os.environ[metrics.FOLDER_VARIABLE] == ""


def test_an_unknown_option_of_waitress_is_refused_in_one_sentence() -> None:
    with pytest.raises(SystemExit, match=r"^\[server:main\] is wrong: .*threds"):
        server.bind(CONFIG, host="127.0.0.1", threds="4")


@pytest.mark.parametrize("name", ["threads", "connection_limit"])
@pytest.mark.parametrize("value", ["0", "-1"])
def test_a_server_that_would_answer_no_request_is_refused(name: str, value: str) -> None:
    with pytest.raises(SystemExit, match=rf"is wrong: without {name}, no request is answered:"):
        server.bind(CONFIG, host="127.0.0.1", **{name: value})


def test_a_server_without_a_host_is_refused_in_one_sentence() -> None:
    with pytest.raises(SystemExit, match=r"^\[server:main\] has no host: set it to"):
        server.bind(CONFIG)


def test_a_port_in_use_is_reported_in_one_sentence(used_port: int) -> None:
    with pytest.raises(
        SystemExit, match=rf"port {used_port} \(Address already in use\): stop the program .*PORT="
    ) as caught:
        server.bind(
            {**CONFIG, "http_port": str(used_port), "http_host": "127.0.0.1"}, host="192.0.2.1"
        )
    assert "\n" not in str(caught.value)


def test_processes_share_a_port_but_not_with_another_server(
    site: OneRequestSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    config = {**CONFIG, "http_port": str(site.port)}
    first, second = server._listen("127.0.0.1", site.port, 2)
    with first, second:
        assert first.getsockname() == second.getsockname()
        with pytest.raises(SystemExit, match=f"port {site.port} "):
            server.bind(config, host="127.0.0.1")


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "host.invalid"])
def test_an_address_of_another_machine_is_refused_with_advice(host: str) -> None:
    with pytest.raises(SystemExit) as caught:
        server.bind(CONFIG, host=host)
    message = str(caught.value)
    assert message.startswith(f"Can't listen on {host}, port 5000 (")
    assert message.endswith("): choose an address of this machine with http_host=ADDRESS.")


def test_a_privileged_port_is_refused_with_an_unprivileged_one_as_advice() -> None:
    message = server._remedy(errno.EACCES, 80)
    assert message.startswith("this port needs root, so choose another")
    assert "PORT=8080 or http_port=8080" in message


def test_wrong_settings_are_reported_before_a_port_in_use(
    used_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SECRET_KEY")
    with pytest.raises(SystemExit, match=r"^SECRET_KEY is missing"):
        server.bind({**CONFIG, "http_port": str(used_port)}, host="127.0.0.1")


def test_a_database_that_does_not_exist_is_reported_in_one_sentence(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", server_url.replace("/postgres?", "/nowhere?"))
    with pytest.raises(SystemExit, match=r"^PostgreSQL refuses .*: create the database, or"):
        server.bind(CONFIG, host="127.0.0.1")
