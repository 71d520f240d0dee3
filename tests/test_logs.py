"""What a line of the log looks like."""

import json
import logging
import sys

import pytest

from hello_login import logs
from hello_login.repositories.events import Event


def record(message: str, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("hello_login", logging.INFO, __file__, 1, message, (), None)
    made.__dict__.update(more)
    return made


def test_an_event_is_a_line_with_its_name_and_what_is_known_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "hello_login")
    logs.log_security_event(Event("logged_in", 17, "0123456789ab", "192.0.2.1", "f00"))
    logs.log_security_event(Event("deleted", 17, None, None, None))
    first, second = (logs.PlainFormatter("%(name)s: %(message)s").format(r) for r in caplog.records)
    fields = "user_id=17 fingerprint=0123456789ab address=192.0.2.1 request_id=f00"
    assert first == f"hello_login.security_log: logged_in {fields}"
    assert second == "hello_login.security_log: deleted user_id=17"


def test_a_line_of_json_tells_when_in_utc_what_and_all_its_fields() -> None:
    line = logs.JSONFormatter().format(
        record("logged_in", fields={"user_id": 17}, created=0.5, msecs=500)
    )
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.500Z",
        "level": "INFO",
        "logger": "hello_login",
        "message": "logged_in",
        "user_id": 17,
    }


def test_no_text_begins_another_line_of_json() -> None:
    line = logs.JSONFormatter().format(record("one\ntwo\r\u2028three\x00"))
    assert line.isprintable()
    assert json.loads(line)["message"] == "one\ntwo\r\u2028three\x00"


def test_a_traceback_is_in_the_same_line_of_json() -> None:
    try:
        raise RuntimeError("what went wrong")
    except RuntimeError:
        made = record("Unexpected error", exc_info=sys.exc_info())
    line = logs.JSONFormatter().format(made)
    assert line.isprintable()
    assert "RuntimeError: what went wrong" in json.loads(line)["traceback"]
