"""Stores by value what dill stores wrongly or not at all: enums, named tuples, functions that call themselves.

A class or function of a training script or a notebook is in no module that could travel, so the pickle holds
the whole of it. What makes such an object again when a version is loaded is in `scoreline_artifacts.by_value`.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import EnumMeta
from functools import _lru_cache_wrapper
from typing import Any, TypeVar

from scoreline_artifacts import by_value

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
            name: {k: v for k, v in vars(member).items() if k not in _ENUM_MEMBER_ATTRIBUTES}
            for name, member in enum.__members__.items()
        }
        # Methods are a state, stored after the class, since they may refer to it.
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
