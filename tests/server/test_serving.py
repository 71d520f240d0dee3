"""The server stops without losing a request, and serves pages while forms wait."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from hello_login.server import serving
from hello_login.server.serving import Channel
from tests.server.sites import FORM, PAGE, Site, answer, stop


def test_a_connection_is_not_writable_while_a_thread_sends_on_it(
    run: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    writable = []
    send: Callable[..., int] = Channel.send

    def watched(channel: Channel, *arguments: Any, **options: Any) -> int:
        writable.append(channel.writable())
        return send(channel, *arguments, **options)

    monkeypatch.setattr(Channel, "send", watched)

    def during(site: Site) -> None:
        with site.open(PAGE) as page:
            assert answer(page).startswith(b"HTTP/1.1 200")
        stop()

    run(during)
    assert set(writable) == {False}


def test_pages_are_served_while_a_form_occupies_its_thread(run: Callable[..., Site]) -> None:
    def during(site: Site) -> None:
        with site.open(FORM) as form:
            site.begun.acquire()
            with site.open(PAGE) as page:
                assert answer(page).startswith(b"HTTP/1.1 200")
            site.may_end.set()
            assert answer(form).startswith(b"HTTP/1.1 200")
        stop()

    run(during)


def test_a_form_that_waits_too_long_for_a_thread_gets_a_503(
    run: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "QUEUE_SECONDS", 0.1)

    def during(site: Site) -> None:
        with site.open(FORM) as first:
            site.begun.acquire()
            with site.open(FORM) as second:
                time.sleep(0.2)
                site.may_end.set()
                assert answer(first).startswith(b"HTTP/1.1 200")
                told = answer(second, whole=True)
                assert told.startswith(b"HTTP/1.0 503")
                assert b"Retry-After: 2" in told
        stop()

    run(during)


def test_a_stopping_server_finishes_running_and_queued_requests_and_stops_listening(
    run: Callable[..., Site],
) -> None:
    def during(site: Site) -> None:
        with site.open(FORM) as running, site.open(FORM) as queued:
            site.begun.acquire()
            stop()
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    site.open(b"").close()
                    time.sleep(0.01)
                    continue
                break
            with pytest.raises(ConnectionRefusedError):
                site.open(PAGE)
            site.may_end.set()
            for connection in (running, queued):
                told = answer(connection, whole=True)
                assert told.startswith(b"HTTP/1.1 200")
                assert b"Connection: close" in told

    run(during)


def test_a_stopping_server_answers_a_kept_connection_once_more_and_closes_it(
    run: Callable[..., Site],
) -> None:
    def during(site: Site) -> None:
        with site.open(PAGE) as kept, site.open(b"") as silent:
            assert b"Connection" not in answer(kept)
            stop()
            time.sleep(0.3)
            kept.sendall(PAGE)
            assert b"Connection: close" in answer(kept, whole=True)
            assert silent.recv(1) == b""

    run(during)


def test_a_stopping_server_waits_for_a_connection_that_was_idle_before(
    run: Callable[..., Site],
) -> None:
    def during(site: Site) -> None:
        with site.open(PAGE) as kept:
            answer(kept)
            time.sleep(1.3)
            stop()
            time.sleep(0.3)
            kept.sendall(PAGE)
            assert answer(kept, whole=True).startswith(b"HTTP/1.1 200")

    run(during)


def test_a_blank_line_after_a_request_does_not_delay_a_stop(run: Callable[..., Site]) -> None:
    times = []

    def during(site: Site) -> None:
        with site.open(PAGE + b"\r\n") as kept:
            answer(kept)
            times.append(time.monotonic())
            stop()
            assert kept.recv(1) == b""
            times.append(time.monotonic())

    run(during)
    assert times[1] - times[0] < 2


def test_an_answer_has_only_one_connection_header(
    run: Callable[..., Site],
) -> None:
    def during(site: Site) -> None:
        old = b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"
        with site.open(old) as kept:
            site.begun.acquire()
            stop()
            time.sleep(0.2)
            site.may_end.set()
            head = answer(kept, whole=True)
            assert head.count(b"Connection:") == 1
            assert b"Connection: close" in head

    run(during)


def test_a_request_without_body_is_answered_though_it_expects_100_continue(
    run: Callable[..., Site],
) -> None:
    def during(site: Site) -> None:
        expecting = PAGE[:-2] + b"Expect: 100-continue\r\n\r\n"
        with site.open(expecting) as connection:
            assert answer(connection).startswith(b"HTTP/1.1 200")
            connection.sendall(PAGE)
            assert answer(connection).startswith(b"HTTP/1.1 200")
        stop()

    run(during)


def test_a_request_that_exceeds_the_graceful_timeout_is_cut_off(
    run: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    def during(site: Site) -> None:
        with site.open(FORM):
            site.begun.acquire()
            stop()
            time.sleep(0.5)
            site.may_end.set()

    run(during, graceful_timeout=0.2)
    assert "Stopped with 1 connections in use" in caplog.messages


def test_a_second_signal_ends_the_process_at_once(
    run: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)

    def during(site: Site) -> None:
        with site.open(FORM):
            site.begun.acquire()
            stop()
            time.sleep(0.2)
            stop()
            time.sleep(0.2)
            site.may_end.set()

    run(during)
    assert ended == [128 + signal.SIGTERM]


def test_a_signal_that_nohup_ignores_stays_ignored(run: Callable[..., Site]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def during(site: Site) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.2)
        with site.open(PAGE) as page:
            assert answer(page).startswith(b"HTTP/1.1 200")
        stop()

    run(during)
