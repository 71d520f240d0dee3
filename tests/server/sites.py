"""A server in this process, and what its clients send and receive."""

import os
import signal
import socket
import threading
from typing import Any

from waitress.adjustments import Adjustments

from hello_login.server.serving import Server
from hello_login.web.tweens import SERVER_ERROR_KEY

PAGE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
FORM = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"


class Site:
    """A server, whose forms take as long as the test wants."""

    def __init__(self, **options: Any) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()
        adjustments = Adjustments(
            threads=1, asyncore_use_poll=True, ident="", cleanup_interval=1, **options
        )
        self.server = Server(self.app, self.listener, adjustments)

    def app(self, environ: Any, start_response: Any) -> list[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            self.begun.release()
            self.may_end.wait(10)
        refused = environ.get(SERVER_ERROR_KEY)
        status, headers = "200 OK", {}
        if refused is not None:
            status, headers = refused.status, {"Retry-After": refused.headers["Retry-After"]}
        start_response(status, [("Content-Length", "2"), *headers.items()])
        return [b"ok"]

    def open(self, data: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.sendall(data)
        return connection


def answer(connection: socket.socket, *, whole: bool = False) -> bytes:
    """Return one answer, or with whole all that is sent until the connection ends."""
    got = b""
    while whole or not got.endswith(b"\r\n\r\nok"):
        part = connection.recv(4096)
        if not part:
            break
        got += part
    return got


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
