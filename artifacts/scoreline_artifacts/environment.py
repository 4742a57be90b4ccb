"""Differences between this environment and that of training, and which of them are fatal."""

from __future__ import annotations

import importlib.util
import logging
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

from scoreline_artifacts.errors import UnfitEnvironment
from scoreline_artifacts.manifest import Manifest

logger = logging.getLogger(__name__)

PYTHON, SCORELINE = "python", "scoreline"
ALWAYS = (PYTHON, "dill", "joblib", "numpy", "pandas", "scikit-learn", "scipy")
"""Distributions that every pipeline depends on, whether its pickle names them or not."""
_EXACT = frozenset({"dill", "numpy", "pandas", "scikit-learn"})
"""Pickles of these are not promised to mean the same from one minor version to the next."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A library, or Python, whose version here is not that of training."""

    name: str
    """`python`, or a distribution."""
    trained: str
    here: str | None
    """Its version, or None where it is not installed."""
    fatal: bool
    """Whether the pipeline cannot work here; otherwise the golden rows decide."""
    reason: str
    """The message: consequence and remedy."""


def versions_of(distributions: Iterable[str]) -> dict[str, str]:
    """Versions of those distributions that are installed here; `python` is one of them."""
    versions = {name: _version(name) for name in sorted(distributions)}
    return {name: version for name, version in versions.items() if version is not None}


def differences(manifest: Manifest, *, strict: bool = False) -> list[Difference]:
    """Differences from the environment of training that may matter; fatal ones first."""
    differing = []
    for name, trained in manifest.libraries.items():
        here = _version(name)
        if here is None:
            # Its module may come from another distribution: xgboost also comes as xgboost-cpu.
            module = manifest.modules.get(name)
            is_missing = module is None or importlib.util.find_spec(module) is None
            reason = f"{name} {trained} is not installed"
            if not is_missing:
                reason += ", but the module that it provides is here"
            differing.append(Difference(name, trained, None, is_missing, reason))
        elif _minor(here) != _minor(trained) and name != PYTHON:
            reason = f"trained with {name} {trained}, here is {here}"
            differing.append(Difference(name, trained, here, strict and name in _EXACT, reason))
        elif _minor(here) != _minor(trained):
            reason = f"trained with Python {trained}, here is {here}"
            if manifest.by_value:
                functions = ", ".join(manifest.by_value[:3])
                reason += (
                    f"; it holds the bytecode of functions ({functions}), which runs on Python "
                    f"{_minor(trained)} only. Run the worker on that, or move them into a module"
                )
            differing.append(
                Difference(name, trained, here, bool(manifest.by_value) or strict, reason)
            )
    for name, trained in manifest.imports.items():
        if name not in manifest.libraries and _version(name) is None:
            reason = f"{name} {trained}, which its sources import, is not installed"
            differing.append(Difference(name, trained, None, False, reason))
    return sorted(differing, key=lambda difference: not difference.fatal)


def requirements(manifest: Manifest) -> list[str]:
    """The distributions to install for a version, as lines for `pip install -r`: those of training, pinned."""
    pinned = manifest.imports | manifest.libraries
    python, scoreline = pinned.pop(PYTHON, None), pinned.pop(SCORELINE, None)
    header = f"# {manifest.model}@{manifest.version}"
    if python is not None:
        header += f", trained with Python {python}"
        if manifest.by_value:
            header += f"; needs Python {_minor(python)}, whose bytecode it holds"
    lines = [header]
    if scoreline is not None:
        # Not pinned: a worker has Scoreline already, perhaps a later one, and no index need have it.
        lines.append(f"# {SCORELINE} {scoreline} was there in training: as your workers have it")
    return lines + [f"{name}=={version}" for name, version in sorted(pinned.items())]


def repair(manifest: Manifest) -> str:
    """What to do where this environment lacks what a version needs; ends without a full stop."""
    reference = f"{manifest.model}@{manifest.version}"
    return (
        f"`scoreline inspect {reference} --requirements > requirements.txt`, then "
        "`pip install -r requirements.txt`, gives an environment what training had; start its worker anew afterwards"
    )


def check(manifest: Manifest, *, strict: bool = False) -> None:
    """Refuse an environment in which a version cannot work, and log what else is different.

    Raises:
        UnfitEnvironment: it cannot work here, or, if `strict`, was not proven to.
    """
    differing = differences(manifest, strict=strict)
    fatal = [difference for difference in differing if difference.fatal]
    if fatal:
        # pip cannot install another Python.
        is_for_pip = any(difference.name != PYTHON for difference in fatal)
        advice = [repair(manifest)] if is_for_pip else []
        reasons = [difference.reason for difference in fatal]
        raise UnfitEnvironment(manifest.model, manifest.version, [*reasons, *advice])
    for difference in differing:
        logger.warning(
            "environment_differs model=%s version=%s: %s; its golden rows decide",
            manifest.model,
            manifest.version,
            difference.reason,
        )


def _version(distribution: str) -> str | None:
    if distribution == PYTHON:
        return platform.python_version()
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
