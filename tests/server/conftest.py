"""A fixture that serves until the test stops the server."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hello_login.server.serving import SIGNALS
from tests.server.sites import Site


@pytest.fixture
def serve() -> Iterator[Callable[..., Site]]:
    """Return a function that serves in this thread and runs a client in another thread.

    An exception of the client stops the server, and is raised when the test ends.
    """
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    errors: list[BaseException] = []

    def serve_client(
        client: Callable[[Site], None],
        *,
        graceful_timeout: float = 60,
        **options: Any,
    ) -> Site:
        site = Site(**options)

        def run_client() -> None:
            try:
                client(site)
            except BaseException as error:
                errors.append(error)
                site.form_may_end.set()
                if not site.server.stopping:  # A second signal would end this process.
                    os.kill(os.getpid(), signal.SIGTERM)

        site.server.stop_at_signals()
        thread = threading.Thread(target=run_client)
        thread.start()
        site.server.run_until_stopped(graceful_timeout)
        thread.join()
        return site

    yield serve_client
    for number, handler in handlers.items():
        signal.signal(number, handler)
    if errors:
        raise errors[0]
