"""Artifacts of any bytes, which nobody unpickles, and some that only their publisher could make."""

from __future__ import annotations

from collections.abc import Mapping

from scoreline_artifacts import Manifest, Outputs, Schema, Store
from scoreline_artifacts.manifest import MANIFEST, SIGNATURE
from scoreline_artifacts.store.signing import Purpose
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


def rewrite_manifest(store: Store, model: str, version: int, data: bytes) -> None:
    """Put other bytes in the place of a manifest, and sign them."""
    folder = store.path(model, version)
    (folder / MANIFEST).write_bytes(data)
    (folder / SIGNATURE).write_bytes(store.ring.sign(Purpose.ARTIFACT, data))


class Killed(BaseException):
    """Raised where a process is killed: no handler of errors sees it."""


def kill(*_: object) -> None:
    """Stands for the function in which a process is killed."""
    raise Killed
