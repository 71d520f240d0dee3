"""Metrics for Prometheus at /metrics, behind a token.

The module is imported only if METRICS_TOKEN is set.  With several serving processes, each counts in
files that all of them map into memory, and any of them answers with the sums (the multiprocess mode
of prometheus_client).
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hmac import compare_digest
from pathlib import Path
from typing import Any

import psycopg2
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from pyramid.httpexceptions import HTTPUnauthorized
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED

from ..repositories import mails

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which prometheus_client finds the folder of its files."""

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the folder in it is private
"""A file system that is writable even in a container with a read-only root."""

FILE_BYTES = {"counter": 1 << 16, "histogram": 1 << 16, "gauge_livesum": 1 << 12}
"""The sizes of a process's files, by the beginnings of their names: twice the size that all routes
need."""

BUCKETS = (0.025, 0.1, 0.5, 2.5)
"""Seconds: a page, a password hash, a busy server, and a database that hardly answers.  They are
few, since each bucket is one more series for each route."""

COUNTED_FROM_START = ("logged_in", "login_failed", "login_throttled")
"""The series of these events begin at 0, since Prometheus sees no increase in a first value."""

MOST_MAILS = 1000
"""The number up to which the outbox is counted, so that a scrape takes the same time in a flood."""

_process = "parent"
"""The name of this process in the names of its files."""


def share(processes: int) -> None:
    """Create the folder for the metrics of several processes.  Call it before creating Metrics.

    The files are filled now: the kernel kills a process that writes to a mapped file for which the
    disk has no room.  Raises OSError.
    """
    parent = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="hello_login-metrics-", dir=parent)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for process in (_process, *range(processes)):
        for kind, size in FILE_BYTES.items():
            Path(folder, f"{kind}_{process}.db").write_bytes(bytes(size))
    os.environ[FOLDER_VARIABLE] = folder
    # By default, files have the id of their process, and each restart would leave some behind.
    values.ValueClass = values.MultiProcessValue(lambda: _process)


def begin_process(number: int) -> None:
    """Let this process count in the files with this number, which starts at 0.

    A replaced process had the same number: its counts go on, and its gauges are set again.
    """
    global _process
    _process = str(number)


def includeme(config: Any) -> None:
    """Add the view of /metrics, and registry.metrics, which counts."""
    config.registry.metrics = Metrics()
    config.add_view(show_metrics, route_name="metrics", permission=NO_PERMISSION_REQUIRED)


class Metrics:
    """The metrics of one application, in this process or, after share(), in several."""

    def __init__(self) -> None:
        disable_created_metrics()  # They would double the number of series.
        self._registry = CollectorRegistry()
        self._requests = self._make(
            Counter, "requests", "Answered requests.", labelnames=("route", "status")
        )
        self._seconds = self._make(
            Histogram,
            "request_seconds",
            "Time to answer, without the time in a queue.",
            labelnames=("route",),
            buckets=BUCKETS,
        )
        self._events = self._make(
            Counter, "events", "Events of the security log.", labelnames=("event",)
        )
        for event in COUNTED_FROM_START:
            self._events.labels(event)
        self._gauges = {
            name: self._make(Gauge, name, text, multiprocess_mode="livesum")
            for name, text in {
                "forms_waiting": "Forms that wait for a thread.",
                "hash_workers_busy": "Passwords that are being hashed.",
                "hashes_waiting": "Passwords that wait to be hashed.",
                "connections_in_use": "Connections to PostgreSQL in use.",
            }.items()
        }

    def _make(self, kind: Callable[..., Any], name: str, text: str, **options: Any) -> Any:
        return kind(f"hello_login_{name}", text, registry=self._registry, **options)

    def count_request(self, route: str | None, status: int, seconds: float) -> None:
        """Count an answered request.  route: the route's name, or None if no route matches."""
        route = route or "none"
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def count_event(self, name: str) -> None:
        """Count an event of the security log."""
        self._events.labels(name).inc()

    def set_gauges(self, **gauges: int) -> None:
        """Set the gauges of this process."""
        for name, value in gauges.items():
            self._gauges[name].set(value)

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all processes."""
        shared = FOLDER_VARIABLE in os.environ
        return (MultiProcessCollector(None) if shared else self._registry).collect()


class Scrape:
    """The metrics of one answer: those of the processes, and those of the database."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics; those of the outbox only if the database answers."""
        yield from self._request.registry.metrics.collect()
        outbox = None
        with suppress(psycopg2.Error), self._request.autocommit() as db:
            outbox = mails.count(db, MOST_MAILS)
        yield GaugeMetricFamily(
            "hello_login_database_up", "Whether the database answers.", value=outbox is not None
        )
        if outbox is not None:
            waiting, failed = outbox
            yield GaugeMetricFamily(
                "hello_login_mails_waiting", f"Mails to be sent, up to {MOST_MAILS}.", value=waiting
            )
            yield GaugeMetricFamily(
                "hello_login_mails_failed", f"Mails given up, up to {MOST_MAILS}.", value=failed
            )


def show_metrics(request: Any) -> Any:
    """Return the metrics in Prometheus' text format to a client that sends the token.

    Raises HTTPUnauthorized.
    """
    sent = request.environ.get("HTTP_AUTHORIZATION", "").encode("latin-1")
    if not compare_digest(sent, f"Bearer {request.registry.hello_login.metrics_token}".encode()):
        raise HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})
    metrics = generate_latest(Scrape(request))
    return Response(metrics, headerlist=[("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)])
