"""waitress with a graceful stop, and with separate threads for forms.

waitress alone ends at once on SIGTERM or, as the first process of a container, never.  After an
exception it gives its threads 5 s to finish.  But it cancels queued requests and drops unsent
output, and new connections hang until the process has ended.
"""

import contextlib
import functools
import logging
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

import hupper
import psycopg2
from pyramid.httpexceptions import HTTPServiceUnavailable
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

from ..auth import audit
from ..auth.clients import Client, parse_address
from ..db.connections import ConnectionPool
from ..mail.sender import Sender
from .tasks import ErrorTask, Parser, Task

log = logging.getLogger(__name__)

IDLE_SECONDS = 1.0
"""A stopping server closes a kept-alive connection that has been silent for this time, and not
earlier: a request may be on its way."""

QUEUE_SECONDS = 2.0
"""A form that has waited longer than this for a thread is answered with a 503."""

HEAD_SECONDS, REQUEST_SECONDS = 30, 60
"""Time limits for the head of a request and for all of it, from its first byte on.  Apache's
defaults are similar (RequestReadTimeout header=20-40 body=20)."""

CONNECTIONS_PER_NETWORK = 100
"""The number of connections that an IPv4 address or an IPv6 /64 may have at once, of the 1,000 that
connection_limit allows."""

PREPARE_MONTHS_SECONDS = 24 * 60 * 60.0
"""The time between two looks for the coming months of account_events."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Channel(HTTPChannel):
    """The connection of one client."""

    parser_class = Parser
    task_class = Task
    error_task_class: Any = ErrorTask
    began_at: float | None = None
    queued_at = 0.0
    sending = False

    @functools.cached_property
    def networks(self) -> dict[str, int]:
        """Return the networks of the client, as Client.networks does."""
        return Client(parse_address(self.addr[0])).networks

    def received(self, data: bytes) -> bool:
        """Parse received bytes.  The first one begins a request, even if it is of a blank line."""
        if self.began_at is None:
            self.began_at = time.monotonic()
        return bool(super().received(data))

    def is_overdue(self) -> bool:
        """Return whether the next request exceeds HEAD_SECONDS or REQUEST_SECONDS."""
        if self.requests or self.began_at is None:
            return False
        request: Any = self.request
        has_head = request is not None and request.headers_finished
        seconds = REQUEST_SECONDS if has_head else HEAD_SECONDS
        return time.monotonic() - self.began_at > seconds

    def writable(self) -> bool:
        """Return whether there is output that no thread is sending right now.

        With True while a thread sends, poll() would return at once, again and again, and keep the
        interpreter's lock from that thread.
        """
        return not self.sending and bool(super().writable())

    def _flush_some(self, do_close: bool = True) -> bool:
        self.sending = True
        try:
            return bool(super()._flush_some(do_close))  # type: ignore[misc]  # it has it
        finally:
            self.sending = False

    def service(self) -> None:
        """Answer the next request; with a 503 if it is a form that exceeds QUEUE_SECONDS."""
        self.began_at = None
        request: Any = self.requests[0]
        waited = time.monotonic() - self.queued_at
        if self.is_form() and waited > QUEUE_SECONDS and not request.error:
            request.error = HTTPServiceUnavailable(headers={"Retry-After": "2"})
        super().service()

    def is_form(self) -> bool:
        """Return whether the next request is a form."""
        return getattr(self.requests[0], "command", "") == "POST"

    def is_idle(self) -> bool:
        """Return whether there is neither a request nor an answer on the connection."""
        request: Any = self.request
        # A blank line after the last request does not begin another one (RFC 9112, 2.2).
        begun = request and (request.headers_finished or request.header_plus.strip())
        return not (self.requests or begun or self.total_outbufs_len)


class Server(TcpWSGIServer):
    """A server with two pools of threads, equally large: one for forms, one for pages.

    Only forms verify passwords, which is expensive.  Pages are served while many forms wait.
    """

    channel_class = Channel
    # types-waitress lacks these, or declares them differently.
    active_channels: Any
    trigger: Any
    _map: Any

    def __init__(self, app: Any, listener: socket.socket, adjustments: Adjustments) -> None:
        """Prepare to serve an application on a socket that listens.

        app: if it has a registry, its mail_sender runs as long as the server.  So does a thread
        that uses its pool to prepare the coming months of account_events.  Its metrics, if it has
        them, get the gauges of this process.
        """
        self._registry: Any = getattr(app, "registry", None)
        self._mail_sender: Sender | None = getattr(self._registry, "mail_sender", None)
        self._pool: ConnectionPool | None = getattr(self._registry, "pool", None)
        self.form_dispatcher = ThreadedTaskDispatcher()
        self.form_dispatcher.set_thread_count(adjustments.threads)
        self.stopping = False
        self._stopped = threading.Event()
        sockinfo = (listener.family, listener.type, listener.proto, listener.getsockname())
        super().__init__(app, _sock=listener, adj=adjustments, sockinfo=sockinfo, bind_socket=False)

    def accept(self) -> Any:
        """Accept a connection, and close it if its network has too many."""
        accepted = super().accept()
        if accepted is not None and self._has_too_many_connections(accepted[1][0]):
            accepted[0].close()
            return None
        return accepted

    def _has_too_many_connections(self, address: str) -> bool:
        """Return whether a network of the address is at its limit of connections.

        A trusted proxy has no limit, because it has the connections of many clients.
        """
        if self.adj.trusted_proxy in ("*", address):
            return False
        channels = self.active_channels.values()
        return any(
            sum(network in each.networks for each in channels) >= CONNECTIONS_PER_NETWORK * factor
            for network, factor in Client(parse_address(address)).networks.items()
        )

    def maintenance(self, now: int) -> None:
        """Close the connections that are idle for too long, or that send a request too slowly.

        Also set the gauges: every few seconds, so that requests do not have to.
        """
        super().maintenance(now)
        for channel in self.active_channels.values():
            if channel.is_overdue():
                channel.will_close = True
        metrics = getattr(self._registry, "metrics", None)
        if metrics is not None:
            busy, waiting = self._registry.passwords.count_begun()
            metrics.set_gauges(
                forms_waiting=len(self.form_dispatcher.queue),
                hash_workers_busy=busy,
                hashes_waiting=waiting,
                connections_in_use=self._registry.pool.count_lent(),
            )

    def add_task(self, task: Any) -> None:
        """Queue a connection with a complete request for a thread."""
        task.queued_at = time.monotonic()
        dispatcher = self.form_dispatcher if task.is_form() else self.task_dispatcher
        dispatcher.add_task(task)

    def stop_at_signals(self) -> None:
        """Let a signal stop the server, and a second one end the process at once."""
        # Under the reloader, reloading.py handles signals.  nohup ignores SIGHUP.
        for number in () if hupper.is_active() else SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._stop)
        # Another thread may receive the signal: this wakes the thread of run_until_stopped().
        os.set_blocking(self.trigger.trigger, False)
        signal.set_wakeup_fd(self.trigger.trigger)

    def run_until_stopped(self, graceful_timeout: float) -> None:
        """Serve until `stopping` is true, then finish the requests that have begun.

        graceful_timeout: in seconds; the requests that take longer are cut off.
        """
        if self._mail_sender is not None:
            self._mail_sender.start()
        if self._pool is not None:
            months = threading.Thread(
                target=self._keep_months, args=(self._pool,), name="months", daemon=True
            )
            months.start()
        while not self.stopping:
            self._step(self.adj.asyncore_loop_timeout)
        self._stopped.set()
        if self._mail_sender is not None:
            self._mail_sender.stop()
        self._stop_listening()
        self._drain(graceful_timeout)
        for dispatcher in (self.task_dispatcher, self.form_dispatcher):
            dispatcher.shutdown(timeout=1)
        signal.set_wakeup_fd(-1)
        self.trigger.close()

    def _drain(self, graceful_timeout: float) -> None:
        """Finish the requests that have begun, and the mail that is being sent."""
        stopped = time.time()
        while self.active_channels and time.time() < stopped + graceful_timeout:
            for channel in list(self.active_channels.values()):
                silent = time.time() - max(channel.last_activity, stopped)
                if silent > IDLE_SECONDS and channel.is_idle():
                    channel.will_close = True
            self._step(0.05)
        if self.active_channels:
            log.warning("Stopped, and cut off %s connections", len(self.active_channels))
            for channel in list(self.active_channels.values()):
                channel.handle_close()
        if self._mail_sender is not None:
            self._mail_sender.join(max(0.0, stopped + graceful_timeout - time.time()))

    def _keep_months(self, pool: ConnectionPool) -> None:
        """Prepare the coming months of account_events, now and daily until the server stops."""
        while not self._stopped.is_set():
            # If the database is unreachable, every request says so.
            with contextlib.suppress(psycopg2.Error), pool.autocommit() as db:
                problem = audit.prepare_months(db)
                if problem is not None:
                    log.error("%s", problem)
            self._stopped.wait(PREPARE_MONTHS_SECONDS)

    def _stop(self, number: int, _frame: object) -> None:
        if self.stopping:
            os._exit(128 + number)
        self.stopping = True

    def _step(self, seconds: float) -> None:
        wasyncore.loop(seconds, use_poll=self.adj.asyncore_use_poll, map=self._map, count=1)

    def _stop_listening(self) -> None:
        """Accept the connections that the kernel has queued, and close the listening socket."""
        # The kernel resets a connection that arrives between the last accept and the close.  So
        # this thread must not wait long for the interpreter's lock between the two.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        before = -1
        while len(self.active_channels) != before:
            before = len(self.active_channels)
            self.handle_accept()
        wasyncore.dispatcher.close(self)
        sys.setswitchinterval(interval)
