"""Log lines on stderr: ``key=value`` text for people and grep, or JSON for collectors.

The event name comes first and is stable; what varies follows as fields (``log.info("run ended", extra={"job": ...})``).
Refuses to log anything that is not handed over on purpose: no locals, no settings, no environment.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in record.__dict__.items() if key not in _OWN}


class TextFormatter(logging.Formatter):
    """``2026-01-02T03:04:05Z warning keepwatch.daemon event="run failed" job=documents``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and the traceback of a bug below it."""
        parts = [
            datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            record.levelname.lower(),
            record.name,
            f"event={_quoted(record.getMessage())}",
            *(f"{key}={_quoted(value)}" for key, value in _fields(record).items()),
        ]
        line = " ".join(parts)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``at``, ``level``, ``logger``, ``event`` and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; a traceback goes into ``traceback``."""
        row: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row, default=str, ensure_ascii=False)


def configure(log_format: Literal["text", "json"] = "text", level: int = logging.INFO) -> None:
    """Send everything from ``level`` up to stderr; replaces what was configured before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or any(c in text for c in ' "=\n\t') else text
