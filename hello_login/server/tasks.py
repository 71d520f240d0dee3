"""Parsing a request, and answering or refusing it: what differs from waitress."""

import re
from typing import Any

from pyramid.httpexceptions import HTTPError, status_map
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import WSGITask
from waitress.utilities import InternalServerError

from ..web.tweens import HEADERS, REFUSED

LAST_RESORT = b"Something went wrong here. It has been noted. Try again in a little while.\n"

HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{0,5})?")
"""A name of at most 253 characters (RFC 1035, 2.3.4, without the root) or an IP address, and a
port.  The underscore is for names of containers."""

ENCODED = re.compile(rb"^transfer-encoding:", re.IGNORECASE | re.MULTILINE)


FIRST_LINE = re.compile(rb"\s*[!-~]+ [!-\xff]+(?: HTTP/[0-9.]+)?(?:\r\n|\Z)")
"""A method, a target and perhaps a version.  waitress's own expression takes quadratic time."""

UNREADABLE = re.compile(rb"[ \t]{100}|\r\n[ \t]")
"""Many blanks, for which waitress takes quadratic time, or a folded line (RFC 9112, 5.2)."""


class Task(WSGITask):
    """Ends the connection with its answer once the server stops."""

    def build_response_header(self) -> bytes:
        """Say so in the answer's head."""
        server: Any = self.channel.server
        if server.draining:
            self.close()
        return super().build_response_header()

    def close(self) -> None:
        """As if the client had asked for it: or waitress may promise to keep the connection."""
        request: Any = self.request
        request.headers["CONNECTION"] = "close"
        self.close_on_finish = True


class RefusalTask(Task):
    """What waitress can't parse, or won't take: the application answers that as well."""

    def __init__(self, channel: Any, request: Any) -> None:
        nothing = channel.parser_class(channel.adj)
        nothing.parse_header(b"GET / HTTP/1.0\r\n")
        # The error page depends on the headers, such as Accept.  The Host may be what is refused.
        nothing.headers.update(request.headers, CONTENT_LENGTH="0")
        nothing.headers.pop("HOST", None)
        nothing.command = getattr(request, "command", "GET")
        super().__init__(channel, nothing)
        self.error = request.error

    def get_environment(self) -> dict[str, Any]:
        """With the reason."""
        error = self.error
        if not isinstance(error, HTTPError):
            # 501 is for encodings that waitress does not know; nobody who means well sends them.
            error = status_map[400 if error.code == 501 else error.code]()
        return {**super().get_environment(), REFUSED: error}

    def execute(self) -> None:
        """Ask the application; if it is the application that failed, answer here."""
        if isinstance(self.error, InternalServerError):
            self.status, self.complete = "500 Internal Server Error", True
            self.response_headers = [*HEADERS.items(), ("Content-Type", "text/plain")]
            self.content_length = len(LAST_RESORT)
            self.write(LAST_RESORT)
        else:
            super().execute()

    def build_response_header(self) -> bytes:
        """What else comes on this connection can't be told apart."""
        self.close()
        return super().build_response_header()


class Parser(HTTPRequestParser):
    """Refuses what servers may read in different ways.

    A request that is complete waits for nothing, though its client says Expect: 100-continue.
    """

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the head; raises ParsingError for two lengths, or a Host that no site has.

        Two Host lines come as one, with a comma.  HTTP/1.0 may have none (RFC 9112, 3.2 and 6.1).
        """
        if not FIRST_LINE.match(header_plus) or UNREADABLE.search(header_plus):
            raise ParsingError("The head is not one that a browser sends.")
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # such as a length of 5,000 digits, or the target http://[/
            raise ParsingError("The head has a number or a target that is none.") from error
        length = self.headers.get("CONTENT_LENGTH")
        if ENCODED.search(header_plus) and (length is not None or self.version != "1.1"):
            raise ParsingError("The body's length is told in two ways.")
        host = self.headers.get("HOST", "" if self.version == "1.1" else "localhost")
        if not HOST.fullmatch(host):
            raise ParsingError("Host is missing, given twice or malformed.")

    def received(self, data: bytes) -> int:
        """Take some bytes, and return how many."""
        consumed = super().received(data)
        if self.completed:
            self.expect_continue = False
        return consumed
