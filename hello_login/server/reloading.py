"""What the worker of pserve --reload does, so that one stop ends the worker and its reloader.

hupper, the reloader, starts the server in another process: the worker.  Left alone, it kills a
worker that takes longer than a second to end, waits for a file to change when a start failed, and
does not notice that its terminal was closed.
"""

import functools
import os
import select
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import hupper

STOP_SECONDS = 0.5
"""How long stopping the database may delay the worker's end.

hupper kills it after a second: pserve leaves hupper's shutdown_interval at its reload_interval.
"""

RELOADER_PATIENCE = 5.0
"""Seconds within which the reloader sends the SIGTERM it is asked for; it takes milliseconds."""

P = ParamSpec("P")
R = TypeVar("R")


def watch_for_the_end() -> None:
    """Let Ctrl-C end this worker at once, and a closed terminal end the reloader too."""
    if hupper.is_active():  # in a child
        signal.signal(signal.SIGINT, _end)
        threading.Thread(target=_watch_terminal, daemon=True).start()


def ends_the_reloader(start: Callable[P, R]) -> Callable[P, R]:
    """Decorate a step of the start, whose SystemExit is to end the reloader as well."""

    @functools.wraps(start)
    def step(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return start(*arguments, **options)
        except SystemExit as reason:
            if hupper.is_active():  # in a child
                _end_reloader(reason)
            raise

    return step


def _end(*_: object) -> None:  # in a child
    """Stop the database, and end this process.

    Returning from the server instead would wait for open connections, and for a thread of hupper's
    that sleeps for up to a second.  A database that is not stopped in time is stopped by the
    process that waits for that (embedded.py).
    """
    threading.Timer(STOP_SECONDS, os._exit, (0,)).start()
    try:
        _stop_database()
    finally:
        os._exit(0)


def _stop_database() -> None:  # in a child
    """Stop what this process has started of the development database."""
    from ..dev import embedded  # production never imports it

    embedded.at_exit.close()


def _watch_terminal() -> None:  # in a child
    """End the reloader when the terminal is closed.

    The kernel sends SIGHUP only to the process that the terminal was opened for.  If that is make,
    it waits for us to end, and tells us nothing.
    """
    # Not isatty(), which is false for a terminal that was closed before this worker started.
    if stat.S_ISCHR(os.fstat(0).st_mode):
        terminal = select.poll()
        terminal.register(0, 0)  # poll() reports a hang-up without being asked to
        terminal.poll()
        hupper.get_reloader().graceful_shutdown()


def _end_reloader(reason: SystemExit) -> None:  # in a child
    """Print the reason, and have the reloader end this process and itself with exit code 1."""
    sys.stderr.write(f"{reason}\n")
    _stop_database()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    hupper.get_reloader().graceful_shutdown()
    time.sleep(RELOADER_PATIENCE)
