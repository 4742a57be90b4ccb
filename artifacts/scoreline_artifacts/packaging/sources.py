"""Collects the sources and data files of a training project that a pipeline needs, and no others."""

from __future__ import annotations

import inspect
import marshal
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.abc import InspectLoader
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType

from scoreline_artifacts.dependencies import (
    ModuleOrigins,
    imports_of_source,
    metadata_file,
    spec_of,
)
from scoreline_artifacts.errors import DoesNotTravel
from scoreline_artifacts.manifest import DIST_INFO, SOURCES

MAX_BYTES = 16 * 1024 * 1024
"""The limit for modules and data files together: data belongs into the pipeline."""
SECRETS = ("*credentials*", "*secret*")
KEY_FILES = (
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.ppk", "*.jks", "*.keystore", "*.kdbx", "id_*"),
    *("*passwd*", *SECRETS),
)
"""Names of files that hold keys or passwords."""
MOST_LISTED = 10_000
"""Data files of a project that its code can see in the clean room."""
_CODE = frozenset({".py", ".pyc"})


@dataclass(slots=True)
class Snapshot:
    """Modules and data files of a project, by their path in an artifact."""

    modules: dict[str, str] = field(default_factory=dict)
    """Module name to path."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Path to content: sources and data."""
    imported: set[str] = field(default_factory=set)
    """All names that these modules import, of the project or not."""


def collect(needed: Iterable[str], origins: ModuleOrigins, *, data: Iterable[str] = ()) -> Snapshot:
    """Take the sources of local modules, and of the local modules that these import, and so on.

    Names in `needed` that are not those of local modules are ignored. `data` are data files by their path
    in an artifact, `sources/<package>/<file>`, as code asked for them.

    Raises:
        DoesNotTravel: a module has no source, or all files together are larger than MAX_BYTES.
    """
    snapshot = Snapshot()
    waiting = sorted(needed)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if origins.is_local(name):
            # Importing a module imports the packages above it first.
            waiting += [name.rpartition(".")[0]] if "." in name else []
            waiting += _take_module(name, snapshot)
    for path in data:
        if (file := data_file(path)) is not None:
            snapshot.files[path] = file.read_bytes()
    size = sum(map(len, snapshot.files.values()))
    if size > MAX_BYTES:
        largest = sorted(snapshot.files.items(), key=lambda item: -len(item[1]))[:3]
        named = ", ".join(
            f"{path.removeprefix(SOURCES)} ({len(content):,} bytes)" for path, content in largest
        )
        raise DoesNotTravel(
            f"the project's own modules and data files that the pipeline needs have {size:,} bytes; at "
            f"most {MAX_BYTES:,} travel. The largest: {named}. Put data into the pipeline itself (an "
            "attribute that fit() sets), or install the package on the workers"
        )
    return snapshot


def _take_module(name: str, snapshot: Snapshot) -> set[str]:
    """Add a module's source to a snapshot; returns the names that it imports."""
    spec = spec_of(name)
    is_package = spec is not None and spec.submodule_search_locations is not None
    if spec is None or (is_package and spec.origin is None):
        return set()  # a package without a file of its own
    # Whatever loader it has: test runners and notebooks put their own in front of plain files.
    if spec.origin and spec.origin.endswith(".py") and Path(spec.origin).is_file():
        source = Path(spec.origin).read_bytes()
    else:
        text = spec.loader.get_source(name) if isinstance(spec.loader, InspectLoader) else None
        if text is None:
            raise DoesNotTravel(
                f"module {name!r} ({spec.origin or 'made at run time'}) has no Python source that could "
                "travel with the model. Install it on the workers, as a package of its own"
            )
        source = text.encode()
    if (difference := _edited_since_import(name, source)) is not None:
        raise DoesNotTravel(
            f"module {name!r} ({spec.origin}) was edited after it was imported: {difference} is not what the pipeline "
            "was trained with. Start anew (in a notebook: restart the kernel), fit, and publish"
        )
    path = SOURCES + name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
    snapshot.modules[name] = path
    snapshot.files[path] = source
    try:
        imported = imports_of_source(source, name, is_package)
    except SyntaxError as error:
        raise DoesNotTravel(f"module {name!r} ({spec.origin}) cannot be parsed: {error}") from error
    snapshot.imported |= imported
    return imported


def _edited_since_import(name: str, source: bytes) -> str | None:
    """What differs between a module's file and the code that this process imported from it; None if nothing, or if that cannot be told."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    # Other loaders, such as those of test runners, make other code of a file.
    if module is None or spec is None or type(spec.loader) is not SourceFileLoader:
        return None
    try:
        current = compile(source, spec.origin, "exec", dont_inherit=True)
    except SyntaxError:
        return "its text"
    current_codes = {_without_lines(code) for code in _codes_in(current)}
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    for owner in [module, *classes]:
        for value in list(vars(owner).values()):
            is_property = isinstance(value, property)
            function = value.fget if is_property else getattr(value, "__func__", value)
            if not isinstance(function, FunctionType):
                continue
            code = inspect.unwrap(function).__code__
            if code.co_filename == spec.origin and _without_lines(code) not in current_codes:
                return f"{code.co_qualname}()"
    # Constants leave no trace in memory that can be told from a variable; the bytecode that was cached on import
    # does. Where nothing is cached, what is there may be of an earlier process and another text.
    cached = Path(spec.cached or "")
    if sys.dont_write_bytecode or not os.access(cached.parent, os.W_OK):
        return None
    try:
        data = cached.read_bytes()
        stat = Path(spec.origin).stat()
        stamp = [int.from_bytes(data[start : start + 4], "little") for start in (4, 8, 12)]
        if stamp == [0, int(stat.st_mtime) & 0xFFFFFFFF, stat.st_size & 0xFFFFFFFF]:
            return None
        imported = marshal.loads(data[16:])  # noqa: S302 - what this very interpreter has imported
    except (OSError, ValueError, EOFError, TypeError):
        return None
    is_changed = stamp[0] == 0 and _without_lines(imported) != _without_lines(current)
    return "a constant or another line" if is_changed else None


def _codes_in(code: CodeType) -> Iterator[CodeType]:
    """A code object and those of all functions and classes in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes_in(constant)


def _without_lines(code: CodeType) -> tuple[object, ...]:
    """What a code object does, wherever in its file it stands."""
    constants = tuple(
        _without_lines(constant) if isinstance(constant, CodeType) else (type(constant), constant)
        for constant in code.co_consts
    )
    return code.co_qualname, code.co_code, code.co_names, code.co_varnames, constants


def modules_below(package: str) -> Iterator[str]:
    """A package and all modules below it."""
    yield package
    spec = spec_of(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if parts and all(part.isidentifier() for part in parts):
                yield ".".join((package, *parts))


def data_file(path: str) -> Path | None:
    """The project's data file for a path in an artifact, `sources/<package>/<file>`; None if there is none.

    `sources/<distribution>.dist-info/METADATA` is the file with the project's own version. A file that is reached through
    a link below its package is none of the package's.
    """
    parts = path.removeprefix(SOURCES).split("/")
    if parts[0].endswith(DIST_INFO):
        return metadata_file(parts[0].removesuffix(DIST_INFO))
    # The innermost package of the path holds the data.
    for end in range(len(parts) - 1, 0, -1):
        for folder in _folders_of(".".join(parts[:end])):
            file = folder.joinpath(*parts[end:])
            if _is_data(file):
                return file
    return None


def may_travel_unasked(path: str) -> bool:
    """Whether a data file may travel because code opens it: no hidden file does, and nothing that is named like a key."""
    *folders, file = path.split("/")
    if any(name.startswith(".") for name in (*folders, file)):
        return False
    forbidden = [(folder, SECRETS) for folder in folders] + [(file, KEY_FILES)]
    return not any(
        fnmatchcase(name.lower(), pattern) for name, patterns in forbidden for pattern in patterns
    )


def list_data(modules: Iterable[str]) -> list[str]:
    """The data files of modules' packages that may travel unasked, by their paths in an artifact."""
    paths: list[str] = []
    for package in sorted({name.partition(".")[0] for name in modules}):
        for folder in _folders_of(package):
            for root, folders, files in os.walk(folder):
                # No hidden file travels, and whole environments lie in hidden folders.
                folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
                below = (Path(package) / Path(root).relative_to(folder)).as_posix()
                data = (name for name in files if _is_data(Path(root, name)))
                paths += filter(may_travel_unasked, (f"{SOURCES}{below}/{name}" for name in data))
                if len(paths) >= MOST_LISTED:
                    return paths[:MOST_LISTED]
    return paths


def _is_data(file: Path) -> bool:
    """Whether a file below a resolved folder is data, and there without any link."""
    return file.suffix not in _CODE and file.is_file() and file.resolve() == file


def _folders_of(package: str) -> list[Path]:
    """The folders of a package; none if it is no package."""
    spec = spec_of(package)
    return [Path(folder).resolve() for folder in (spec and spec.submodule_search_locations) or ()]
