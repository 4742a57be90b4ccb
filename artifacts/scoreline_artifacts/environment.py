"""Whether an environment can serve what was trained in another one."""

from __future__ import annotations

import importlib.util
import logging
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata

from scoreline_artifacts.errors import UnfitEnvironment
from scoreline_artifacts.manifest import Manifest

logger = logging.getLogger(__name__)

PYTHON = "python"
ALWAYS = (PYTHON, "dill", "joblib", "numpy", "pandas", "scikit-learn", "scipy")
"""Distributions that every pipeline is made with, whether its pickle names them or not."""
_EXACT = frozenset({"dill", "numpy", "pandas", "scikit-learn"})
"""Pickles of these are not promised to mean the same from one minor version to the next."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which this environment is not that of training."""

    name: str
    """`python`, or a distribution."""
    trained: str
    here: str | None
    """Its version, or None where it is not installed."""
    fatal: bool
    """Whether it cannot work; otherwise the golden rows decide."""
    reason: str
    """What it means and what to do about it."""


def versions_of(distributions: Iterable[str]) -> dict[str, str]:
    """Versions of those distributions that are installed here; `python` is one of them."""
    found = {name: _version(name) for name in sorted(distributions)}
    return {name: here for name, here in found.items() if here is not None}


def differences(manifest: Manifest, *, strict: bool = False) -> list[Difference]:
    """How this environment differs from that of training, where it may matter; fatal ones first."""
    found = [*_python(manifest, strict=strict), *_libraries(manifest, strict=strict)]
    return sorted(found, key=lambda one: not one.fatal)


def check(manifest: Manifest, *, strict: bool = False) -> None:
    """Refuse an environment in which a version cannot work, and log what else is different.

    Raises:
        UnfitEnvironment: it cannot work here, or, if `strict`, was not proven to.
    """
    found = differences(manifest, strict=strict)
    fatal = [one.reason for one in found if one.fatal]
    if fatal:
        raise UnfitEnvironment(manifest.model, manifest.version, fatal)
    for one in found:
        logger.warning(
            "environment_differs model=%s version=%s: %s; its golden rows decide",
            manifest.model,
            manifest.version,
            one.reason,
        )


def _python(manifest: Manifest, *, strict: bool) -> Iterator[Difference]:
    trained, here = manifest.libraries.get(PYTHON), platform.python_version()
    if trained is None or _minor(trained) == _minor(here):
        return
    reason = f"trained with Python {trained}, here is {here}"
    if manifest.by_value:
        shown = ", ".join(manifest.by_value[:3])
        reason += (
            f"; it holds the bytecode of functions ({shown}), which runs on Python "
            f"{_minor(trained)} only. Run the worker on that, or move them into a module"
        )
    yield Difference(PYTHON, trained, here, bool(manifest.by_value) or strict, reason)


def _libraries(manifest: Manifest, *, strict: bool) -> Iterator[Difference]:
    for name, trained in manifest.libraries.items():
        here = _version(name)
        if name == PYTHON or here == trained:
            continue
        if here is None:
            missing = not _is_found(manifest.modules.get(name))
            reason = f"{name} is not installed; pip install '{name}=={trained}'"
            if not missing:
                reason = f"{name} {trained} is not installed, but what it brings is here"
            yield Difference(name, trained, None, missing, reason)
        elif _minor(here) != _minor(trained):
            reason = f"trained with {name} {trained}, here is {here}"
            yield Difference(name, trained, here, strict and name in _EXACT, reason)
    for name, trained in manifest.imports.items():
        if name not in manifest.libraries and _version(name) is None:
            reason = f"{name} {trained}, which its sources import, is not installed"
            yield Difference(name, trained, None, False, reason)


def _version(distribution: str) -> str | None:
    if distribution == PYTHON:
        return platform.python_version()
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _is_found(module: str | None) -> bool:
    """Whether a module is here, from whatever distribution: xgboost comes as xgboost-cpu, too."""
    return module is not None and importlib.util.find_spec(module) is not None


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
