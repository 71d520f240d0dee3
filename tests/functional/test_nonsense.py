"""Random and malformed requests are answered, and never with a 5xx."""

import io
import json
import logging
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
import webtest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection
from waitress.adjustments import Adjustments

from hello_login.server.serving import Server
from tests.conftest import OpenBrowser
from tests.functional import software_key
from tests.functional.servers import send_raw
from tests.functional.software_key import SoftwareKey
from tests.people import STYLESHEET, csrf_token, log_in, register
from tests.rows import execute

ROUTES = [
    "/",
    "/register",
    "/login",
    "/login/second",
    "/logout",
    "/account",
    "/account/profile",
    "/account/password",
    "/account/sessions/end",
    "/account/delete",
    "/account/confirm",
    "/account/totp",
    "/account/totp/remove",
    "/account/passkeys",
    "/account/passkeys/add",
    "/account/passkeys/decline",
    "/account/passkeys/wrong/name",
    "/account/recovery-codes",
    "/account/confirm-address",
    "/forgot",
    "/link/wrong",
    "/.well-known/change-password",
    "/healthz",
    "/readyz",
    STYLESHEET,
    "/nowhere",
]
FIELDS = ["name", "email", "password", "confirm", "current", "remember", "next", "session", "code"]
FIELDS += ["setup", "with", "credential", "x"]
FEW = 200
"""The number of examples in a fast test."""


def example_settings(examples: int) -> settings:
    """Return settings for a test: few examples are the same in every run, many are random."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples == FEW,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


values = st.one_of(
    st.binary(max_size=40), st.text(max_size=40).map(lambda t: t.encode("utf-8", "surrogatepass"))
)
pairs = st.lists(st.tuples(st.sampled_from(FIELDS), values), max_size=8)
parts = st.one_of(
    st.none(), st.integers(), st.text(max_size=20), st.binary(max_size=80).map(software_key.encode)
)
credentials = st.fixed_dictionaries(
    {
        "id": parts,
        "response": st.dictionaries(
            st.sampled_from(
                ["clientDataJSON", "authenticatorData", "signature", "userHandle",
                 "attestationObject"]
            ),
            parts,
        ),
    }
).map(json.dumps)  # fmt: skip
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
typed = st.one_of(
    st.dictionaries(st.sampled_from(FIELDS), texts),
    st.fixed_dictionaries({"credential": credentials}),
)
headers = st.dictionaries(
    st.sampled_from(
        ["ACCEPT", "COOKIE", "ORIGIN", "REFERER", "USER_AGENT", "X_FORWARDED_FOR", "RANGE",
         "IF_MODIFIED_SINCE", "IF_NONE_MATCH", "ACCEPT_LANGUAGE", "HOST", "AUTHORIZATION"]
    ),
    st.binary(max_size=60).map(lambda raw: re.sub("[\r\n]", "", raw.decode("latin-1"))),
    max_size=4,
)  # fmt: skip
content_types = st.sampled_from(
    [
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=utf-7",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "application/json",
        "text/plain; charset=\xff",
        "",
        "\x00",
    ]
)
methods = st.sampled_from(
    ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "ADA", "get"]
)


def encode(fields: list[tuple[str, bytes]]) -> str:
    return "&".join(f"{name}={quote_from_bytes(value)}" for name, value in fields)


@pytest.mark.parametrize("examples", [FEW, pytest.param(3000, marks=pytest.mark.slow)])
def test_random_requests_to_every_route_never_get_a_5xx(
    browser: webtest.TestApp,
    open_browser: OpenBrowser,
    db: Connection,
    print_figure: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
    examples: int,
) -> None:
    # Requests have the cookies and the token of a browser, so that they reach most of the code.
    #
    # The browser is logged in, or has taken the first step of a login.  Each example finds the same
    # database.
    register(browser)
    software_key.add_passkey(browser, SoftwareKey(), status=200)
    links = browser.get("/account/passkeys").html.find_all("a", string=["Rename", "Remove"])
    routes = [*ROUTES, *(link["href"] for link in links)]
    half = open_browser()
    page = log_in(half).follow()
    tokens = {csrf_token(browser): browser, page.forms[0]["csrf_token"].value: half}
    caplog.set_level(logging.ERROR, "hello_login")
    statuses: Counter[int] = Counter()
    app: Any = browser.app

    @example_settings(examples)
    @given(
        route=st.sampled_from(routes),
        below=st.binary(max_size=8),
        method=methods,
        query=st.one_of(
            pairs.map(encode), st.binary(max_size=40).map(lambda b: b.decode("latin-1"))
        ),
        fields=pairs,
        body=st.one_of(st.none(), st.binary(max_size=200)),
        content_type=content_types,
        more=headers,
        token=st.sampled_from(list(tokens)),
        has_cookies=st.booleans(),
        typed=st.one_of(st.none(), typed),
    )
    def send(
        route: str,
        below: bytes,
        method: str,
        query: str,
        fields: list[tuple[str, bytes]],
        body: bytes | None,
        content_type: str,
        more: dict[str, str],
        token: str,
        has_cookies: bool,
        typed: dict[str, str] | None,
    ) -> None:
        if typed is not None:  # a form as a browser sends it, with random text in its fields
            below, method, query, body, more, has_cookies = b"", "POST", "", None, {}, True
            content_type = "application/x-www-form-urlencoded"
            fields = [(name, value.encode()) for name, value in typed.items()]
        data = body if body is not None else f"csrf_token={token}&{encode(fields)}".encode()
        cookies = "; ".join(f"{name}={value}" for name, value in tokens[token].cookies.items())
        environ = {
            **browser.extra_environ,
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": route + below.decode("latin-1"),
            "QUERY_STRING": query,
            "CONTENT_TYPE": content_type,
            "CONTENT_LENGTH": str(len(data)),
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(data),
            **({"HTTP_COOKIE": cookies} if has_cookies else {}),
            **{f"HTTP_{name}": value for name, value in more.items()},
        }
        answered = []
        execute(db, "SAVEPOINT before")
        answer = app(environ, lambda status, _headers, _info=None: answered.append(status))
        b"".join(answer)
        if hasattr(answer, "close"):
            answer.close()
        execute(db, "ROLLBACK TO before")
        status = int(answered[0][:3])
        statuses[status] += 1
        assert status < 500

    send()
    print_figure(f"{statuses.total()} examples, 5xx: 0, otherwise {dict(sorted(statuses.items()))}")
    assert statuses.total() >= examples
    assert {200, 303, 400, 404, 405, 422} <= set(statuses)


@pytest.fixture
def site(browser: webtest.TestApp) -> Iterator[int]:
    """Yield the port of a real server."""

    def app(environ: Any, start_response: Any) -> Any:
        return browser.app({**environ, **browser.extra_environ}, start_response)

    listener = socket.create_server(("127.0.0.1", 0))
    adjustments = Adjustments(
        threads=1,
        asyncore_use_poll=True,
        max_request_body_size=40960,
        max_request_header_size=16384,
        ident="",
    )
    server = Server(app, listener, adjustments)

    def serve() -> None:
        while not server.stopping:
            server._step(0.05)
        server._stop_listening()
        for channel in list(server.active_channels.values()):
            channel.handle_close()
        for dispatcher in (server.task_dispatcher, server.form_dispatcher):
            dispatcher.shutdown(timeout=5)
        server.trigger.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    server.stopping = True
    thread.join()


TOO_LARGE = 40960
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /login HTTP/1.1\r\nHost: localhost\r\n"
REFUSED_BY_WAITRESS = {
    "no HTTP": (b"nonsense\r\n\r\n", 400),
    "no path": (b"GET\r\n\r\n", 400),
    "NUL in a header": (b"GET / HTTP/1.1\r\nHost: a\r\nA: \0\r\n\r\n", 400),
    "a body of two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    "a body with a length and an encoding": (
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "an encoding and a length in mixed case": (
        POST + b"transfer-ENCODING:\r\ncontent-LENGTH: 1\r\n\r\na",
        400,
    ),
    "an encoding in HTTP/1.0": (
        b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "an unknown encoding": (POST + b"Transfer-Encoding: a\r\n\r\n", 400),
    "a huge body": (POST + b"Content-Length: %d\r\n\r\n%s" % (TOO_LARGE, b"a" * TOO_LARGE), 413),
    "a huge header": (b"GET / HTTP/1.1\r\nHost: a\r\nA: %s\r\n\r\n" % (b"a" * 20000), 431),
    "many blanks in a field": (GET + b"A:%sb\r\n\r\n" % (b" " * 16000), 400),
    "many tabs in a field": (GET + b"A:%sb\r\n\r\n" % (b"\t" * 8000), 400),
    "many blanks after a value": (GET + b"A: a%s\r\n\r\n" % (b" " * 16000), 400),
    "a folded line": (GET + b"A: a\r\n b\r\n\r\n", 400),
    "a target of digits and more": (b"GET http://%s x HTTP/1.1\r\n\r\n" % (b"1" * 16000), 400),
    "an invalid target": (b"GET http://[/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a length of many digits": (POST + b"Content-Length: %s\r\n\r\n" % (b"1" * 5000), 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "an empty host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "the same host twice": (b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400),
    "a host with a user": (b"GET / HTTP/1.1\r\nHost: ada@a\r\n\r\n", 400),
    "a host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "a host of 254 characters": (b"GET / HTTP/1.0\r\nHost: %s\r\n\r\n" % (b"a" * 254), 400),
    "a host of 5,000 characters": (b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % (b"a" * 5000), 400),
}


@pytest.mark.parametrize(("data", "status"), REFUSED_BY_WAITRESS.values(), ids=REFUSED_BY_WAITRESS)
def test_a_request_that_waitress_refuses_gets_our_error_page_and_a_log_line(
    site: int, data: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hello_login")
    head, _, body = send_raw(site, data).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.")
    assert int(head.split()[1]) == status
    assert b"X-Content-Type-Options: nosniff" in head
    assert b"waitress" not in head + body
    assert b"<h1>" in body
    answered = [each for each in caplog.records if each.message == "answered"]
    assert len(answered) == 1
    assert b"Connection: close" in head
    assert answered[0].__dict__["fields"]["status"] == status


@pytest.mark.parametrize(
    "host", [b"a" * 253 + b":65535", b"web_1", b"example.org.", b"192.0.2.1:80", b"[2001:db8::1]"]
)
def test_every_valid_host_header_is_accepted(site: int, host: bytes) -> None:
    assert send_raw(site, b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host).startswith(b"HTTP/1.1 200")


def test_no_request_is_smuggled_behind_a_body_with_two_lengths(
    site: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hello_login")
    # No other test sends this method: the last request of one may be answered only now.
    hidden = b"PURGE / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    lengths = b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % (5 + len(hidden))
    answer = send_raw(site, POST + lengths + b"0\r\n\r\n" + hidden)
    assert answer.count(b"HTTP/1.") == 1
    methods = [getattr(each, "fields", {}).get("method") for each in caplog.records]
    assert "POST" in methods
    assert "PURGE" not in methods


@pytest.mark.parametrize("examples", [FEW, pytest.param(500, marks=pytest.mark.slow)])
def test_random_bytes_on_a_connection_never_get_a_5xx(
    site: int, print_figure: Callable[[str], None], examples: int
) -> None:
    statuses: Counter[int] = Counter()
    lines = st.lists(
        st.one_of(
            st.sampled_from(
                [
                    b"Host: localhost",
                    b"Content-Length: 3",
                    b"Content-Length: a",
                    b"Transfer-Encoding: chunked",
                    b"Transfer-Encoding: gzip",
                    b"Expect: 100-continue",
                    b"Connection: close",
                    b"Cookie: session=\xff",
                    b"Content-Type: multipart/form-data",
                ]
            ),
            st.binary(max_size=30),
        ),
        max_size=6,
    )

    @example_settings(examples)
    @given(
        first=st.one_of(
            st.sampled_from([b"GET / HTTP/1.1", b"POST /login HTTP/1.1", b"GET //[ HTTP/9.9"]),
            st.binary(max_size=40),
        ),
        lines=lines,
        body=st.binary(max_size=40),
    )
    def send(first: bytes, lines: list[bytes], body: bytes) -> None:
        answer = send_raw(site, b"\r\n".join([first, *lines]) + b"\r\n\r\n" + body)
        if answer.startswith(b"HTTP/1.1 100"):
            answer = answer.partition(b"\r\n\r\n")[2]
        if answer:
            status = int(answer.split()[1])
            statuses[status] += 1
            assert status < 500

    send()
    print_figure(f"{statuses.total()} answers to raw bytes, 5xx: 0, otherwise {dict(statuses)}")
    assert statuses[400] > 10


def test_a_failing_error_page_is_answered_with_500_and_no_details(
    site: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("what went wrong")

    monkeypatch.setattr("hello_login.web.views.errors.render_to_response", fail)
    answer = send_raw(site, b"GET /nowhere HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert int(head.split()[1]) == 500
    assert b"what went wrong" not in body


def test_json_posted_to_a_form_is_refused(open_browser: OpenBrowser) -> None:
    program = open_browser(HTTP_ACCEPT="application/json")
    answer = program.post_json("/login", {"email": "a"}, status=415)
    assert answer.json["error"] == "We can't read this kind of content"
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]
    assert json.dumps(answer.json)
