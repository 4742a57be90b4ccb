"""Publishing without the parts that cost seconds, for tests that are not about them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scoreline_artifacts.packaging import clean_room
from scoreline_training import publishing


@contextmanager
def clean_room_in_this_process() -> Iterator[None]:
    """Let versions be proved in this process, which has all that they need; nothing is isolated."""

    def call(work: str, folder: Path, _limit_s: float) -> Any:
        module, _, function = work.partition(":")
        result = getattr(importlib.import_module(module), function)(folder)
        return json.loads(json.dumps(result, default=str))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clean_room, "run_in_clean_room", call)
        yield


@contextmanager
def no_report() -> Iterator[None]:
    """Let versions be published without a training report."""
    # Importing the report's own type would take a second, and bring libraries that pipelines then need not import.
    drawn = SimpleNamespace(html=b"<p>none</p>", figures={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "_report", lambda *_, **__: drawn)
        yield
