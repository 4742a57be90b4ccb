"""Logs for machines: with SCORELINE_LOG=json, one JSON object a line, of worker, Celery and gateway alike."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

_EVENT = re.compile(r"[a-z]+(?:_[a-z]+)+(?=[ :]|$)")
_VALUE = re.compile(r"%%|(?:(\w+)=)?%[-+ #0]*\d*(?:\.\d+)?[a-zA-Z]")


class JsonLines(logging.Formatter):
    """Makes a line of each record: time, level, logger, process, message, and what the message names.

    Our messages begin with the name of an event, which becomes `event`, and say `model=%s`, which becomes `model`.
    Fields come from the message as it was written, not from its values: no value can make up a field, or a line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """A line of ASCII, without a line end."""
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        template = str(record.msg)
        if event := _EVENT.match(template):
            line["event"] = event[0]
        if isinstance(record.args, tuple):
            names = [match[1] for match in _VALUE.finditer(template) if match[0] != "%%"]
            for name, value in zip(names, record.args, strict=False):
                if name:
                    line.setdefault(name, value)
        if (trace := sys.modules.get("opentelemetry.trace")) is not None:
            context = trace.get_current_span().get_span_context()
            if context.is_valid:
                line["trace_id"] = f"{context.trace_id:032x}"
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def json_config(level: str) -> dict[str, Any]:
    """A configuration for `logging.config.dictConfig`: all loggers write such lines to standard error."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": f"{__name__}.JsonLines"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"handlers": ["stderr"], "level": level.upper()},
    }
