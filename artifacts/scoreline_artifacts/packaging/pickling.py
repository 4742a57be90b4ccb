"""Serialises a fitted pipeline with dill, and records which modules the bytes refer to.

Functions and classes of importable modules are stored by reference, the project's own and installed ones
alike; those of `__main__`, of notebooks, lambdas and closures are stored by value. On loading, references to
the project's own modules lead to the sources that travel beside the pickle (`sources.py` takes them along,
`loading/namespace.py` imports them).
"""

from __future__ import annotations

import importlib
import io
import sys
import warnings
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any, TypeVar

from scoreline_artifacts.dependencies import ModuleOrigins, imports_of_code
from scoreline_artifacts.packaging import dill_fixes

PROTOCOL = 5
_SPAWNED_MAIN = "__mp_main__"


@dataclass(slots=True)
class PickledPipeline:
    """A pipeline as bytes, and the modules and functions in these bytes."""

    data: bytes
    modules: set[str] = field(default_factory=set)
    """Modules that it refers to, the project's own and installed ones."""
    imported: set[str] = field(default_factory=set)
    """Names that functions stored by value import, each a module or an attribute of one."""
    by_value: set[str] = field(default_factory=set)
    """Functions whose bytecode is inside, `module.name`: only this minor version of Python runs it."""


def dump(pipeline: object, origins: ModuleOrigins | None = None) -> PickledPipeline:
    """Serialise a fitted pipeline.

    Raises:
        Exception: whatever the pickling of one of its parts raises.
    """
    import dill

    buffer = io.BytesIO()
    pickled = PickledPipeline(b"")
    # Admits one thread at a time: warnings and sys.modules belong to the whole process.
    with dill_fixes.no_repeated_globals_walk(), warnings.catch_warnings():
        # dill warns of what it cannot find by name and then refers to it by name: the clean room tells.
        warnings.simplefilter("ignore", dill.PicklingWarning)
        # In a spawned process the script has a second name, and its objects must not be stored under that.
        spawned_main = sys.modules.pop(_SPAWNED_MAIN, None)
        try:
            _pickler(buffer, pickled, origins or ModuleOrigins()).dump(pipeline)
        finally:
            if spawned_main is not None:
                sys.modules[_SPAWNED_MAIN] = spawned_main
    pickled.data = buffer.getvalue()
    return pickled


def _pickler(buffer: io.BytesIO, pickled: PickledPipeline, origins: ModuleOrigins) -> Any:
    """A dill pickler that records in `pickled` what it refers to. Made here: dill is imported when needed."""
    import dill

    class Pickler(dill.Pickler):  # type: ignore[misc]
        def save(self, obj: Any, save_persistent_id: bool = True) -> None:
            # Not in a `dispatch` of our own: dill adds to its own, for numpy, while it pickles.
            is_new = type(obj) is dill_fixes.CachedFunction and id(obj) not in self.memo
            if is_new and not _is_importable(obj, *_qualified_name(obj)):
                dill_fixes.save_cached(self, obj)
            else:
                super().save(obj, save_persistent_id)

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, ModuleType):
                if sys.modules.get(obj.__name__) is not obj or obj.__name__ == "__main__":
                    return NotImplemented
                pickled.modules.add(obj.__name__)
                return importlib.import_module, (obj.__name__,)
            dill_fixes.refuse_open_file(obj)
            module, name = _qualified_name(obj)
            if not module or not name:
                return NotImplemented
            if _is_importable(obj, module, name):
                pickled.modules.add(module)
                # dill would store a copy of some local objects, such as named tuples, to be on the safe side.
                return name if origins.is_local(module) else NotImplemented
            if isinstance(obj, FunctionType):
                pickled.by_value.add(f"{module}.{obj.__qualname__}")
                package = obj.__globals__.get("__package__") or ""
                pickled.imported |= imports_of_code(obj.__code__, package)
                # A function that uses the module `a` and a name `b` may mean the module `a.b`.
                names = obj.__code__.co_names
                for used in map(obj.__globals__.get, names):
                    if isinstance(used, ModuleType):
                        pickled.imported.update(f"{used.__name__}.{name}" for name in names)
            return dill_fixes.reduce_by_value(obj)

    # recurse: a function of __main__ takes along only the globals that it uses, not all of them.
    return Pickler(buffer, protocol=PROTOCOL, recurse=True)


def _qualified_name(obj: Any) -> tuple[str, str]:
    """An object's module and its name in it; empty strings for an object without them."""
    name = obj.__name__ if isinstance(obj, TypeVar) else getattr(obj, "__qualname__", None)
    module = getattr(obj, "__module__", None)
    return (module, name) if isinstance(module, str) and isinstance(name, str) else ("", "")


def _is_importable(obj: Any, module: str, name: str) -> bool:
    """Whether importing a module and looking the name up in it gives this very object."""
    if module == "__main__":
        return False
    candidate: Any = sys.modules.get(module)
    for part in name.split("."):
        candidate = getattr(candidate, part, None)
    return candidate is obj
