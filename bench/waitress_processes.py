"""Run waitress, which has a single process, in several processes that share a port.

python waitress_processes.py PORT THREADS PROCESSES MODULE:APPLICATION
"""

import importlib
import logging
import os
import signal
import socket
import sys

import waitress


def main() -> None:
    """Serve until SIGTERM."""
    port, threads, processes, name = sys.argv[1:]
    address = ("127.0.0.1", int(port))
    # One socket for each process: of a shared one, the same process would nearly always accept.
    listeners = [socket.create_server(address, reuse_port=True) for _ in range(int(processes))]
    # At WARNING, waitress logs each request that waits for a thread.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - the import path has strings
    children = []
    for listener in listeners:
        child = os.fork()
        if child == 0:
            for other in set(listeners) - {listener}:
                other.close()
            module, _, attribute = name.partition(":")
            app = getattr(importlib.import_module(module), attribute)
            waitress.serve(app, sockets=[listener], threads=int(threads), ident=None)
            return
        children.append(child)

    def stop(*_: object) -> None:
        for each in children:
            os.kill(each, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
