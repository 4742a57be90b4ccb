"""What dill does not store by value as it should: enums, named tuples, functions that call themselves.

Classes and functions of a training script or a notebook have no module that could travel, so the
pickle holds them whole. Artifacts refer to the `make_…` and `fill_…` functions here by name: these
stay, and keep what they do.
"""

from __future__ import annotations

import io
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import EnumMeta
from functools import _lru_cache_wrapper
from typing import Any, TypeVar

_OF_A_MEMBER = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_"})
_visited = threading.local()


def refuse_open_file(obj: object) -> None:
    """Where dill would open a file again when it is loaded, and empty one that is for writing.

    Raises:
        TypeError: the object is an open file.
    """
    if isinstance(obj, io.IOBase) and not isinstance(obj, io.BytesIO | io.StringIO):
        raise TypeError(f"cannot pickle the open file {getattr(obj, 'name', obj)!r}")


def reduced(obj: Any) -> Any:
    """How pickle is to store an object of a script, or NotImplemented if dill knows how."""
    if isinstance(obj, EnumMeta):
        return _reduced_enum(obj)
    if isinstance(obj, type) and obj.__bases__ == (tuple,) and hasattr(obj, "_field_defaults"):
        return _reduced_named_tuple(obj)
    if isinstance(obj, TypeVar):
        variance = (obj.__covariant__, obj.__contravariant__)
        return make_type_variable, (obj.__name__, obj.__bound__, obj.__constraints__, *variance)
    return NotImplemented


def _reduced_named_tuple(cls: Any) -> Any:
    shape = (cls.__name__, cls.__qualname__, cls.__module__, cls._fields, cls._field_defaults)
    return make_named_tuple, shape, _added(cls, make_named_tuple(*shape)), None, None, fill_class


def _reduced_enum(cls: Any) -> Any:
    members = {name: member.value for name, member in cls.__members__.items()}
    shape = (cls.__bases__, cls.__name__, cls.__qualname__, cls.__module__, members)
    attributes = _added(cls, make_enum(*shape))
    # What a constructor has set; it does not run again.
    set_by_members = {
        name: {key: value for key, value in vars(member).items() if key not in _OF_A_MEMBER}
        for name, member in cls.__members__.items()
    }
    # Methods come after the class: they may mention it.
    return make_enum, shape, (attributes, set_by_members), None, None, fill_enum


def _added(cls: type, plain: type) -> dict[str, Any]:
    """What a class has beyond a plain one of the same shape."""
    has = vars(plain)
    return {
        name: value
        for name, value in vars(cls).items()
        if name not in has or _code_of(value) != _code_of(has[name])
    }


def _code_of(method: Any) -> Any:
    """What tells a method that somebody wrote from the one that is made for each such class."""
    function = getattr(method, "__func__", None) or getattr(method, "fget", None) or method
    return getattr(function, "__code__", None)


def fill_class(cls: type, attributes: dict[str, Any]) -> None:
    """Give a class its methods."""
    for name, value in attributes.items():
        setattr(cls, name, value)


def make_named_tuple(
    name: str, qualname: str, module: str, fields: tuple[str, ...], defaults: dict[str, Any]
) -> Any:
    """A named tuple of these fields, and nothing else of what its class had."""
    make: Callable[..., Any] = namedtuple
    made = make(name, fields, defaults=defaults.values(), module=module)
    made.__qualname__ = qualname
    return made


def make_enum(
    bases: tuple[Any, ...], name: str, qualname: str, module: str, members: dict[str, Any]
) -> Any:
    """An enum of these members, and nothing else of what its class had."""
    kind: Any = type(bases[-1])
    body = kind.__prepare__(name, bases)
    for member, value in members.items():
        body[member] = value
    body["__module__"], body["__qualname__"] = module, qualname
    return kind(name, bases, body)


def fill_enum(cls: Any, state: tuple[dict[str, Any], dict[str, dict[str, Any]]]) -> None:
    """Give an enum its methods, and its members what their constructor had set."""
    attributes, set_by_members = state
    fill_class(cls, attributes)
    for name, values in set_by_members.items():
        cls[name].__dict__.update(values)


def make_type_variable(
    name: str, bound: Any, constraints: tuple[Any, ...], covariant: bool, contravariant: bool
) -> TypeVar:
    """A type variable; nothing looks at it when records are scored."""
    make: Callable[..., TypeVar] = TypeVar
    return make(name, *constraints, bound=bound, covariant=covariant, contravariant=contravariant)


def save_cached(pickler: Any, function: Any) -> None:
    """How dill is to store what `lru_cache` made: its function may mention it."""
    from dill import _dill

    parameters = function.cache_parameters()
    arguments = (parameters["maxsize"], parameters["typed"], function.__wrapped__)
    _dill._save_with_postproc(pickler, (make_cached, arguments), obj=function)


CACHED = _lru_cache_wrapper
"""The type of what `lru_cache` makes."""


def make_cached(maxsize: int | None, typed: bool, function: Callable[..., Any]) -> Any:
    """A function with an empty cache."""
    from functools import lru_cache

    return lru_cache(maxsize, typed)(function)


@contextmanager
def each_function_once() -> Iterator[None]:
    """Let dill look once into each function when it collects the globals that one uses.

    dill follows functions into functions and back again, without end where one calls itself through a
    closure. Each function is stored with globals of its own, so nothing is lost by looking once.
    """
    from dill import detect

    original = detect.globalvars

    def globalvars(function: Any, recurse: bool = True, builtin: bool = False) -> Any:
        seen = getattr(_visited, "functions", None)
        if seen is None:
            _visited.functions = {id(function)}
            try:
                return original(function, recurse, builtin)
            finally:
                _visited.functions = None
        if id(function) in seen:
            return {}
        seen.add(id(function))
        return original(function, recurse, builtin)

    detect.globalvars = globalvars
    try:
        yield
    finally:
        detect.globalvars = original
