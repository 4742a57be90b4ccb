"""Serialises a fitted pipeline with dill, and records which modules the bytes refer to.

Functions and classes of importable modules are stored by reference, the project's own and installed ones
alike; those of `__main__`, of notebooks, lambdas and closures are stored by value. On loading, references to
the project's own modules lead to the sources that travel beside the pickle (`sources.py` takes them along,
`loading/namespace.py` imports them).

What dill stores by value wrongly or not at all is stored here: enums, named tuples, functions that call
themselves. `scoreline_artifacts.by_value` makes such an object again when a version is loaded.
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
from enum import EnumMeta
from functools import _lru_cache_wrapper
from pathlib import PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeVar

from scoreline_artifacts import by_value
from scoreline_artifacts.dependencies import ModuleOrigins, imports_of_code

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
    by_value: dict[str, CodeType] = field(default_factory=dict)
    """Functions whose bytecode is inside, by `module.name`: only this minor version of Python runs it."""


def dump(pipeline: object, origins: ModuleOrigins | None = None) -> PickledPipeline:
    """Serialise a fitted pipeline.

    Raises:
        Exception: whatever the pickling of one of its parts raises.
    """
    import dill

    buffer = io.BytesIO()
    pickled = PickledPipeline(b"")
    # Admits one thread at a time: warnings and sys.modules belong to the whole process.
    with no_repeated_globals_walk(), warnings.catch_warnings():
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

    codes: dict[int, CodeType] = {}

    class Pickler(dill.Pickler):  # type: ignore[misc]
        def save(self, obj: Any, save_persistent_id: bool = True) -> None:
            # Not in a `dispatch` of our own: dill adds to its own, for numpy, while it pickles.
            if isinstance(obj, CodeType):
                # Its file's name tells tracebacks enough, and the folders of this machine are nobody's business.
                name = PurePath(obj.co_filename).name
                obj = codes.setdefault(id(obj), obj.replace(co_filename=name))
            is_new = type(obj) is CachedFunction and id(obj) not in self.memo
            if is_new and not _is_importable(obj, *_qualified_name(obj)):
                save_cached(self, obj)
            else:
                super().save(obj, save_persistent_id)

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, ModuleType):
                if sys.modules.get(obj.__name__) is not obj or obj.__name__ == "__main__":
                    return NotImplemented
                pickled.modules.add(obj.__name__)
                return importlib.import_module, (obj.__name__,)
            refuse_open_file(obj)
            module, name = _qualified_name(obj)
            if not module or not name:
                return NotImplemented
            if _is_importable(obj, module, name):
                pickled.modules.add(module)
                # dill would store a copy of some local objects, such as named tuples, to be on the safe side.
                return name if origins.is_local(module) else NotImplemented
            if isinstance(obj, FunctionType):
                pickled.by_value[f"{module}.{obj.__qualname__}"] = obj.__code__
                package = obj.__globals__.get("__package__") or ""
                pickled.imported |= imports_of_code(obj.__code__, package)
                # A function that uses the module `a` and a name `b` may mean the module `a.b`.
                names = obj.__code__.co_names
                for used in map(obj.__globals__.get, names):
                    if isinstance(used, ModuleType):
                        pickled.imported.update(f"{used.__name__}.{name}" for name in names)
            return reduce_by_value(obj)

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
    for attribute in name.split("."):
        candidate = getattr(candidate, attribute, None)
    return candidate is obj


CachedFunction = _lru_cache_wrapper
"""The type of a function that `lru_cache` has wrapped."""
_ENUM_MEMBER_ATTRIBUTES = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_"})
_REPLACING = threading.Lock()


def refuse_open_file(obj: object) -> None:
    """Refuse a file object, which dill would open again on loading, and truncate if it is for writing.

    Raises:
        TypeError: the object is an open file.
    """
    if isinstance(obj, io.IOBase) and not isinstance(obj, io.BytesIO | io.StringIO):
        raise TypeError(f"cannot pickle the open file {getattr(obj, 'name', obj)!r}")


def reduce_by_value(obj: Any) -> Any:
    """Pickle's reduction of an object that is stored by value, or NotImplemented if dill stores it rightly."""
    if isinstance(obj, EnumMeta):
        enum: Any = obj
        members = {name: member.value for name, member in enum.__members__.items()}
        arguments: Any = (
            enum.__bases__,
            enum.__name__,
            enum.__qualname__,
            enum.__module__,
            members,
        )
        methods = _added_attributes(enum, by_value.make_enum(*arguments))
        # Attributes that the members' constructor has set: it does not run again on loading.
        member_attributes = {
            name: {
                key: value
                for key, value in vars(member).items()
                if key not in _ENUM_MEMBER_ATTRIBUTES
            }
            for name, member in enum.__members__.items()
        }
        # Methods are the state, which is stored after the class, since they may refer to it.
        state = (methods, member_attributes)
        return by_value.make_enum, arguments, state, None, None, by_value.fill_enum
    if isinstance(obj, type) and obj.__bases__ == (tuple,) and hasattr(obj, "_field_defaults"):
        cls: Any = obj
        arguments = (
            cls.__name__, cls.__qualname__, cls.__module__, cls._fields, cls._field_defaults,
        )  # fmt: skip
        methods = _added_attributes(cls, by_value.make_named_tuple(*arguments))
        return by_value.make_named_tuple, arguments, methods, None, None, by_value.fill_class
    if isinstance(obj, TypeVar):
        variance = (obj.__covariant__, obj.__contravariant__)
        arguments = (obj.__name__, obj.__bound__, obj.__constraints__, *variance)
        return by_value.make_type_variable, arguments
    return NotImplemented


def _added_attributes(cls: type, plain: type) -> dict[str, Any]:
    """The attributes that a class has beyond a plain one of the same shape."""

    def code_of(method: Any) -> Any:
        # Code tells a method that somebody wrote from the one that Python makes for each such class.
        function = getattr(method, "__func__", None) or getattr(method, "fget", None) or method
        return getattr(function, "__code__", None)

    generated = vars(plain)
    return {
        name: value
        for name, value in vars(cls).items()
        if name not in generated or code_of(value) != code_of(generated[name])
    }


def save_cached(pickler: Any, function: Any) -> None:
    """Let a dill pickler store a function of `lru_cache`, which may refer to itself."""
    from dill import _dill

    parameters = function.cache_parameters()
    arguments = (parameters["maxsize"], parameters["typed"], function.__wrapped__)
    _dill._save_with_postproc(pickler, (by_value.make_cached, arguments), obj=function)


@contextmanager
def no_repeated_globals_walk() -> Iterator[None]:
    """Let dill visit each function once when it collects the globals that a function uses, in this thread.

    `dill.detect.globalvars` follows functions into functions, and never ends where one calls itself through a
    closure. Each function is stored with globals of its own, so that one visit loses nothing. It calls
    itself by its name in `dill.detect`, so replacing that name is the only way in. Other threads that use
    dill meanwhile get dill's own behaviour; a lock admits one thread at a time to the block.
    """
    from dill import detect

    with _REPLACING:
        original = detect.globalvars
        thread = threading.get_ident()
        visited: set[int] | None = None

        def globalvars(function: Any, recurse: bool = True, builtin: bool = False) -> Any:
            nonlocal visited
            if threading.get_ident() != thread:
                return original(function, recurse, builtin)
            if visited is not None:
                if id(function) in visited:
                    return {}
                visited.add(id(function))
                return original(function, recurse, builtin)
            visited = {id(function)}
            try:
                return original(function, recurse, builtin)
            finally:
                visited = None

        detect.globalvars = globalvars
        try:
            yield
        finally:
            detect.globalvars = original
