"""Stops the worker of pserve --reload together with its reloader.

hupper, the reloader, starts the server in another process: the worker.  By itself hupper kills a
worker that takes longer than a second to end, waits for a changed file after a failed start, and
does not notice that its terminal was closed.
"""

import functools
import logging
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

DATABASE_STOP_SECONDS = 0.5
"""The time limit for stopping the database.  hupper kills the worker after a second: pserve leaves
hupper's shutdown_interval at its reload_interval."""

SIGTERM_SECONDS = 5.0
"""The time limit for the SIGTERM that the worker requests from the reloader.  It takes
milliseconds."""

P = ParamSpec("P")
R = TypeVar("R")


def watch_terminal() -> None:
    """End this worker at once on Ctrl-C, and the reloader too if its terminal is closed."""
    if hupper.is_active():  # in a child
        signal.signal(signal.SIGINT, _end_worker)
        threading.Thread(target=_wait_for_hangup, daemon=True).start()


def stop_reloader_on_exit(start: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function of the start, so that its SystemExit ends the reloader too."""

    @functools.wraps(start)
    def step(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return start(*arguments, **options)
        except SystemExit as reason:
            if hupper.is_active():  # in a child
                _end_reloader(reason)
            raise

    return step


def _end_worker(*_: object) -> None:  # in a child
    """Stop the database, and end this process.

    After DATABASE_STOP_SECONDS it ends in any case, and embedded.py stops the database later.
    """
    # The other threads run on without the database, and would log that they miss it.
    logging.disable()
    # Returning from the server would wait for open connections, and for a thread of hupper that
    # sleeps for up to a second.
    threading.Timer(DATABASE_STOP_SECONDS, os._exit, (0,)).start()
    try:
        _stop_database()
    finally:
        os._exit(0)


def _stop_database() -> None:  # in a child
    """Stop the development database, if this process has started it."""
    from ..dev import embedded  # production never imports it

    embedded.at_exit.close()


def _wait_for_hangup() -> None:  # in a child
    """End the reloader when the terminal is closed.

    The kernel sends SIGHUP only to the process that the terminal was opened for.  If that is make,
    it waits for this process, and does not pass the signal on.
    """
    # isatty() is false for a terminal that was closed before this worker started.
    if stat.S_ISCHR(os.fstat(0).st_mode):
        terminal = select.poll()
        terminal.register(0, 0)  # poll() always reports a hang-up
        terminal.poll()
        hupper.get_reloader().graceful_shutdown()


def _end_reloader(reason: SystemExit) -> None:  # in a child
    """Print the reason, and end this process and the reloader with exit code 1."""
    sys.stderr.write(f"{reason}\n")
    _stop_database()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    hupper.get_reloader().graceful_shutdown()
    time.sleep(SIGTERM_SECONDS)
