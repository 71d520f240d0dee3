"""Parses and answers requests where waitress alone would do it differently."""

import re
from typing import Any

from pyramid.httpexceptions import HTTPError, status_map
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import WSGITask
from waitress.utilities import InternalServerError

from ..web.tweens import HEADERS, REQUEST_ID_KEY, SERVER_ERROR_KEY

SERVER_ERROR_TEXT = (
    b"Something went wrong here. The error is in our log. Try again in a little while.\n"
)

HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{0,5})?")
"""A name of at most 253 characters (RFC 1035, 2.3.4, without the root) or an IP address, and an
optional port.  Names of containers may have underscores."""

TRANSFER_ENCODING = re.compile(rb"^transfer-encoding:", re.IGNORECASE | re.MULTILINE)

REQUEST_LINE = re.compile(rb"\s*[!-~]+ [!-\xff]+(?: HTTP/[0-9.]+)?(?:\r\n|\Z)")
"""A method, a target and an optional version.  waitress's own expression takes quadratic time."""

REFUSED_WHITESPACE = re.compile(rb"[ \t]{100}|\r\n[ \t]")
"""Many blanks, which take waitress quadratic time, or a folded line (RFC 9112, 5.2)."""

REQUEST_IDS = {
    "HTTP_X_REQUEST_ID": re.compile("([A-Za-z0-9-]{8,64})"),
    "HTTP_TRACEPARENT": re.compile("[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}"),
}
"""The headers in which a trusted proxy may send an id.  The first of them wins.  nginx, Heroku and
Envoy send 32 to 36 characters.  The id of a traceparent is that of the trace (W3C Trace Context,
3.2)."""


class Task(WSGITask):
    """Answers a request, and closes the connection afterwards if the server is stopping."""

    def get_environment(self) -> dict[str, Any]:
        """Return the WSGI environ, with the request's id if a trusted proxy has sent one."""
        environ = super().get_environment()
        if self.channel.adj.trusted_proxy in ("*", self.channel.addr[0]):
            for header, pattern in REQUEST_IDS.items():
                if sent := pattern.fullmatch(environ.get(header, "")):
                    environ.setdefault(REQUEST_ID_KEY, sent[1])
        return environ

    def build_response_header(self) -> bytes:
        """Return the head of the answer, with "Connection: close" if the server is stopping."""
        server: Any = self.channel.server
        if not server.accepting:  # It has stopped listening, and clients reconnect at once.
            self.close()
        return super().build_response_header()

    def close(self) -> None:
        """Close the connection after the answer."""
        request: Any = self.request
        # As if the client had asked for it: otherwise waitress may add "Connection: keep-alive".
        request.headers["CONNECTION"] = "close"
        self.close_on_finish = True


class ErrorTask(Task):
    """Lets the application answer a request that waitress refuses or can't parse."""

    def __init__(self, channel: Any, request: Any) -> None:
        valid = channel.parser_class(channel.adj)
        valid.parse_header(b"GET / HTTP/1.0\r\n")
        # The error page depends on headers such as Accept.  The Host may be the reason to refuse.
        valid.headers.update(request.headers, CONTENT_LENGTH="0")
        valid.headers.pop("HOST", None)
        valid.command = getattr(request, "command", "GET")
        super().__init__(channel, valid)
        self.error = request.error

    def get_environment(self) -> dict[str, Any]:
        """Return the WSGI environ, with the reason as SERVER_ERROR_KEY."""
        error = self.error
        if not isinstance(error, HTTPError):
            # waitress answers 501 to an unknown encoding.  No browser sends one: it is malformed.
            error = status_map[400 if error.code == 501 else error.code]()
        return {**super().get_environment(), SERVER_ERROR_KEY: error}

    def execute(self) -> None:
        """Let the application answer, unless it has failed itself: then answer with a text."""
        if isinstance(self.error, InternalServerError):
            self.status, self.complete = "500 Internal Server Error", True
            self.response_headers = [*HEADERS.items(), ("Content-Type", "text/plain")]
            self.content_length = len(SERVER_ERROR_TEXT)
            self.write(SERVER_ERROR_TEXT)
        else:
            super().execute()

    def build_response_header(self) -> bytes:
        """Return the head of the answer, always with "Connection: close"."""
        # The end of a malformed request is unknown, and so is the beginning of the next one.
        self.close()
        return super().build_response_header()


class Parser(HTTPRequestParser):
    """Parses a request, and refuses it if another server may read it differently."""

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the head.

        Raises ParsingError if it is malformed, has two lengths of the body, or a Host that is
        missing or malformed (RFC 9112, 3.2 and 6.1).
        """
        if not REQUEST_LINE.match(header_plus) or REFUSED_WHITESPACE.search(header_plus):
            raise ParsingError("The head of the request is malformed.")
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # such as a length of 5,000 digits, or the target http://[/
            raise ParsingError("The head has a malformed number or target.") from error
        length = self.headers.get("CONTENT_LENGTH")
        if TRANSFER_ENCODING.search(header_plus) and (length is not None or self.version != "1.1"):
            raise ParsingError("The length of the body is ambiguous.")
        # waitress joins two Host lines with a comma.  HTTP/1.0 does not require one.
        host = self.headers.get("HOST", "" if self.version == "1.1" else "localhost")
        if not HOST.fullmatch(host):
            raise ParsingError("Host is missing, duplicated or malformed.")

    def received(self, data: bytes) -> int:
        """Parse bytes, and return their number."""
        consumed = super().received(data)
        if self.completed:
            # The client sent no body, or all of it: it needs no 100 even if it expects one.
            self.expect_continue = False
        return consumed
