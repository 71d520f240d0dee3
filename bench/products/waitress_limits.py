"""Serve the smallest applications on waitress: python -m waitress_limits PORT pyramid|bare."""

import logging
import os
import signal
import socket
import sys

import waitress
from pyramid.config import Configurator

BODY = b'{"answer": "Hello World, Little Dude, How Are You?"}'
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))]


def app(_environ, start_response):
    start_response("200 OK", HEADERS)
    return [BODY]


if sys.argv[2] == "pyramid":
    answer = {"answer": "Hello World, Little Dude, How Are You?"}
    with Configurator() as config:
        config.add_route("home", "/")
        config.add_view(lambda _request: answer, route_name="home", renderer="json")
    app = config.make_wsgi_app()
address = ("127.0.0.1", int(sys.argv[1]))
first, second = (socket.create_server(address, reuse_port=True) for _ in range(2))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that a child that has ended is forgotten
(mine, other) = (first, second) if os.fork() else (second, first)
other.close()
logging.getLogger("waitress.queue").setLevel(logging.ERROR)
waitress.serve(app, sockets=[mine], threads=4, ident=None)
