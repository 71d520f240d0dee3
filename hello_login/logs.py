"""Log formats, and the only function that writes to the security log."""

import json
import logging
import time
from typing import Any

from .repositories.events import Event

security_log = logging.getLogger("hello_login.security_log")


def log_security_event(event: Event) -> None:
    """Write the event to the security log.  The line never holds text that a user typed."""
    fields = {name: value for name, value in event._asdict().items() if value is not None}
    security_log.info(fields.pop("event"), extra={"fields": fields})


class PlainFormatter(logging.Formatter):
    """Formats lines for people: the .ini file's format, then the record's fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, followed by the traceback if there is one."""
        fields = getattr(record, "fields", {})
        return " ".join([super().format(record), *(f"{name}={fields[name]}" for name in fields)])


class JSONFormatter(logging.Formatter):
    """Formats lines for programs: a JSON object each, so that no text can begin a new line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; its time is in UTC (RFC 3339)."""
        entry: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{record.msecs:03.0f}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)
