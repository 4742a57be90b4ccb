"""One JSON object a line, with what its message names."""

from __future__ import annotations

import json
import logging
import logging.config
from typing import Any

import pytest

from scoreline_client import ClientSettings, SettingsError
from scoreline_client.logs import JsonLines, json_config


def _line(message: Any, *args: Any, **other: Any) -> dict[str, Any]:
    record = logging.LogRecord("scoreline_tasks", logging.WARNING, "f.py", 1, message, args, None)
    record.__dict__.update(other)
    text = JsonLines().format(record)
    assert text.isascii()
    assert "\n" not in text
    line: dict[str, Any] = json.loads(text)
    return line


def test_a_line_has_the_event_and_the_fields_that_its_message_names() -> None:
    line = _line("requests_claimed lane=%s count=%d: 100 %% of %r", "online", 3, {"a": 1})
    assert line["message"] == "requests_claimed lane=online count=3: 100 % of {'a': 1}"
    assert (line["event"], line["lane"], line["count"]) == ("requests_claimed", "online", 3)
    assert (line["level"], line["logger"]) == ("WARNING", "scoreline_tasks")
    assert line["time"].endswith("+00:00")


def test_no_value_makes_up_a_field_or_a_line() -> None:
    line = _line(
        "request_failed path=%s: %s level=%s", "x\ny count=4", "level=9 \x1b[2J\u2028", "low"
    )
    assert line["path"] == "x\ny count=4"
    assert "count" not in line
    assert line["level"] == "WARNING"


def test_messages_of_others_are_lines_too() -> None:
    assert "event" not in _line("Task %(name)s succeeded", {"name": "x"})
    assert _line(ValueError("what is no text"))["message"] == "what is no text"
    error = ValueError("bad\nvalue")
    caught = (ValueError, error, None)
    assert "ValueError: bad" in _line("batch_failed", exc_info=caught)["exception"]


def test_the_configuration_is_one_for_all_loggers(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logging.config.dictConfig(json_config("warning"))
        logging.getLogger("uvicorn.error").warning("no newline here")
    finally:
        root.handlers, root.level = before[0], before[1]
    assert json.loads(capsys.readouterr().err)["logger"] == "uvicorn.error"


def test_another_form_of_logs_is_refused() -> None:
    assert ClientSettings.from_environment({"SCORELINE_LOG": "json"}).log == "json"
    with pytest.raises(SettingsError, match=r"SCORELINE_LOG.*one of text, json"):
        ClientSettings.from_environment({"SCORELINE_LOG": "xml"})
