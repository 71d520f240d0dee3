"""A minimal application, which shows what a server costs by itself."""

from collections.abc import Callable, Iterable
from typing import Any

BODY = b'{"answer": "Hello World, Little Dude, How Are You?"}'
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))]


def greet(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the greeting (a WSGI application)."""
    start_response("200 OK", HEADERS)
    return [BODY]


def make(_global_config: dict[str, str], **_settings: str) -> Any:
    """Return greet, for an .ini file."""
    return greet
