"""Why a pipeline does not work without its project, in the words of the one who made it."""

from __future__ import annotations

import functools
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, MethodType, ModuleType

from scoreline_artifacts.dependencies import ModuleOrigins, spec_of
from scoreline_artifacts.packaging.clean_room import CleanRoomFailure

_OF_SCRIPT = re.compile(r"Can't get attribute '(.+)' on <module '__main__'")
"""What unpickling says of something that dill could not store, and then referred to by its name."""
MAX_OBJECTS = 100_000
"""How many parts of a pipeline are looked at for the one that a message is about."""


def explain(failure: CleanRoomFailure, pipeline: object, origins: ModuleOrigins) -> str:
    """A message that names what is wrong, where it comes from, and what to do about it."""
    if failure.module is not None:
        what = _missing_module(failure.module, failure.location, pipeline, origins)
    elif failure.file is not None:
        what = _missing_file(failure.file, failure.location)
    elif failure.variable is not None:
        what = _missing_variable(failure.variable, failure.location)
    elif (found := _OF_SCRIPT.search(failure.message)) is not None:
        what = (
            f"{found[1]!r} is defined in the training script (or notebook) in a way that cannot be "
            "stored in a file. Put it into a module beside the script and import it from there: then "
            "its source travels"
        )
    elif failure.kind == "GoldenMismatch":
        what = (
            f"{failure.message} Usual reasons: a module's variable that was changed after the import, "
            "code that was edited after the import, random numbers without a seed, the time of day"
        )
    else:
        where = f" at {failure.location}" if failure.location else ""
        what = f"{failure.kind}{where}: {failure.message}"
        what += f"\n{failure.trace}" if failure.trace else ""
    return f"the pipeline does not work in a clean room, where a worker would load it: {what}"


def _missing_module(
    module: str, place: str | None, pipeline: object, origins: ModuleOrigins
) -> str:
    user = place and f"line {place} imports it"
    user = user or _referrer(pipeline, module) or "something in the pipeline refers to it"
    if spec_of(module) is None:
        # Made in a notebook or by a program; no file to take, no package to install.
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


def _missing_file(file: str, place: str | None) -> str:
    where = f"line {place} opens" if place else "it opens"
    return (
        f"{where} the file {file!r}, which is not there. Data of a package travels if it is read with "
        "importlib.resources, as in files('package').joinpath('words.txt').read_text(); other data "
        "belongs into the pipeline, as an attribute that fit() sets"
    )


def _missing_variable(variable: str, place: str | None) -> str:
    where = f"line {place} reads" if place else "it reads"
    return (
        f"{where} the environment variable {variable!r}, which this process has set itself or which is "
        "not set at all. Put its value into the pipeline, as an attribute that fit() sets, or give it a "
        "default"
    )


def _referrer(pipeline: object, module: str) -> str | None:
    """Where in a pipeline something of a module is, as an expression that leads to it."""

    def is_wanted(part: object) -> bool:
        if isinstance(part, ModuleType):
            return part.__name__ == module
        named = part if isinstance(part, type | FunctionType) else type(part)
        return getattr(named, "__module__", None) == module

    found = find_part(pipeline, is_wanted)
    if found is None:
        return None
    path, part = found
    named = part if isinstance(part, type | FunctionType) else type(part)
    name = getattr(named, "__qualname__", module)
    return f"{path} refers to {module}.{name}"


def find_part(root: object, is_wanted: Callable[[object], bool]) -> tuple[str, object] | None:
    """The first part of an object, breadth first, that is wanted, and the expression for it."""
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


def _parts(whole: object) -> Iterator[tuple[str, object]]:
    if isinstance(whole, Mapping):
        yield from ((f"[{key!r}]", value) for key, value in whole.items())
    elif isinstance(whole, list | tuple | set | frozenset):
        yield from ((f"[{place}]", value) for place, value in enumerate(whole))
    elif isinstance(whole, functools.partial):
        yield from ((".func", whole.func), (".args", whole.args), (".keywords", whole.keywords))
    elif isinstance(whole, MethodType):
        yield from ((".__self__", whole.__self__), (".__func__", whole.__func__))
    elif isinstance(whole, FunctionType):
        yield from _parts_of_function(whole)
    elif not isinstance(whole, type | ModuleType):
        yield from ((f".{name}", value) for name, value in getattr(whole, "__dict__", {}).items())


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, object]]:
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield f" → {name}", function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f" → {name}", cell.cell_contents
        except ValueError:
            continue  # a name that was never given a value
