"""Several processes that serve one port.

Each process has a socket of its own, and Linux distributes the connections among them
(SO_REUSEPORT).  With one socket for all, nearly always the same process would accept first.

The parent process serves nothing.  It replaces a child that dies, and stops all children by closing
its end of a pipe.  The kernel closes that end too if the parent dies.  Children ignore signals,
because a terminal and Heroku send theirs to all processes at once.
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

RESTART_SECONDS = 1.0
"""The least time between the starts of a child and of its replacement."""


class ParentWatcher(wasyncore.file_dispatcher):  # in a child
    """Stops a server when the parent process closes its end of a pipe, or dies."""

    def __init__(self, reading_end: int, server: Server) -> None:
        super().__init__(reading_end, map=server._map)  # type: ignore[arg-type]  # it takes an int
        self._server = server

    def writable(self) -> bool:
        """Return False: nothing is written."""
        return False

    def handle_close(self) -> None:
        """Stop the server."""
        self.close()
        self._server.stopping = True

    # Some systems report the end of the file as readable.  Nothing else is ever sent.
    handle_read = handle_close


MakeServer = Callable[[socket.socket], Server]


def run(
    listeners: list[socket.socket], make_server: MakeServer, *, url: str, graceful_timeout: float
) -> None:
    """Serve until a signal, with a process for each socket, and return when all have finished.

    With one socket, this process serves.
    make_server: makes the server of a socket; called in the process that serves.
    url: for the log.  graceful_timeout: see Server.run_until_stopped.
    A second signal ends all processes at once.
    """
    if len(listeners) == 1:
        server = make_server(listeners[0])
        # First, because another program may send a signal when it reads that the server serves.
        server.stop_at_signals()
        log.info("Serving %s", url)
        server.run_until_stopped(graceful_timeout)
    else:
        _Parent(listeners, make_server, graceful_timeout).run(url)


class _Parent:
    """Starts, replaces and stops the processes that serve."""

    def __init__(
        self, listeners: list[socket.socket], make_server: MakeServer, graceful_timeout: float
    ) -> None:
        self._listeners = listeners
        self._make_server = make_server
        self._graceful_timeout = graceful_timeout
        self._children: dict[int, tuple[socket.socket, float]] = {}
        self._stopping = False

    def run(self, url: str) -> None:
        stop_signals = {each for each in SIGNALS if signal.getsignal(each) != signal.SIG_IGN}
        signals, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup)
        for each in (*stop_signals, signal.SIGCHLD):
            signal.signal(each, lambda *_: None)
        self._childrens_end, self._own_end = os.pipe()
        for listener in self._listeners:
            self._start(listener)
        log.info("Serving %s with %s processes", url, len(self._listeners))
        while self._children:
            (number,) = os.read(signals, 1)
            if number in stop_signals:
                self._stop(number)
            self._replace_ended()
        signal.set_wakeup_fd(-1)
        for end in (signals, wakeup, self._childrens_end):
            os.close(end)

    def _start(self, listener: socket.socket) -> None:
        # Until the child ignores signals, its handlers would write them into the parent's pipe.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        child = os.fork()
        if child == 0:  # in a child
            self._serve_in_child(listener)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        self._children[child] = listener, time.monotonic()

    def _stop(self, number: int) -> None:
        if self._stopping:
            for child in self._children:
                os.kill(child, signal.SIGKILL)
            os._exit(128 + number)
        self._stopping = True
        # Before the children stop: while this process holds the sockets, they accept connections
        # that nobody serves.
        for listener in self._listeners:
            listener.close()
        os.close(self._own_end)

    def _replace_ended(self) -> None:
        """Start a child for each that has ended, unless all are stopping."""
        for child in list(self._children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                listener, started = self._children.pop(child)
                if not self._stopping:
                    code = os.waitstatus_to_exitcode(status)
                    log.error("Process %s ended with exit code %s: starting another", child, code)
                    time.sleep(max(0.0, started + RESTART_SECONDS - time.monotonic()))
                    self._start(listener)

    def _serve_in_child(self, listener: socket.socket) -> NoReturn:  # in a child
        """Serve, and end this process without the exit handlers of the parent."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for each in SIGNALS:
                signal.signal(each, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            os.close(self._own_end)
            for other in self._listeners:
                if other is not listener:
                    other.close()
            server = self._make_server(listener)
            ParentWatcher(self._childrens_end, server)
            server.run_until_stopped(self._graceful_timeout)
            status = 0
        except BaseException:
            log.exception("A serving process failed")
        finally:
            os._exit(status)
