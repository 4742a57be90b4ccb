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


def options_of(kind: type[_Options], given: _Options | Mapping[str, Any] | None) -> _Options:
    """The options of a call: as they are, of a mapping of some by name, or the defaults of None.

    Raises:
        SettingsError: it is something else, or one of them is not known or has a value that is not permitted.
    """
    if given is None:
        return kind()
    names = sorted(option.name for option in fields(kind))
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise SettingsError("options", name, f"one of {', '.join(names)}")
        given = kind(**given)
    if not isinstance(given, kind):
        expected = f"a {kind.__name__}, or a mapping of some of {', '.join(names)}"
        raise SettingsError("options", given, expected)
    return given.checked if isinstance(given, RequestOptions) else given


def path_of(name: str, given: str | os.PathLike[str]) -> str:
    """A path or a URL as text.

    Raises:
        SettingsError: it is none, or none that a system takes.
    """
    try:
        text = os.fspath(given)
        is_usable = isinstance(text, str) and text != "" and b"\x00" not in os.fsencode(text)
    except (TypeError, ValueError):
        is_usable = False
    if not is_usable:
        raise SettingsError(name, given, "a path or a URL")
    return str(given)


def target_of(given: str | os.PathLike[str]) -> str:
    """The same for a file that is to be written.

    Raises:
        SettingsError: it is none, or has no name.
    """
    text = path_of("target", given)
    if not Path(text).name:
        raise SettingsError("target", given, "the path or URL of a file")
    return text


def given_as(
    name: str, given: _T, kinds: type | tuple[type, ...] | Callable[[Any], bool], expected: str
) -> _T:
    """An argument that is of a type, or for which a question has the answer yes.

    Raises:
        SettingsError: it is not; the message says what is expected.
    """
    is_one = isinstance(given, kinds) if isinstance(kinds, type | tuple) else kinds(given)
    if not is_one:
        raise SettingsError(name, given, expected)
    return given


def version_of(given: object) -> int:
    """The number of a version.

    Raises:
        SettingsError: it is none.
    """
    if not isinstance(given, int) or isinstance(given, bool) or not 0 < given < 10**9:
        raise SettingsError("version", given, "the number of a version, from 1 up")
    return given
