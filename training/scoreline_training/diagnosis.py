"""Explains why a pipeline does not work without its project, in terms of the project's own code."""

from __future__ import annotations

import functools
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import FunctionType, MethodType, ModuleType

from scoreline_artifacts.dependencies import ModuleOrigins, spec_of
from scoreline_artifacts.packaging.clean_room import CleanRoomFailure
from scoreline_artifacts.packaging.sources import may_travel_unasked

_OF_SCRIPT = re.compile(r"Can't get attribute '(.+)' on <module '__main__'")
"""Unpickling's message about an object that dill could not store and therefore referred to by name."""
_ADVICE = {
    "cannot cache function": (
        "numba keeps its cache beside a module's file, and on a worker there is none: leave cache=True away. "
        "The function is compiled once in each process"
    ),
    "daemonic processes are not allowed": (
        "A worker's process may not start others by multiprocessing. Use threads, or joblib, whose work a worker "
        "does in threads"
    ),
    "Can't pickle": (
        "If it starts processes of its own, what it sends them cannot be found there: the modules that travelled are "
        "in this process only. Use threads, or joblib, whose work a worker does in threads"
    ),
}
"""Advice by words in the message of an exception."""
MAX_OBJECTS = 100_000
"""Parts of a pipeline, at most, that are searched for the one that a message is about."""


def diagnose(failure: CleanRoomFailure, pipeline: object, origins: ModuleOrigins) -> str:
    """A message that says what is wrong, where it comes from, and what to do about it."""
    location = failure.location
    if failure.module is not None:
        reason = _missing_module(failure.module, location, pipeline, origins)
    elif failure.file is not None:
        where = f"line {location} opens" if location else "it opens"
        advice = (
            "Data of a package travels if it is read with importlib.resources, as in "
            "files('package').joinpath('words.txt').read_text(); other data belongs into the pipeline, as an "
            "attribute that fit() sets"
        )
        if not may_travel_unasked(failure.file):
            advice = (
                "Hidden files and those that are named like keys stay at home, and whoever can read the artifact "
                "store could read them. If it holds no secret, code=['package:path'] lets it travel"
            )
        reason = f"{where} the file {failure.file!r}, which is not there. {advice}"
    elif failure.variable is not None:
        where = f"line {location} reads" if location else "it reads"
        reason = (
            f"{where} the environment variable {failure.variable!r}, which this process has set itself "
            "or which is not set at all. Put its value into the pipeline, as an attribute that fit() "
            "sets, or give it a default"
        )
    elif (match := _OF_SCRIPT.search(failure.message)) is not None:
        reason = (
            f"{match[1]!r} is defined in the training script (or notebook) in a way that cannot be "
            "stored in a file. Put it into a module beside the script and import it from there: then "
            "its source travels"
        )
    elif failure.kind == "GoldenMismatch":
        reason = (
            f"{failure.message} Usual reasons: a module's variable that was changed after the import, "
            "code that was edited after the import, random numbers without a seed, the time of day"
        )
    else:
        where = f" at {location}" if location else ""
        advice = next((text for words, text in _ADVICE.items() if words in failure.message), "")
        reason = f"{failure.kind}{where}: {failure.message}. {advice}".removesuffix(". ")
        reason += f"\n{failure.trace}" if failure.trace else ""
    return f"the pipeline does not work in a clean room, where a worker would load it: {reason}"


def _missing_module(
    module: str, location: str | None, pipeline: object, origins: ModuleOrigins
) -> str:
    def origin(part: object) -> tuple[str | None, str]:
        """A module's name; the module and the name of a class, a function, or an object's class."""
        if isinstance(part, ModuleType):
            return part.__name__, part.__name__
        named = part if isinstance(part, type | FunctionType) else type(part)
        defined_in = getattr(named, "__module__", None)
        return defined_in, f"{defined_in}.{named.__qualname__}"

    if location:
        user = f"line {location} imports it"
    elif referrer := find_part(pipeline, lambda part: origin(part)[0] == module):
        path, part = referrer
        user = f"{path} refers to {origin(part)[1]}"
    else:
        user = "something in the pipeline refers to it"
    if spec_of(module) is None:
        # Made in a notebook or by a program: there is no file to take, and no package to install.
        advice = (
            "It exists in this process's memory only: put its code into a file of the project, or "
            "define it in the training script itself"
        )
    elif (distribution := origins.distribution_of(module)) is not None:
        advice = (
            f"It comes from the distribution {distribution!r}: install that on the workers, or let it "
            f"travel with code=[{module.partition('.')[0]!r}]"
        )
    else:
        advice = f"Let it travel with code=[{module!r}], or install it on the workers"
    return f"there is no module {module!r} there; {user}. {advice}"


def find_part(root: object, is_wanted: Callable[[object], bool]) -> tuple[str, object] | None:
    """The first part of an object for which `is_wanted` holds, breadth first, and the expression for it."""
    waiting: deque[tuple[str, object]] = deque([("pipeline", root)])
    seen: set[int] = set()
    while waiting and len(seen) < MAX_OBJECTS:
        path, part = waiting.popleft()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if is_wanted(part):
            return path, part
        waiting.extend((path + step, inner) for step, inner in _parts(part))
    return None


def _parts(owner: object) -> Iterator[tuple[str, object]]:
    """The objects that an object holds, each with the expression that leads to it."""
    if isinstance(owner, Mapping):
        yield from ((f"[{key!r}]", value) for key, value in owner.items())
    elif isinstance(owner, list | tuple | set | frozenset):
        yield from ((f"[{index}]", value) for index, value in enumerate(owner))
    elif isinstance(owner, functools.partial):
        yield from ((".func", owner.func), (".args", owner.args), (".keywords", owner.keywords))
    elif isinstance(owner, MethodType):
        yield from ((".__self__", owner.__self__), (".__func__", owner.__func__))
    elif isinstance(owner, FunctionType):
        names = [name for name in owner.__code__.co_names if name in owner.__globals__]
        yield from ((f" → {name}", owner.__globals__[name]) for name in names)
        for name, cell in zip(owner.__code__.co_freevars, owner.__closure__ or (), strict=True):
            with suppress(ValueError):  # a variable that has no value yet
                yield f" → {name}", cell.cell_contents
    elif not isinstance(owner, type | ModuleType):
        yield from ((f".{name}", value) for name, value in getattr(owner, "__dict__", {}).items())
