"""What callers give for arguments, looked at before anything is done with it: options, paths, numbers, functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from scoreline_client.errors import SettingsError
from scoreline_client.options import BulkOptions, RequestOptions

_Options = TypeVar("_Options", RequestOptions, BulkOptions)
_T = TypeVar("_T")


def options_of(kind: type[_Options], options: _Options | Mapping[str, Any] | None) -> _Options:
    """The options of a call: as they are, from a mapping of option names to values, or the defaults for None.

    Raises:
        SettingsError: it is anything else, an option is not known, or its value is not permitted.
    """
    if options is None:
        return kind()
    names = sorted(field.name for field in fields(kind))
    if isinstance(options, Mapping):
        for name in options:
            if name not in names:
                raise SettingsError("options", name, f"one of {', '.join(names)}")
        options = kind(**options)
    if not isinstance(options, kind):
        expected = f"a {kind.__name__}, or a mapping of some of {', '.join(names)}"
        raise SettingsError("options", options, expected)
    return options.checked if isinstance(options, RequestOptions) else options


def path_of(name: str, value: str | os.PathLike[str]) -> str:
    """A path or a URL as text.

    Raises:
        SettingsError: it is none, or none that a system takes.
    """
    try:
        text = os.fspath(value)
        is_usable = isinstance(text, str) and text != "" and b"\x00" not in os.fsencode(text)
    except (TypeError, ValueError):
        is_usable = False
    if not is_usable:
        raise SettingsError(name, value, "a path or a URL")
    return str(value)


def target_of(value: str | os.PathLike[str]) -> str:
    """The same for a file that is to be written.

    Raises:
        SettingsError: it is none, or has no name.
    """
    text = path_of("target", value)
    if not Path(text).name:
        raise SettingsError("target", value, "the path or URL of a file")
    return text


def given_as(
    name: str, value: _T, kinds: type | tuple[type, ...] | Callable[[Any], bool], expected: str
) -> _T:
    """The argument, if it is of one of these types, or if the function `kinds` returns true for it.

    Raises:
        SettingsError: it is not; the message says what is expected.
    """
    is_valid = isinstance(value, kinds) if isinstance(kinds, type | tuple) else kinds(value)
    if not is_valid:
        raise SettingsError(name, value, expected)
    return value


def version_of(version: object) -> int:
    """The number of a version.

    Raises:
        SettingsError: it is none.
    """
    if not isinstance(version, int) or isinstance(version, bool) or not 0 < version < 10**9:
        raise SettingsError("version", version, "the number of a version, from 1 up")
    return version
