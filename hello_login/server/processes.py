"""Several processes that serve one port, each with connections of its own.

Each has a socket, among which Linux shares out who connects (SO_REUSEPORT): on one socket for all,
the same process would nearly always be the first to accept.

The first one serves nothing: it starts another for each that dies, and passes a stop on.  It does
so by closing its end of a pipe, which it also does by dying.  Its children heed no signals, for
those that a terminal or Heroku sends go to all processes at once.
"""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import NoReturn

from waitress import wasyncore

from .serving import SIGNALS, Server

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between the starts of two that die at once."""


class Leash(wasyncore.file_dispatcher):  # in a child
    """Lets a server drain as soon as the other end of a pipe is closed."""

    def __init__(self, end: int, server: Server) -> None:
        super().__init__(end, map=server._map)  # type: ignore[arg-type]  # it is a number
        self._server = server

    def writable(self) -> bool:
        """Nothing is ever written to it."""
        return False

    def handle_close(self) -> None:
        """It is closed."""
        self.close()
        self._server.stopping = True

    # There is nothing to read but the end of the file, which some systems call readable.
    handle_read = handle_close


Make = Callable[[socket.socket], Server]


def run(listeners: list[socket.socket], make: Make, *, url: str, graceful_timeout: float) -> None:
    """Serve by a process for each socket until a signal; return when all of them have finished.

    make: makes a server, in its process; in this one, if there is one socket.
    url: where it serves, for the log.  graceful_timeout: as Server.run_until_stopped has it.
    A second signal ends all processes at once.
    """
    if len(listeners) == 1:
        server = make(listeners[0])
        log.info("Serving %s", url)
        server.run_until_stopped(graceful_timeout)
    else:
        _Parent(listeners, make, graceful_timeout).run(url)


class _Parent:
    """The process that serves nothing."""

    def __init__(self, listeners: list[socket.socket], make: Make, graceful_timeout: float) -> None:
        self._listeners = listeners
        self._make = make
        self._graceful_timeout = graceful_timeout
        self._children: dict[int, tuple[socket.socket, float]] = {}
        self._stopping = False

    def run(self, url: str) -> None:
        heeded = {each for each in SIGNALS if signal.getsignal(each) != signal.SIG_IGN}
        received, note = os.pipe()
        os.set_blocking(note, False)
        signal.set_wakeup_fd(note)
        for each in (*heeded, signal.SIGCHLD):
            signal.signal(each, lambda *_: None)
        self._leash, self._held = os.pipe()
        for listener in self._listeners:
            self._start(listener)
        log.info("Serving %s, by %s processes", url, len(self._listeners))
        while self._children:
            (signalled,) = os.read(received, 1)
            if signalled in heeded:
                self._stop(signalled)
            self._replace()
        signal.set_wakeup_fd(-1)
        for end in (received, note, self._leash):
            os.close(end)

    def _start(self, listener: socket.socket) -> None:
        # Until a child heeds none, a signal to all of them would be noted twice.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        child = os.fork()
        if child == 0:  # in a child
            self._serve(listener)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        self._children[child] = listener, time.monotonic()

    def _stop(self, signalled: int) -> None:
        if self._stopping:
            for child in self._children:
                os.kill(child, signal.SIGKILL)
            os._exit(128 + signalled)
        self._stopping = True
        # First: as long as this process holds them too, they take who connects, to serve nobody.
        for listener in self._listeners:
            listener.close()
        os.close(self._held)

    def _replace(self) -> None:
        """Start another for each that has ended, unless all are to end."""
        for child in list(self._children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                listener, started = self._children.pop(child)
                if not self._stopping:
                    code = os.waitstatus_to_exitcode(status)
                    log.error("Process %s ended with %s: starting another", child, code)
                    time.sleep(max(0.0, started + PAUSE - time.monotonic()))
                    self._start(listener)

    def _serve(self, listener: socket.socket) -> NoReturn:  # in a child
        """Serve, and end without what the parent does at its own end."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for each in SIGNALS:
                signal.signal(each, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            os.close(self._held)
            for other in self._listeners:
                if other is not listener:
                    other.close()
            server = self._make(listener)
            Leash(self._leash, server)
            server.run_until_stopped(self._graceful_timeout)
            status = 0
        except BaseException:
            log.exception("A process that serves failed")
        finally:
            os._exit(status)
