"""What a line of the log looks like, and the one place that writes the security log's."""

import json
import logging
import time
from typing import Any

from .repositories.events import Event

security_log = logging.getLogger("hello_login.security_log")


def log_security_event(event: Event) -> None:
    """Write the security log's line on an event; it never holds what was typed."""
    fields = {name: value for name, value in event._asdict().items() if value is not None}
    security_log.info(fields.pop("event"), extra={"fields": fields})


class PlainFormatter(logging.Formatter):
    """Lines to be read by people: the ini file's format, and what else there is as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, unless there is a traceback."""
        fields = getattr(record, "fields", {})
        return " ".join([super().format(record), *(f"{name}={fields[name]}" for name in fields)])


class JSONFormatter(logging.Formatter):
    """Lines to be read by programs: one JSON object each, so no text can begin another line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; time is UTC (RFC 3339)."""
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
