"""The server: waitress, on a port that is bound first.

pserve loads the server before the application.  So a port in use is reported before a database is
started, and a SystemExit becomes pserve's exit code.
"""

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import hupper
from waitress.adjustments import Adjustments

from .. import settings
from ..db import transactions
from . import processes
from .reloading import stop_reloader_on_exit, watch_terminal
from .serving import Server


@stop_reloader_on_exit
def bind(global_config: dict[str, str], *, host: str = "", **options: Any) -> Callable[[Any], None]:
    """Bind the port, and return a function that serves an application on it.

    This is the entry point `paste.server_factory`.
    host: the address to listen on; http_host=ADDRESS on the command line overrides it.
    options: waitress's own, as its documentation lists them.
    Raises SystemExit with a sentence for each wrong setting, or else if the port can't be bound.
    """
    watch_terminal()
    checked = settings.read(global_config["__file__"], global_config)
    port = settings.port(global_config, os.environ)
    if checked.trusted_proxy != "none":
        # waitress trusts only those values of X-Forwarded-* that the trusted proxies have added.
        options["trusted_proxy"] = checked.trusted_proxy
        options["trusted_proxy_count"] = checked.trusted_proxy_count
        options["trusted_proxy_headers"] = "x-forwarded-for x-forwarded-proto x-forwarded-port"
    try:
        adjustments = Adjustments(**options)
        for name in ("threads", "connection_limit"):
            if getattr(adjustments, name) < 1:
                raise ValueError(f"without {name}, no request is answered")
    except ValueError as error:
        raise SystemExit(f"[server:main] is wrong: {error}: correct it.") from None
    host = global_config.get("http_host") or host
    if not host:
        raise SystemExit("[server:main] has no host: set it to the address to listen on.")
    transactions.check_at_start(checked, global_config["__file__"])
    # The reloader restarts one process.
    number = 1 if hupper.is_active() else checked.processes
    begin_process = _share_metrics(number) if checked.metrics_token and number > 1 else None
    try:
        listeners = _listen(host, port, number)
    except OSError as error:
        # create_server adds the address, which this sentence has already.
        why = (error.strerror or "").partition(" (while")[0]
        remedy = _remedy(error.errno, port)
        raise SystemExit(f"Can't listen on {host}, port {port} ({why}): {remedy}.") from None

    def serve(app: Any) -> None:
        shown = "localhost" if host in ("127.0.0.1", "0.0.0.0") else host  # noqa: S104

        def make_server(listener: socket.socket) -> Server:
            if begin_process is not None:  # in a child
                begin_process(listeners.index(listener))
            return Server(app, listener, adjustments)

        timeout, url = checked.graceful_timeout, f"http://{shown}:{port}"
        processes.run(listeners, make_server, url=url, graceful_timeout=timeout)

    return serve


def _listen(host: str, port: int, number: int) -> list[socket.socket]:
    """Return a number of sockets that listen on one port.  Raises OSError."""
    address, family = (host, port), socket.AF_INET6 if ":" in host else socket.AF_INET
    if number == 1:
        return [socket.create_server(address, family=family)]
    # A socket with reuse_port could share the port of another server.  This one fails instead.
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    return [socket.create_server(address, family=family, reuse_port=True) for _ in range(number)]


def _share_metrics(processes: int) -> Callable[[int], None]:
    """Let the processes share metrics, and return a function that each calls with its number.

    Raises SystemExit with a sentence.
    """
    from ..web import metrics  # It imports prometheus_client, which nothing else needs.

    try:
        metrics.share(processes)
    except OSError as error:
        raise SystemExit(
            f"METRICS_TOKEN needs a folder for the metrics of {processes} processes "
            f"({error.strerror}): make room for 200 KiB of each in /dev/shm, or in TMPDIR if there "
            "is none, or set WEB_CONCURRENCY=1."
        ) from None
    return metrics.begin_process


def _remedy(number: int | None, port: int) -> str:
    """Return the operator's remedy for an error of bind().  number: its errno."""
    another = "choose another port with PORT={0} or http_port={0}"
    if number == errno.EADDRINUSE:
        return f"stop the program that listens there, or {another.format(port + 1)}"
    if number == errno.EACCES:
        return f"this port needs root, so {another.format(port + 8000)}"
    return "choose an address of this machine with http_host=ADDRESS"
