"""A process's models without a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scoreline_artifacts import Store
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_tasks.models.registry import Models


class _Zero:
    def predict(self, frame: Any) -> Any:
        return [0] * len(frame)


@pytest.fixture
def zero() -> Callable[[int], LoadedVersion]:
    """Versions of the model `zero`."""
    return lambda version: LoadedVersion.of(_Zero(), "zero", version=version)


@pytest.fixture
def models(tmp_path: Path, zero: Callable[[int], LoadedVersion]) -> Models:
    """Version 3 of the model `zero`."""
    models = Models(Store(tmp_path), max_versions=2)
    models.add(zero(3))
    return models
