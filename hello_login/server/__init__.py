"""waitress, on a port that is bound before anything else is started.

pserve loads the server before the application, so a port in use is told before a database is
started for nothing; and only there does a SystemExit become pserve's exit code.
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
from .reloading import ends_the_reloader, watch_for_the_end
from .serving import Server


@ends_the_reloader
def bind(global_config: dict[str, str], *, host: str, **options: Any) -> Callable[[Any], None]:
    """Listen, and return what serves an application there (the entry point `paste.server_factory`).

    host: the address to listen on, unless http_host=ADDRESS is on the command line; the port is
        settings.port()'s.
    options: waitress's own, as its documentation lists them.
    Raises SystemExit with a sentence when the port can't be had, or for each setting that is wrong:
    those are told first, and all together, as the application would.
    """
    watch_for_the_end()
    checked = settings.read(global_config["__file__"], global_config)
    port = settings.port(global_config, os.environ)
    options |= _trusting(checked)
    try:
        adjustments = Adjustments(**options)
    except ValueError as error:
        raise SystemExit(f"[server:main] is wrong: {error}: correct it.") from None
    transactions.check_at_start(checked, global_config["__file__"])
    host = global_config.get("http_host") or host
    try:
        # The reloader ends and starts this process alone.
        listeners = _listen(host, port, 1 if hupper.is_active() else checked.processes)
    except OSError as error:
        # create_server adds what stands in the sentence already.
        why = (error.strerror or "").partition(" (while")[0]
        raise SystemExit(
            f"Can't listen on {host}, port {port} ({why}): {_remedy(error.errno, port)}."
        ) from None

    def serve(app: Any) -> None:
        shown = "localhost" if host in ("127.0.0.1", "0.0.0.0") else host  # noqa: S104

        def make(listener: socket.socket) -> Server:
            return Server(app, listener, adjustments)

        timeout, url = checked.graceful_timeout, f"http://{shown}:{port}"
        processes.run(listeners, make, url=url, graceful_timeout=timeout)

    return serve


def _listen(host: str, port: int, number: int) -> list[socket.socket]:
    """So many sockets that listen there."""
    address, family = (host, port), socket.AF_INET6 if ":" in host else socket.AF_INET
    if number == 1:
        return [socket.create_server(address, family=family)]
    # Those of another server would share the port as well: so first one that would not.
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    return [socket.create_server(address, family=family, reuse_port=True) for _ in range(number)]


def _remedy(number: int | None, port: int) -> str:
    """Return what to do when a socket can't be bound, by the number of the error."""
    another = "choose another port with PORT={0} or http_port={0}"
    if number == errno.EADDRINUSE:
        return f"end what listens there, or {another.format(port + 1)}"
    if number == errno.EACCES:
        return f"this port needs root, so {another.format(port + 8000)}"
    return "choose an address of this machine with http_host=ADDRESS"


def _trusting(checked: settings.Settings) -> dict[str, Any]:
    """Return waitress's options to believe proxies in what they added themselves."""
    if checked.trusted_proxy == "none":
        return {}
    return {
        "trusted_proxy": checked.trusted_proxy,
        "trusted_proxy_count": checked.trusted_proxy_count,
        "trusted_proxy_headers": "x-forwarded-for x-forwarded-proto x-forwarded-port",
    }
