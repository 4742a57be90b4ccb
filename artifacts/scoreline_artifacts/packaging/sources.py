"""Collects the sources and data files of a training project that a pipeline needs, and no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.abc import InspectLoader
from pathlib import Path

from scoreline_artifacts.dependencies import ModuleOrigins, imports_of_source, spec_of
from scoreline_artifacts.errors import DoesNotTravel
from scoreline_artifacts.manifest import SOURCES

MAX_BYTES = 16 * 1024 * 1024
"""The limit for modules and data files together: data belongs into the pipeline."""


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
    for requested in data:
        for path, file in _data_files(requested):
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
    path = SOURCES + name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
    snapshot.modules[name] = path
    snapshot.files[path] = source
    try:
        imported = imports_of_source(source, name, is_package)
    except SyntaxError as error:
        raise DoesNotTravel(f"module {name!r} ({spec.origin}) cannot be parsed: {error}") from error
    snapshot.imported |= imported
    return imported


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


def has_data(requested: str) -> bool:
    """Whether the project has a data file for a path in an artifact."""
    return any(_data_files(requested))


def _data_files(requested: str) -> Iterator[tuple[str, Path]]:
    """The data files for a path in an artifact: one file, or for `…/*` all in a package's folder."""
    parts = requested.removeprefix(SOURCES).split("/")
    # The innermost package of the path holds the data.
    for end in range(len(parts) - 1, 0, -1):
        spec = spec_of(".".join(parts[:end]))
        if spec is not None and spec.submodule_search_locations is not None:
            folders = [Path(folder).resolve() for folder in spec.submodule_search_locations]
            break
    else:
        return
    relative = "/".join(parts[end:])
    for folder in folders:
        if relative == "*":
            candidates = [(requested[:-1] + path.name, path) for path in sorted(folder.iterdir())]
        else:
            candidates = [(requested, folder / relative)]
        for path_in_artifact, path in candidates:
            is_inside = relative == "*" or path.resolve().is_relative_to(folder)
            if is_inside and path.is_file() and path.suffix not in {".py", ".pyc"}:
                yield path_in_artifact, path
