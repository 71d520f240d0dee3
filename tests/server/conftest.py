"""Runs a server until the test stops it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hello_login.server.serving import SIGNALS
from tests.server.sites import Site


@pytest.fixture
def run() -> Iterator[Callable[..., Site]]:
    """Return a function that serves in this thread, and in another runs what a test does."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    failed: list[BaseException] = []

    def serve(
        during: Callable[[Site], None],
        *,
        graceful_timeout: float = 5,
        **options: Any,
    ) -> Site:
        site = Site(**options)

        def act() -> None:
            try:
                during(site)
            except BaseException as error:
                failed.append(error)
                site.may_end.set()
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=act)
        thread.start()
        site.server.run_until_stopped(graceful_timeout)
        thread.join()
        return site

    yield serve
    for number, handler in handlers.items():
        signal.signal(number, handler)
    if failed:
        raise failed[0]
