"""Names of models, aliases and versions, references that join them, such as `pima@candidate`, and names of columns.

Callers, workers and the artifact store share this rule, so that every alias which can be released can
also be requested. After the `@`, digits alone are the number of a version; an alias is therefore never digits alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from itertools import islice

PRODUCTION = "production"
"""The alias that a reference without one means."""
NAME_RULE = "small letters, digits, '_', '.' and '-', starting with a letter or digit, at most 64 characters"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_VERSION = re.compile(r"[0-9]{1,9}")
MOST_NAMES, LONGEST_NAME = 1000, 40
"""Names, and characters of each, among which the one that was meant is looked for."""
_MOST_NEAR = 3
"""Names that are suggested at most."""


def is_name(name: object) -> bool:
    """Whether this can be the name of a model; every such name is also usable as a folder's."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def is_alias(name: object) -> bool:
    """Whether this can be the name of an alias: a name that is not digits alone."""
    return isinstance(name, str) and is_name(name) and not name.isdigit()


def version_number(text: str) -> int | None:
    """The version that these digits mean, or None if they are no version's number."""
    return (int(text) or None) if _VERSION.fullmatch(text) else None


def split_reference(text: str) -> tuple[str, str | None, int | None]:
    """Model, alias and version of `name`, `name@alias` or `name@version`; alias or version is None.

    Raises:
        ValueError: the text is not such a reference; the message says why.
    """
    name, at, suffix = text.partition("@")
    if not is_name(name):
        raise ValueError(f"{text[:80]!r} is not a model's name: {NAME_RULE}")
    if not at:
        return name, PRODUCTION, None
    version = version_number(suffix)
    if version is not None:
        return name, None, version
    if is_alias(suffix):
        return name, suffix, None
    raise ValueError(
        f"{text[:80]!r} names neither a version ('{name}@3') nor an alias ('{name}@candidate')"
    )


def prediction_column(output: object = None) -> str:
    """The column of a value; `output` names it where there are several."""
    return "prediction" if output is None else f"prediction_{output}"


def probability_column(label: object, output: object = None) -> str:
    """The column of the probability of a class or label; `output` names whose, where several have some."""
    return f"probability_{label}" if output is None else f"probability_{output}_{label}"


STAND_IN_TYPE, STAND_IN_TEXT = "scoreline:type", "scoreline:shown"
"""The keys of the JSON object that stands for a value which JSON has no form for, such as a set: the name
of its type, and the value as messages show it."""


def near_name(wanted: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant; see `near_names`."""
    return next(iter(near_names(wanted, names)[0]), None)


def near_names(wanted: str, names: Iterable[str]) -> tuple[list[str], bool]:
    """The names that were probably meant, alike but for case and blanks, or else close to it; and whether the first is nearest.

    It is a help for people, and must not cost what an input likes: each character is compared with each other, so
    names are cut, and only a thousand are compared. Who has many wrong names asks for the first few.
    """

    def plain(name: str) -> str:
        return name[: 5 * LONGEST_NAME].strip().casefold()[:LONGEST_NAME]

    by_plain: dict[str, list[str]] = {}
    for name in names:
        by_plain.setdefault(plain(name), []).append(name)
    text = plain(wanted)
    if alike := by_plain.get(text):
        return alike, len(alike) == 1
    close = get_close_matches(text, islice(by_plain, MOST_NAMES), n=_MOST_NEAR, cutoff=0.6)
    near = [name for match in close for name in by_plain[match]]
    ratios = [SequenceMatcher(None, plain(name), text).ratio() for name in near]
    return near, bool(near) and ratios.count(ratios[0]) == 1
