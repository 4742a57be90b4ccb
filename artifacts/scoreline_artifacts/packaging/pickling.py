"""dill in, dill out.

Functions and classes of importable modules are stored by reference, whoever's modules they are; those
of `__main__`, of notebooks, lambdas and closures by value. What is referred to of the training
project's own modules comes back from the sources that travel beside (`snapshot.py`,
`namespace.py`).
"""

from __future__ import annotations

import importlib
import io
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from scoreline_artifacts import by_value
from scoreline_artifacts.loading.imports import imports_of_code
from scoreline_artifacts.packaging.origins import Origins

if TYPE_CHECKING:
    from scoreline_artifacts.loading.namespace import Namespace

PROTOCOL = 5
_SPAWNED = "__mp_main__"
_DUMPING = threading.Lock()


@dataclass(slots=True)
class Pickled:
    """A pipeline as bytes, and what these bytes refer to."""

    data: bytes
    modules: set[str] = field(default_factory=set)
    """Modules that it refers to, the project's own and installed ones."""
    imported: set[str] = field(default_factory=set)
    """Names that functions stored by value import, each a module or something inside one."""
    by_value: set[str] = field(default_factory=set)
    """Functions whose bytecode is inside, `module.name`: bound to this minor version of Python."""


def dump(pipeline: object, origins: Origins | None = None) -> Pickled:
    """Serialise a fitted pipeline.

    Raises:
        Exception: whatever the pickling of one of its parts raises.
    """
    buffer = io.BytesIO()
    pickled = Pickled(b"")
    # What dill and its warnings do is decided for the whole process.
    with _DUMPING, warnings.catch_warnings(), _one_main():
        # dill warns of what it cannot find by name and then refers to it by name: loading it tells.
        warnings.simplefilter("ignore", _dill().PicklingWarning)
        with by_value.each_function_once():
            _pickler(buffer, pickled, origins or Origins()).dump(pipeline)
    pickled.data = buffer.getvalue()
    return pickled


@contextmanager
def _one_main() -> Iterator[None]:
    """Let the script be `__main__` alone; in a process that was spawned it has a second name."""
    second = sys.modules.pop(_SPAWNED, None)
    try:
        yield
    finally:
        if second is not None:
            sys.modules[_SPAWNED] = second


def restore(data: bytes, namespace: Namespace) -> Any:
    """Unpickle bytes that were verified; never call it with others.

    `namespace` is where the modules that came along are found.
    """
    dill = _dill()

    class Unpickler(dill.Unpickler):  # type: ignore[misc, name-defined]
        """Finds the project's own modules in their private place."""

        def find_class(self, module: str, name: str) -> Any:
            found = namespace.find(module, name)
            return super().find_class(module, name) if found is None else found

    # ignore: an object of a class of training's __main__ has nothing to do with this __main__.
    return Unpickler(io.BytesIO(data), ignore=True).load()


def _dill() -> Any:
    import dill

    return dill


def _pickler(buffer: io.BytesIO, pickled: Pickled, origins: Origins) -> Any:
    dill = _dill()

    class Pickler(dill.Pickler):  # type: ignore[misc, name-defined]
        """Notes what it refers to, and refers to local modules as dill does to installed ones."""

        def save(self, obj: Any, save_persistent_id: bool = True) -> None:
            # Not in a `dispatch` of our own: dill adds to its own, for numpy, while it is at work.
            is_new = type(obj) is by_value.CACHED and id(obj) not in self.memo
            if is_new and not _is_importable(obj, *_names(obj)):
                by_value.save_cached(self, obj)
            else:
                super().save(obj, save_persistent_id)

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, ModuleType):
                return self._module(obj)
            by_value.refuse_open_file(obj)
            module, name = _names(obj)
            if not module or not name:
                return NotImplemented
            if _is_importable(obj, module, name):
                pickled.modules.add(module)
                # dill would copy some of them, such as named tuples, to be on the safe side.
                return name if origins.is_local(module) else NotImplemented
            if isinstance(obj, FunctionType):
                _note_function(obj, module, pickled)
            return by_value.reduced(obj)

        def _module(self, obj: ModuleType) -> Any:
            if sys.modules.get(obj.__name__) is not obj or obj.__name__ == "__main__":
                return NotImplemented
            pickled.modules.add(obj.__name__)
            return importlib.import_module, (obj.__name__,)

    # recurse: a function of __main__ takes along only the globals that it uses, not all of them.
    return Pickler(buffer, protocol=PROTOCOL, recurse=True)


def _note_function(function: FunctionType, module: str, pickled: Pickled) -> None:
    pickled.by_value.add(f"{module}.{function.__qualname__}")
    package = function.__globals__.get("__package__") or ""
    pickled.imported |= imports_of_code(function.__code__, package)
    pickled.imported.update(_attributes(function))


def _names(obj: Any) -> tuple[str, str]:
    """An object's module and its name there; empty for one that has none."""
    name = obj.__name__ if isinstance(obj, TypeVar) else getattr(obj, "__qualname__", None)
    module = getattr(obj, "__module__", None)
    return (module, name) if isinstance(module, str) and isinstance(name, str) else ("", "")


def _is_importable(obj: Any, module: str, name: str) -> bool:
    """Whether a reference by name gives this very object."""
    if module == "__main__":
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is obj


def _attributes(function: FunctionType) -> Iterator[str]:
    """`a.b` where a function uses the module `a` and a name `b`: it may be a module, too."""
    names = function.__code__.co_names
    used = {one: function.__globals__.get(one) for one in names}
    for module in used.values():
        if isinstance(module, ModuleType):
            yield from (f"{module.__name__}.{name}" for name in names)
