"""The format of log lines, plain and JSON."""

import json
import logging
import sys

import pytest

from hello_login import logs
from hello_login.repositories.events import Event


def make_record(message: str, **more: object) -> logging.LogRecord:
    record = logging.LogRecord("hello_login", logging.INFO, __file__, 1, message, (), None)
    record.__dict__.update(more)
    return record


def test_an_event_is_logged_with_its_name_and_its_known_fields(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "hello_login")
    logs.log_security_event(Event("logged_in", 17, "0123456789ab", "192.0.2.1", "f00", "curl"))
    logs.log_security_event(Event("deleted", 17))
    first, second = (logs.PlainFormatter("%(name)s: %(message)s").format(r) for r in caplog.records)
    fields = "user_id=17 fingerprint=0123456789ab address=192.0.2.1 request_id=f00 device=curl"
    assert first == f"hello_login.security_log: logged_in {fields}"
    assert second == "hello_login.security_log: deleted user_id=17"


def test_a_json_line_has_the_utc_time_the_message_and_all_fields() -> None:
    line = logs.JSONFormatter().format(
        make_record("logged_in", fields={"user_id": 17}, created=0.5, msecs=500)
    )
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.500Z",
        "level": "INFO",
        "logger": "hello_login",
        "message": "logged_in",
        "user_id": 17,
    }


def test_a_message_with_line_breaks_stays_in_one_json_line() -> None:
    line = logs.JSONFormatter().format(make_record("one\ntwo\r\u2028three\x00"))
    assert line.isprintable()
    assert json.loads(line)["message"] == "one\ntwo\r\u2028three\x00"


def test_a_traceback_stays_in_one_json_line() -> None:
    try:
        raise RuntimeError("what went wrong")
    except RuntimeError:
        record = make_record("Unexpected error", exc_info=sys.exc_info())
    line = logs.JSONFormatter().format(record)
    assert line.isprintable()
    assert "RuntimeError: what went wrong" in json.loads(line)["traceback"]
