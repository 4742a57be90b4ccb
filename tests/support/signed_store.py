"""Artifacts that are wrong in a way that only their publisher could have made them."""

from __future__ import annotations

from scoreline_artifacts import Store
from scoreline_artifacts.manifest import MANIFEST, SIGNATURE
from scoreline_artifacts.store.signing import Purpose


def rewrite_manifest(store: Store, model: str, version: int, data: bytes) -> None:
    """Put other bytes in the place of a manifest, and sign them."""
    folder = store.path(model, version)
    (folder / MANIFEST).write_bytes(data)
    (folder / SIGNATURE).write_bytes(store.ring.sign(Purpose.ARTIFACT, data))
