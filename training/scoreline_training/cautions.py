"""What publish() warns of: what works in the clean room, and may work otherwise on a worker or tomorrow."""

from __future__ import annotations

import dis
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import CodeType

from scoreline_artifacts.manifest import SOURCES
from scoreline_artifacts.packaging.clean_room import Proof

_MOMENTS = frozenset({"now", "today", "utcnow"})
"""Methods that give the present, of datetime, date and pandas' Timestamp alike."""
_CLOCKS = frozenset({"ctime", "gmtime", "localtime", "strftime", "time", "time_ns"})
"""Functions of the module `time` that give the present."""
_SECRET = re.compile(
    rb"""(?i)\b\w*(?:password|passwd|secret|token|api_?key|access_?key)\w*\s*[=:]\s*['"][^'"\s]{8,}['"]"""
    rb"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


class Caution(StrEnum):
    """The kinds of warnings of publish(): a closed set, stable once shipped."""

    CLOCK = "W_CLOCK"
    """Code of the pipeline reads the time of day."""
    DATA_FILE = "W_DATA_FILE"
    """Code that travels names a data file that does not: no training row opened it."""
    PROCESSES = "W_PROCESSES"
    """The pipeline starts processes of its own while it is loaded or scores."""
    OTHER_STORE = "W_OTHER_STORE"
    """Workers read another artifact store than the one that it was released in."""
    SECRET = "W_SECRET"  # noqa: S105 - a code of a warning
    """A file that travels holds what looks like a password or a key."""


@dataclass(frozen=True, slots=True)
class PublishWarning:
    """A warning of what may go wrong with a version that was published."""

    code: Caution
    message: str
    """Where it is, what may happen, and what to do."""


def find_cautions(
    files: Mapping[str, bytes],
    by_value: Mapping[str, CodeType],
    proof: Proof,
    data: Iterable[str] = (),
) -> list[PublishWarning]:
    """Warnings about the files of an artifact, its functions stored by value, and how it was proved.

    `data` are the data files of the project's packages, by the paths that they have in an artifact if they travel.
    """
    sources = {
        name.removeprefix(SOURCES): data for name, data in files.items() if name.startswith(SOURCES)
    }
    codes = [(f"{name}, line {{}},", code) for name, code in by_value.items()]
    for name, source in sources.items():
        if name.endswith(".py"):
            code = compile(source, name, "exec", dont_inherit=True)
            codes.append((f"line {name}:{{}}", code))
    cautions: list[PublishWarning] = []
    for location, code in codes:
        for line, call in _clock_calls(code):
            message = (
                f"{location.format(line)} calls {call}: an answer may depend on when it is asked for. Give the moment "
                "in a column of the record, or keep it in an attribute that fit() sets"
            )
            cautions.append(PublishWarning(Caution.CLOCK, message))
    at_home: dict[str, list[str]] = {}
    for path in sorted({*data} - {*files}):
        at_home.setdefault(path.rpartition("/")[2], []).append(path.removeprefix(SOURCES))
    for location, code in codes:
        for line, name in _texts(code):
            for path in at_home.get(name.rpartition("/")[2], ()):
                if not f"/{path}".endswith(f"/{name}"):
                    continue
                package, _, below = path.partition("/")
                message = (
                    f"{location.format(line)} names {name!r}, and the file {path} stays at home, since no training row "
                    "opened it: a record that needs it would be rejected on a worker. "
                    f"publish(..., code=['{package}:{below}']) takes it along"
                )
                cautions.append(PublishWarning(Caution.DATA_FILE, message))
    for location in proof.processes:
        message = (
            f"{location} starts a process of its own: a record takes as long as that does, and the program must be "
            "on every worker. What can be done in this process is done faster"
        )
        cautions.append(PublishWarning(Caution.PROCESSES, message))
    for name, source in sources.items():
        if (match := _SECRET.search(source)) is not None:
            line = source.count(b"\n", 0, match.start()) + 1
            message = (
                f"line {name}:{line} looks like a secret, and travels: whoever can read the artifact "
                "store can read it. Read it from the environment where it is needed, and not on import"
            )
            cautions.append(PublishWarning(Caution.SECRET, message))
    return cautions


def _texts(code: CodeType) -> Iterator[tuple[int, str]]:
    """The texts that code uses, with the line of each, without docstrings of functions."""
    line = code.co_firstlineno
    for instruction in dis.get_instructions(code):
        line, value = _line(instruction) or line, instruction.argval
        if instruction.opname == "LOAD_CONST" and isinstance(value, CodeType):
            yield from _texts(value)
        elif instruction.opname == "LOAD_CONST" and isinstance(value, str):
            yield line, value


def _line(instruction: dis.Instruction) -> int | None:
    # Not by `starts_line`, which is only a boolean from Python 3.13 on.
    return instruction.positions and instruction.positions.lineno


def _clock_calls(code: CodeType) -> Iterator[tuple[int, str]]:
    before = ""
    line = code.co_firstlineno
    for instruction in dis.get_instructions(code):
        line = _line(instruction) or line
        name = instruction.argval if instruction.opname.startswith("LOAD_") else None
        if not isinstance(name, str) or instruction.opname == "LOAD_CONST":
            before = ""
            continue
        is_attribute = instruction.opname in ("LOAD_ATTR", "LOAD_METHOD")
        if is_attribute and (name in _MOMENTS or (before == "time" and name in _CLOCKS)):
            yield line, f"{before}.{name}".lstrip(".")
        before = name
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _clock_calls(constant)
