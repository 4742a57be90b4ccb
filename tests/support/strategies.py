"""Artifacts of any bytes, which nobody unpickles."""

from __future__ import annotations

from collections.abc import Mapping

from scoreline_artifacts import Manifest, Outputs, Schema
from scoreline_artifacts.store.store import describe_file


def manifest_of(files: Mapping[str, bytes], version: int, model: str = "pima") -> Manifest:
    """A manifest that lists these files."""
    return Manifest(
        model=model,
        version=version,
        created_at="2026-01-31T12:00:00+00:00",
        files={name: describe_file(data) for name, data in files.items()},
        schema=Schema(()),
        outputs=Outputs(method="predict"),
    )
