"""Which names may stand in a store: of models and aliases, of versions, of an artifact's files."""

from __future__ import annotations

import re
from collections.abc import Iterable

from scoreline_artifacts.errors import InvalidName

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_NUMBER = re.compile(r"[1-9][0-9]*")
_RULE = "small letters, digits, '_', '.' and '-', starting with a letter or digit, at most 64 characters"
_FILE_RULE = (
    "names of folders and of a file with '/' between them; none of them empty, '.' or '..', "
    "no backslash, no control character, at most 255 bytes each and 1000 in all"
)


def check_name(name: str) -> str:
    """Return a name that may be a directory's.

    Raises:
        InvalidName: it may not.
    """
    if not is_name(name):
        raise InvalidName(name, _RULE)
    return name


def is_name(name: object) -> bool:
    """Whether something may be a directory's name."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def version_numbers(names: Iterable[str]) -> list[int]:
    """Those names that are numbers of versions, ascending."""
    return sorted(int(name) for name in names if _NUMBER.fullmatch(name))


def check_file_name(name: str) -> str:
    """Return a name that a file of an artifact may have, such as `sources/package/module.py`.

    Raises:
        InvalidName: it may not; it might lead out of the artifact, or not be the same everywhere.
    """
    try:
        parts = name.encode().split(b"/")
    except UnicodeEncodeError as error:
        raise InvalidName(name, _FILE_RULE) from error
    usable = (
        len(name.encode()) <= 1000
        and "\\" not in name
        and all(character.isprintable() for character in name)
        and all(part not in (b"", b".", b"..") and len(part) <= 255 for part in parts)
    )
    if not usable:
        raise InvalidName(name, _FILE_RULE)
    return name
