"""The server stops without losing a request, and serves pages while forms wait."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from hello_login.db.connections import ConnectionPool
from hello_login.repositories import events
from hello_login.server import serving
from hello_login.server.serving import Channel
from tests.rows import DROP_NEXT_MONTH, execute
from tests.server.sites import FORM, PAGE, Site, receive, send_sigterm, wait_for


def test_a_connection_is_not_writable_while_a_thread_sends_on_it(
    serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    writable = []
    send: Callable[..., int] = Channel.send

    def recording_send(channel: Channel, *arguments: Any, **options: Any) -> int:
        writable.append(channel.writable())
        return send(channel, *arguments, **options)

    monkeypatch.setattr(Channel, "send", recording_send)

    def client(site: Site) -> None:
        with site.connect(PAGE) as page:
            assert receive(page).startswith(b"HTTP/1.1 200")
        send_sigterm()

    serve(client)
    assert set(writable) == {False}


def test_pages_are_served_while_a_form_occupies_its_thread(serve: Callable[..., Site]) -> None:
    def client(site: Site) -> None:
        with site.connect(FORM) as form:
            site.form_began.acquire()
            with site.connect(PAGE) as page:
                assert receive(page).startswith(b"HTTP/1.1 200")
            site.form_may_end.set()
            assert receive(form).startswith(b"HTTP/1.1 200")
        send_sigterm()

    serve(client)


def test_a_form_that_waits_too_long_for_a_thread_gets_a_503(
    serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    def client(site: Site) -> None:
        with site.connect(FORM) as first:
            site.form_began.acquire()
            monkeypatch.setattr(serving, "QUEUE_SECONDS", 0.1)
            with site.connect(FORM) as second:
                wait_for(lambda: site.server.form_dispatcher.queue)
                time.sleep(0.2)
                site.form_may_end.set()
                assert receive(first).startswith(b"HTTP/1.1 200")
                response = receive(second, until_closed=True)
                assert response.startswith(b"HTTP/1.0 503")
                assert b"Retry-After: 2" in response
        send_sigterm()

    serve(client)


def test_a_stopping_server_finishes_running_and_queued_requests_and_stops_listening(
    serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "QUEUE_SECONDS", 60)  # for a busy machine

    def client(site: Site) -> None:
        with site.connect(FORM) as running, site.connect(FORM) as queued:
            site.form_began.acquire()
            send_sigterm()
            wait_for(site.has_closed_its_port)
            with pytest.raises(ConnectionRefusedError):
                site.connect(PAGE)
            site.form_may_end.set()
            for connection in (running, queued):
                response = receive(connection, until_closed=True)
                assert response.startswith(b"HTTP/1.1 200")
                assert b"Connection: close" in response

    serve(client)


def test_a_stopping_server_answers_a_kept_connection_once_more_and_closes_it(
    serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "IDLE_SECONDS", 30)

    def client(site: Site) -> None:
        with site.connect(PAGE) as kept, site.connect(b"") as silent:
            assert b"Connection" not in receive(kept)
            send_sigterm()
            wait_for(site.has_closed_its_port)
            time.sleep(0.3)
            kept.sendall(PAGE)
            assert b"Connection: close" in receive(kept, until_closed=True)
            monkeypatch.setattr(serving, "IDLE_SECONDS", 0)
            assert silent.recv(1) == b""

    serve(client)


def test_a_stopping_server_waits_for_a_connection_that_was_idle_before(
    serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "IDLE_SECONDS", 30)

    def client(site: Site) -> None:
        with site.connect(PAGE) as kept:
            receive(kept)
            (channel,) = site.server.active_channels.values()
            channel.last_activity -= 60
            send_sigterm()
            wait_for(site.has_closed_its_port)
            time.sleep(0.3)
            kept.sendall(PAGE)
            assert receive(kept, until_closed=True).startswith(b"HTTP/1.1 200")

    serve(client)


def test_a_blank_line_after_a_request_does_not_delay_a_stop(serve: Callable[..., Site]) -> None:
    times = []

    def client(site: Site) -> None:
        with site.connect(PAGE + b"\r\n") as kept:
            receive(kept)
            times.append(time.monotonic())
            send_sigterm()
            assert kept.recv(1) == b""
            times.append(time.monotonic())

    serve(client, graceful_timeout=30)
    assert times[1] - times[0] < 15


def test_an_answer_has_only_one_connection_header(
    serve: Callable[..., Site],
) -> None:
    def client(site: Site) -> None:
        http_1_0_form = b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"
        with site.connect(http_1_0_form) as kept:
            site.form_began.acquire()
            send_sigterm()
            wait_for(site.has_closed_its_port)
            site.form_may_end.set()
            head = receive(kept, until_closed=True)
            assert head.count(b"Connection:") == 1
            assert b"Connection: close" in head

    serve(client)


def test_a_request_without_body_is_answered_though_it_expects_100_continue(
    serve: Callable[..., Site],
) -> None:
    def client(site: Site) -> None:
        expecting = PAGE[:-2] + b"Expect: 100-continue\r\n\r\n"
        with site.connect(expecting) as connection:
            assert receive(connection).startswith(b"HTTP/1.1 200")
            connection.sendall(PAGE)
            assert receive(connection).startswith(b"HTTP/1.1 200")
        send_sigterm()

    serve(client)


def test_a_request_that_exceeds_the_graceful_timeout_is_cut_off(
    serve: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    def client(site: Site) -> None:
        with site.connect(FORM) as form:
            site.form_began.acquire()
            send_sigterm()
            assert form.recv(1) == b""
            site.form_may_end.set()

    serve(client, graceful_timeout=0.2)
    assert "Stopped, and cut off 1 connections" in caplog.messages


def test_a_second_signal_ends_the_process_at_once(
    serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    exit_codes: list[int] = []
    monkeypatch.setattr(os, "_exit", exit_codes.append)

    def client(site: Site) -> None:
        with site.connect(FORM):
            site.form_began.acquire()
            send_sigterm()
            wait_for(site.has_closed_its_port)
            assert exit_codes == []
            send_sigterm()
            wait_for(lambda: exit_codes)
            site.form_may_end.set()

    serve(client)
    assert exit_codes == [128 + signal.SIGTERM]


def test_a_signal_that_nohup_ignores_stays_ignored(serve: Callable[..., Site]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def client(site: Site) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.2)
        with site.connect(PAGE) as page:
            assert receive(page).startswith(b"HTTP/1.1 200")
        send_sigterm()

    serve(client)


def test_a_server_prepares_the_coming_months_and_says_if_it_cannot(
    serve: Callable[..., Site],
    url: str,
    database: Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(serving, "PREPARE_MONTHS_SECONDS", 0.01)
    execute(database, DROP_NEXT_MONTH)

    def client(_site: Site) -> None:
        wait_for(lambda: "The events of next month have no partition" in caplog.text)
        execute(
            database,
            """
            SELECT pg_terminate_backend(pid)
              FROM pg_stat_activity
             WHERE datname = current_database()
               AND application_name = 'hello_login'
            """,
        )
        reading.close()
        wait_for(lambda: events.has_next_month(database))
        execute(database, DROP_NEXT_MONTH)
        wait_for(lambda: events.has_next_month(database))
        send_sigterm()

    with closing(psycopg2.connect(url)) as reading:
        execute(reading, "SELECT FROM account_events_default")
        serve(client, registry=SimpleNamespace(pool=ConnectionPool(url)))


def test_the_thread_that_prepares_months_ends_with_the_server(
    serve: Callable[..., Site], url: str
) -> None:
    def is_running() -> bool:
        return any(each.name == "months" for each in threading.enumerate())

    def client(_site: Site) -> None:
        wait_for(is_running)
        send_sigterm()

    pool = ConnectionPool(url)
    serve(client, registry=SimpleNamespace(pool=pool))
    wait_for(lambda: not is_running())
    pool.acquire().close()
