"""A site in this process, and the requests and responses of its clients."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from waitress.adjustments import Adjustments

from hello_login.server.serving import Server
from hello_login.web.tweens import SERVER_ERROR_KEY

PAGE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
FORM = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"


class Site:
    """A small application on a real server; a POST lasts until the test lets it end."""

    def __init__(self, *, registry: Any = None, **options: Any) -> None:
        self.registry = registry
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.form_began = threading.Semaphore(0)
        self.form_may_end = threading.Event()
        adjustments = Adjustments(
            threads=1, asyncore_use_poll=True, ident="", cleanup_interval=1, **options
        )
        self.server = Server(self, self.listener, adjustments)

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            self.form_began.release()
            self.form_may_end.wait(60)
        error = environ.get(SERVER_ERROR_KEY)
        status, headers = "200 OK", {}
        if error is not None:
            status, headers = error.status, {"Retry-After": error.headers["Retry-After"]}
        start_response(status, [("Content-Length", "2"), *headers.items()])
        return [b"ok"]

    def has_closed_its_port(self) -> bool:
        """Return whether the server is stopping, and accepts no connection any more."""
        return self.listener.fileno() == -1

    def connect(self, data: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(data)
        return connection


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait until the condition is true; fail after the timeout."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def receive(connection: socket.socket, *, until_closed: bool = False) -> bytes:
    """Return one response, or everything until the server closes the connection."""
    received = b""
    while until_closed or not received.endswith(b"\r\n\r\nok"):
        chunk = connection.recv(4096)
        if not chunk:
            break
        received += chunk
    return received


def send_sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
