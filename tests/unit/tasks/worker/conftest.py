"""A process's models without a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scoreline_artifacts import Store
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_tasks.models.registry import Models
from tests.support.models import Predictor


@pytest.fixture
def zero() -> Callable[[int], LoadedVersion]:
    """Versions of the model `zero`."""
    return lambda version: LoadedVersion.of(
        Predictor(lambda frame: [0] * len(frame)), "zero", version=version
    )


@pytest.fixture
def models(tmp_path: Path, zero: Callable[[int], LoadedVersion]) -> Models:
    """Version 3 of the model `zero`."""
    models = Models(Store(tmp_path), max_versions=2)
    models.add(zero(3))
    return models
