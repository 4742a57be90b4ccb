"""Unpickles the pipeline of a version, finding the modules that travelled with it in its namespace."""

from __future__ import annotations

import io
from typing import Any

from scoreline_artifacts.loading.namespace import Namespace


def unpickle(data: bytes, namespace: Namespace) -> Any:
    """Unpickle verified bytes: unpickling executes whatever the bytes say, so never call it with others.

    `namespace` holds the modules that travelled with the version.
    """
    import dill

    class Unpickler(dill.Unpickler):  # type: ignore[misc]
        def find_class(self, module: str, name: str) -> Any:
            private = namespace.find(module, name)
            return super().find_class(module, name) if private is None else private

    # ignore: an object of a class of training's __main__ has nothing to do with this process's __main__.
    return Unpickler(io.BytesIO(data), ignore=True).load()
