"""Which names may stand in a store: of models and aliases, of versions, of an artifact's files."""

from __future__ import annotations

from collections.abc import Iterable

from scoreline_artifacts.errors import InvalidName
from scoreline_client.protocol.names import NAME_RULE, is_alias, is_name, version_number

__all__ = ["check_alias", "check_file_name", "check_name", "is_alias", "is_name", "version_numbers"]

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
        raise InvalidName(name, NAME_RULE)
    return name


def check_alias(name: str) -> str:
    """Return a name that may be an alias's.

    Raises:
        InvalidName: it may not.
    """
    if not is_alias(check_name(name)):
        raise InvalidName(name, "an alias of digits only would be taken for a version's number")
    return name


def version_numbers(names: Iterable[str]) -> list[int]:
    """Those names that are numbers of versions as the store writes them, ascending."""
    return sorted(int(name) for name in names if version_number(name) and name[0] != "0")


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
