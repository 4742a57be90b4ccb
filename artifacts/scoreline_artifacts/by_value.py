"""The functions that published pickles call by name to make enums, named tuples and cached functions again.

Each function stays here, under its name and with its meaning, as long as artifacts exist that refer to it.
`packaging/pickling.py` writes these references.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any, TypeVar


def make_enum(
    bases: tuple[Any, ...], name: str, qualname: str, module: str, members: dict[str, Any]
) -> Any:
    """An enum with these members and without methods of its own."""
    metaclass: Any = type(bases[-1])
    body = metaclass.__prepare__(name, bases)
    for member, value in members.items():
        body[member] = value
    body["__module__"], body["__qualname__"] = module, qualname
    return metaclass(name, bases, body)


def fill_enum(cls: Any, state: tuple[dict[str, Any], dict[str, dict[str, Any]]]) -> None:
    """Give an enum its methods, and its members the attributes that their constructor had set."""
    attributes, member_attributes = state
    fill_class(cls, attributes)
    for name, values in member_attributes.items():
        cls[name].__dict__.update(values)


def make_named_tuple(
    name: str, qualname: str, module: str, fields: tuple[str, ...], defaults: dict[str, Any]
) -> Any:
    """A named tuple with these fields and without methods of its own."""
    make: Callable[..., Any] = namedtuple
    cls = make(name, fields, defaults=defaults.values(), module=module)
    cls.__qualname__ = qualname
    return cls


def fill_class(cls: type, attributes: dict[str, Any]) -> None:
    """Give a class its methods."""
    for name, value in attributes.items():
        setattr(cls, name, value)


def make_type_variable(
    name: str, bound: Any, constraints: tuple[Any, ...], covariant: bool, contravariant: bool
) -> TypeVar:
    """A type variable, which scoring never reads."""
    make: Callable[..., TypeVar] = TypeVar
    return make(name, *constraints, bound=bound, covariant=covariant, contravariant=contravariant)


def make_cached(maxsize: int | None, typed: bool, function: Callable[..., Any]) -> Any:
    """A function of `lru_cache` with an empty cache."""
    from functools import lru_cache

    return lru_cache(maxsize, typed)(function)
