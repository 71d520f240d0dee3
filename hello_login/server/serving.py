"""waitress, which stops without losing a request, and serves pages while forms have to wait.

By itself, on SIGTERM it ends at once, or, as the first process of a container, never.  Told to end
by an exception it lets its threads finish, for 5 s, but cancels what is queued, leaves what is not
flushed, and new connections hang until the process has ended.
"""

import functools
import logging
import os
import signal
import socket
import sys
import time
from typing import Any

import hupper
from pyramid.httpexceptions import HTTPServiceUnavailable
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

from ..auth.clients import Client, parse_address
from .tasks import Parser, RefusalTask, Task

log = logging.getLogger(__name__)

DRAIN_GRACE = 1.0
"""Seconds for which a kept-alive connection may be silent after a stop, before it is closed: a
request may be on its way."""

QUEUE_SECONDS = 2.0
"""A form that waits longer than this for a thread is answered 503: the server is busy."""

HEAD_SECONDS, REQUEST_SECONDS = 30, 60
"""How long the head of a request, and all of it, may take from its first byte on: about what Apache
allows by default (RequestReadTimeout header=20-40 body=20)."""

CONNECTIONS_PER_NETWORK = 100
"""How many connections an IPv4 address or an IPv6 /64 may have at once, of the 1,000 that
connection_limit allows."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Channel(HTTPChannel):
    """A connection."""

    parser_class = Parser
    task_class = Task
    error_task_class: Any = RefusalTask
    began_at: float | None = None
    queued_at = 0.0
    sending = False

    @functools.cached_property
    def networks(self) -> dict[str, int]:
        """Return the networks that it comes from (Client.networks)."""
        return Client(parse_address(self.addr[0])).networks

    def received(self, data: bytes) -> bool:
        """Take some bytes; the first one begins a request, even if it is a blank line's."""
        if self.began_at is None:
            self.began_at = time.monotonic()
        return bool(super().received(data))

    def is_overdue(self) -> bool:
        """Whether the next request has taken too long to come."""
        if self.requests or self.began_at is None:
            return False
        request: Any = self.request
        has_head = request is not None and request.headers_finished
        seconds = REQUEST_SECONDS if has_head else HEAD_SECONDS
        return time.monotonic() - self.began_at > seconds

    def writable(self) -> bool:
        """Whether there is something to send, unless a thread is sending it just now.

        Otherwise poll() would return at once, again and again, and that thread, which needs the
        interpreter's lock to go on, would hardly get it.
        """
        return not self.sending and bool(super().writable())

    def _flush_some(self, do_close: bool = True) -> bool:
        self.sending = True
        try:
            return bool(super()._flush_some(do_close))  # type: ignore[misc]  # it has it
        finally:
            self.sending = False

    def service(self) -> None:
        """Answer the next request, unless it is a form that has waited for too long."""
        self.began_at = None
        request: Any = self.requests[0]
        waited = time.monotonic() - self.queued_at
        if self.is_form() and waited > QUEUE_SECONDS and not request.error:
            request.error = HTTPServiceUnavailable(headers={"Retry-After": "2"})
        super().service()

    def is_form(self) -> bool:
        """Whether the next request is one."""
        return getattr(self.requests[0], "command", "") == "POST"

    def is_idle(self) -> bool:
        """Whether nothing is begun on it."""
        request: Any = self.request
        # A blank line after the last request begins none (RFC 9112, 2.2).
        begun = request and (request.headers_finished or request.header_plus.strip())
        return not (self.requests or begun or self.total_outbufs_len)


class Server(TcpWSGIServer):
    """Forms have threads of their own, as many as pages have.

    Verifying passwords is the one dear thing here: where many come at once, pages are still served.
    """

    channel_class = Channel
    # types-waitress has these otherwise, or not.
    active_channels: Any
    trigger: Any
    _map: Any

    def __init__(self, app: Any, listener: socket.socket, adjustments: Adjustments) -> None:
        dispatchers = ThreadedTaskDispatcher(), ThreadedTaskDispatcher()
        for each in dispatchers:
            each.set_thread_count(adjustments.threads)
        self.form_dispatcher = dispatchers[1]
        self.stopping = False
        super().__init__(
            app,
            _sock=listener,
            dispatcher=dispatchers[0],
            adj=adjustments,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            bind_socket=False,
        )

    @property
    def draining(self) -> bool:
        """Whether an answer is its connection's last.

        Not before nobody can connect: whoever is told so makes another connection at once.
        """
        return not self.accepting

    def accept(self) -> Any:
        """Take a connection, unless its network has too many: then close it at once."""
        accepted = super().accept()
        if accepted is not None and self._is_crowded(accepted[1][0]):
            accepted[0].close()
            return None
        return accepted

    def _is_crowded(self, address: str) -> bool:
        """Return whether one of the address's networks has all the connections that it may have.

        A trusted proxy has the connections of many people, and may have any number.
        """
        if self.adj.trusted_proxy in ("*", address):
            return False
        channels = self.active_channels.values()
        return any(
            sum(network in each.networks for each in channels) >= CONNECTIONS_PER_NETWORK * factor
            for network, factor in Client(parse_address(address)).networks.items()
        )

    def maintenance(self, now: int) -> None:
        """Close what has been silent for too long, and what brings its request too slowly."""
        super().maintenance(now)
        for channel in self.active_channels.values():
            if channel.is_overdue():
                channel.will_close = True

    def add_task(self, task: Any) -> None:
        """Queue a connection whose next request is complete."""
        task.queued_at = time.monotonic()
        dispatcher = self.form_dispatcher if task.is_form() else self.task_dispatcher
        dispatcher.add_task(task)

    def run_until_stopped(self, graceful_timeout: float) -> None:
        """Serve until a signal; then finish what was begun, for so many seconds at the most.

        A second signal ends the process at once.
        """
        # Under the reloader, reloading.py answers signals; nohup has SIGHUP ignored.
        for number in () if hupper.is_active() else SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._stop)
        # A signal may reach another thread than the one that waits below, which this wakes.
        os.set_blocking(self.trigger.trigger, False)
        signal.set_wakeup_fd(self.trigger.trigger)
        while not self.stopping:
            self._step(self.adj.asyncore_loop_timeout)
        self._stop_listening()
        stopped = time.time()
        while self.active_channels and time.time() < stopped + graceful_timeout:
            for channel in list(self.active_channels.values()):
                silent = time.time() - max(channel.last_activity, stopped)
                if silent > DRAIN_GRACE and channel.is_idle():
                    channel.will_close = True
            self._step(0.05)
        if self.active_channels:
            log.warning("Stopped with %s connections in use", len(self.active_channels))
            for channel in list(self.active_channels.values()):
                channel.handle_close()
        for dispatcher in (self.task_dispatcher, self.form_dispatcher):
            dispatcher.shutdown(timeout=1)
        signal.set_wakeup_fd(-1)
        self.trigger.close()

    def _stop(self, number: int, _frame: object) -> None:
        if self.stopping:
            os._exit(128 + number)
        self.stopping = True

    def _step(self, seconds: float) -> None:
        wasyncore.loop(seconds, use_poll=self.adj.asyncore_use_poll, map=self._map, count=1)

    def _stop_listening(self) -> None:
        """Take the connections that the kernel has accepted already, and no more.

        It resets one that comes between the last look and the close, for which the other threads
        must therefore not keep this one waiting.
        """
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        before = -1
        while len(self.active_channels) != before:
            before = len(self.active_channels)
            self.handle_accept()
        wasyncore.dispatcher.close(self)
        sys.setswitchinterval(interval)
