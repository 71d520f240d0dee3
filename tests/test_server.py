"""waitress, on a port that is bound first."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import hupper
import pytest

from hello_login import embedded, server


@pytest.fixture
def taken() -> Iterator[int]:
    """A port where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def free() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_it_serves_the_application_on_the_port_until_it_is_interrupted(
    free: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answer = bytearray()
    ended = []
    at_exit = contextlib.ExitStack()
    at_exit.callback(lambda: ended.append("the development database"))
    monkeypatch.setattr(embedded, "at_exit", at_exit)

    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    def ask() -> None:
        with socket.create_connection(("127.0.0.1", free)) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while part := connection.recv(4096):
                answer.extend(part)
        os.kill(os.getpid(), signal.SIGINT)

    caplog.set_level("INFO")
    serve = server.bind({"http_port": str(free)}, host="127.0.0.1", threads="1", ident="")
    asking = threading.Thread(target=ask)
    asking.start()
    serve(app)
    asking.join()
    assert answer.startswith(b"HTTP/1.0 200 OK")
    assert answer.endswith(b"hello")
    assert b"Server:" not in answer
    assert f"Serving http://localhost:{free}" in caplog.text
    assert ended == ["the development database"]


def test_a_port_in_use_is_told_in_a_sentence(taken: int) -> None:
    with pytest.raises(
        SystemExit, match=rf"port {taken} \(Address already in use\): .*PORT="
    ) as end:
        server.bind({"http_port": str(taken)}, host="127.0.0.1")
    assert "\n" not in str(end.value)


def test_a_port_in_use_ends_the_reloader_too(
    taken: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Reloader:
        """Sends a SIGTERM a little later, as hupper does when it is asked to shut down."""

        def graceful_shutdown(self) -> None:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()

    monkeypatch.setattr(hupper, "is_active", lambda: True)
    monkeypatch.setattr(hupper, "get_reloader", Reloader)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            server.bind({"http_port": str(taken)}, host="127.0.0.1")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 1
    assert f"port {taken}" in capsys.readouterr().err


def test_a_wrong_port_is_left_to_the_check_of_all_settings() -> None:
    server.bind({"http_port": "http"}, host="127.0.0.1")("an application")
