"""Helpers for tests of commands: paths, requests, and the state of the development database."""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hello_login.dev import embedded

BIN = Path(sys.executable).parent
GREETING = {"answer": "Hello World, Little Dude, How Are You?"}
PRODUCTION = {"SECRET_KEY": "k" * 32}


def get(port: int, path: str = "/") -> Any:
    """Return the JSON at the path; retry for two minutes until the server answers."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
                return json.load(response)
        except (ConnectionError, urllib.error.URLError) as error:
            if isinstance(error, urllib.error.HTTPError) or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def database_runs(checkout: Path) -> bool:
    return (checkout / ".postgres/cluster/postmaster.pid").exists()


def eventually(condition: Callable[[], bool], seconds: float = embedded.LINGER + 30) -> bool:
    """Wait until the condition is true, and return True; return False after the timeout."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
