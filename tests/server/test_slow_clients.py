"""Clients that send slowly, or open many connections, are limited."""

import socket
import time
from collections.abc import Callable

import pytest

from hello_login.server import serving
from tests.server.sites import FORM, PAGE, Site, receive, send_sigterm

BODY = FORM.replace(b"Content-Length: 0", b"Content-Length: 1000")


def is_closed_while_it_sends(connection: socket.socket, data: bytes) -> bool:
    """Send the data every tenth of a second; return whether the server closes the connection."""
    connection.settimeout(0.1)
    for _ in range(600):
        try:
            connection.sendall(data)
            return connection.recv(1) == b""
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


@pytest.mark.parametrize(
    ("beginning", "more"),
    [(b"GET / HTTP/1.1\r\nA: ", b"a"), (BODY, b"a"), (b"", b"\r\n")],
    ids=["a head", "a body", "blank lines"],
)
def test_a_request_that_is_sent_byte_by_byte_is_cut_off(
    serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, beginning: bytes, more: bytes
) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(serving, "REQUEST_SECONDS", 1)

    def client(site: Site) -> None:
        with site.connect(beginning) as slow:
            assert is_closed_while_it_sends(slow, more)
        send_sigterm()

    serve(client)


def test_the_head_of_a_request_has_a_shorter_time_limit_than_its_body(
    serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0)

    def client(site: Site) -> None:
        with site.connect(BODY[:-2]) as without_head, site.connect(BODY) as without_body:
            assert receive(without_head, until_closed=True) == b""
            site.form_may_end.set()
            without_body.sendall(b"a" * 1000)
            assert receive(without_body).startswith(b"HTTP/1.1 200")
        send_sigterm()

    serve(client)


def test_neither_a_kept_connection_nor_a_slow_answer_is_cut_off(
    serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0)
    monkeypatch.setattr(serving, "REQUEST_SECONDS", 0)

    def client(site: Site) -> None:
        with site.connect(PAGE) as kept, site.connect(FORM) as waiting:
            receive(kept)
            time.sleep(2.5)
            kept.sendall(PAGE)
            assert receive(kept).startswith(b"HTTP/1.1 200")
            site.form_may_end.set()
            assert receive(waiting).startswith(b"HTTP/1.1 200")
        send_sigterm()

    serve(client)


def test_a_network_has_a_limited_number_of_connections(
    serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "CONNECTIONS_PER_NETWORK", 3)

    def client(site: Site) -> None:
        with site.connect(PAGE) as first, site.connect(PAGE) as second, site.connect(PAGE) as third:
            assert all(b"200 OK" in receive(each) for each in (first, second, third))
            with site.connect(b"") as one_too_many:
                assert one_too_many.recv(1) == b""
            third.close()
            assert is_served(site)
        send_sigterm()

    serve(client)


def is_served(site: Site) -> bool:
    """Return whether a page is served soon: the server may notice a closed connection late."""
    for _ in range(1200):
        try:
            with site.connect(PAGE) as page:
                if receive(page).startswith(b"HTTP/1.1 200"):
                    return True
        except ConnectionError:
            pass
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("proxy", ["*", "127.0.0.1"])
def test_a_trusted_proxy_has_any_number_of_connections(
    serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setattr(serving, "CONNECTIONS_PER_NETWORK", 1)

    def client(site: Site) -> None:
        with site.connect(PAGE) as first, site.connect(PAGE) as second:
            assert all(b"200 OK" in receive(each) for each in (first, second))
        send_sigterm()

    serve(client, trusted_proxy=proxy, trusted_proxy_headers="x-forwarded-for")


def test_a_proxy_that_is_not_trusted_has_a_limited_number_of_connections(
    serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "CONNECTIONS_PER_NETWORK", 0)

    def client(site: Site) -> None:
        with site.connect(b"") as refused:
            assert refused.recv(1) == b""
        send_sigterm()

    serve(client, trusted_proxy="192.0.2.7", trusted_proxy_headers="x-forwarded-for")


def test_an_ipv6_client_counts_towards_three_networks() -> None:
    class Connection(serving.Channel):
        def __init__(self, address: str) -> None:
            self.addr = (address, 5000)

    networks = {"2001:db8::/64": 1, "2001:db8::/56": 2, "2001:db8::/48": 4}
    assert Connection("2001:db8::ffff:2").networks == networks
