"""A store of which a test decides what is in it, and a process's models."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scoreline_artifacts import Release, Store, UnknownVersionError
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.manifest import Outputs
from scoreline_artifacts.store.releases import Head
from scoreline_artifacts.store.storage import Storage
from scoreline_tasks.models import registry as models_module
from scoreline_tasks.models.registry import Models


class Shelf:
    """A store of versions 1 to 9 of every model, whose releases and accidents a test decides."""

    def __init__(self) -> None:
        self.logs: dict[tuple[str, str], list[Release] | Exception] = {}
        self.broken: dict[int, Exception] = {}
        self.now = 0.0
        self.loads: list[int] = []
        self.looks = 0
        """How often the logs were listed, or the versions that are in use."""
        self.in_memory: list[int] = []
        """How many versions were in memory whenever another one was loaded."""
        self._alive: weakref.WeakSet[LoadedVersion] = weakref.WeakSet()

    storage = Storage(Path("/shelf"))

    def identity_id(self) -> str:
        return "of-the-shelf"

    def release(self, version: int, model: str = "m", alias: str = "production") -> None:
        log = self.logs.setdefault((model, alias), [])
        assert isinstance(log, list)
        log.append(Release(model=model, alias=alias, version=version, sequence=len(log) + 1))

    def verified(self, model: str, version: int, _sha256: str | None = None) -> None:
        if version > 9:
            raise UnknownVersionError(model, version, list(range(1, 10)))

    def load(self, _store: Store, model: str, version: int, **_: Any) -> LoadedVersion:
        self.loads.append(version)
        self.in_memory.append(len(self._alive))
        if version in self.broken:
            raise self.broken[version]
        loaded = _Loaded(
            pipeline=None, model=model, version=version, outputs=Outputs(method="predict")
        )
        self._alive.add(loaded)
        return loaded

    def load_unproven(
        self, store: Store, model: str, version: int, **_: Any
    ) -> tuple[LoadedVersion, Callable[[], None]]:
        return self.load(store, model, version), lambda: None

    def history(
        self, _store: Any, model: str, alias: str, *, trusted_only: bool = True
    ) -> list[Release]:
        log = self.logs.get((model, alias), [])
        if isinstance(log, Exception):
            raise log
        return log

    def newest(self, store: Any, model: str, alias: str, *, seen: Any) -> Release | None:
        return next(reversed(self.history(store, model, alias)), None)

    def in_use(self, _store: Any, model: str, _now: Any) -> dict[int, str]:
        self.looks += 1
        logs = (log for (name, _), log in self.logs.items() if name == model)
        return {one.version: "" for log in logs if isinstance(log, list) for one in log}

    def heads(self, _store: Any) -> list[Head]:
        self.looks += 1
        return [
            Head(*alias, len(log) if isinstance(log, list) else 0)
            for alias, log in sorted(self.logs.items())
        ]


class _Loaded(LoadedVersion):
    """One that can be watched while it lives."""

    __slots__ = ("__weakref__",)

    def __hash__(self) -> int:
        return id(self)


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    shelf = Shelf()
    monkeypatch.setattr(models_module, "load_unproven", shelf.load_unproven)
    monkeypatch.setattr(models_module, "releases", shelf)
    monkeypatch.setattr(models_module, "retention", shelf)
    return shelf


@pytest.fixture
def open_models(shelf: Shelf) -> Callable[..., Models]:
    def open_them(**options: Any) -> Models:
        return Models(shelf, 2, clock=lambda: shelf.now, **options)  # type: ignore[arg-type]

    return open_them


@pytest.fixture
def models(open_models: Callable[..., Models]) -> Models:
    return open_models()
