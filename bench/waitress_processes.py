"""waitress, which has no processes of its own, in several that share one socket.

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
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=1024)
    # Otherwise it writes a line for each request that has to wait for a thread.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - the import path has strings
    children = []
    for _ in range(int(processes)):
        child = os.fork()
        if child == 0:
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
