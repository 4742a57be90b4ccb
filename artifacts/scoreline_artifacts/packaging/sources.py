"""The sources of a training project that a pipeline needs, and no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from pathlib import Path

from scoreline_artifacts.dependencies import ModuleOrigins, imports_of_source, spec_of
from scoreline_artifacts.errors import DoesNotTravel
from scoreline_artifacts.manifest import SOURCES

MAX_BYTES = 16 * 1024 * 1024
"""How much of a project may travel: sources are small, and data belongs into the pipeline."""


@dataclass(slots=True)
class Snapshot:
    """Modules and data files of a project, by their place in an artifact."""

    modules: dict[str, str] = field(default_factory=dict)
    """Module name to file."""
    files: dict[str, bytes] = field(default_factory=dict)
    """File to content: sources and data."""
    imported: set[str] = field(default_factory=set)
    """All names that these modules import, of the project or not."""

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(map(len, self.files.values()))


def collect(
    needed: Iterable[str], origins: ModuleOrigins, *, data: Iterable[str] = (), cap: int = MAX_BYTES
) -> Snapshot:
    """Take the sources of local modules, and of the local modules that these import, and so on.

    `needed` are names of which some are local modules; others are passed over. `data` are data files
    by their place in an artifact, `sources/<package>/<file>`, as code asked for them.

    Raises:
        DoesNotTravel: a module has no source, or all of it is larger than `cap` bytes.
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
    for place in data:
        _take_data(place, snapshot)
    if snapshot.size > cap:
        raise DoesNotTravel(_too_large(snapshot, cap))
    return snapshot


def modules_below(package: str) -> Iterator[str]:
    """A package and all modules below it, for those who want the whole of it to travel."""
    yield package
    spec = spec_of(package)
    for place in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(place).rglob("*.py")):
            parts = path.relative_to(place).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if parts and all(part.isidentifier() for part in parts):
                yield ".".join((package, *parts))


def has_data(place: str) -> bool:
    """Whether there is a data file for a place in an artifact that code asked for."""
    return any(_is_data(path) for _, path in _data_files(place))


def _is_data(path: Path) -> bool:
    return path.is_file() and path.suffix not in {".py", ".pyc"}


def _take_module(name: str, snapshot: Snapshot) -> set[str]:
    """Add a module's source; returns what it imports."""
    spec = spec_of(name)
    if spec is None or (spec.origin is None and spec.submodule_search_locations is not None):
        return set()  # a package without a file of its own
    source = _source(name, spec)
    is_package = spec.submodule_search_locations is not None
    place = SOURCES + name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
    snapshot.modules[name] = place
    snapshot.files[place] = source
    try:
        found = imports_of_source(source, name, is_package)
    except SyntaxError as error:
        raise DoesNotTravel(f"module {name!r} ({spec.origin}) cannot be parsed: {error}") from error
    snapshot.imported |= found
    return found


def _source(name: str, spec: ModuleSpec) -> bytes:
    # Whatever loader it has: test runners and notebooks put their own in front of plain files.
    if spec.origin and spec.origin.endswith(".py") and Path(spec.origin).is_file():
        return Path(spec.origin).read_bytes()
    text = spec.loader.get_source(name) if isinstance(spec.loader, InspectLoader) else None
    if text is None:
        raise DoesNotTravel(
            f"module {name!r} ({spec.origin or 'made at run time'}) has no Python source that could "
            "travel with the model. Install it on the workers, as a package of its own"
        )
    return text.encode()


def _take_data(place: str, snapshot: Snapshot) -> None:
    for file, path in _data_files(place):
        if _is_data(path):
            snapshot.files[file] = path.read_bytes()


def _data_files(place: str) -> Iterator[tuple[str, Path]]:
    """The files that a place in an artifact stands for: itself, or for `…/*` a package's folder."""
    found = _package_of(place)
    if found is None:
        return
    package, relative = found
    for folder in map(Path, package):
        if relative == "*":
            yield from ((place[:-1] + one.name, one) for one in sorted(folder.iterdir()))
        elif (folder / relative).resolve().is_relative_to(folder.resolve()):
            yield place, folder / relative


def _package_of(place: str) -> tuple[list[str], str] | None:
    """The folders of the innermost package that a place is in, and the rest of the path."""
    parts = place.removeprefix(SOURCES).split("/")
    for end in range(len(parts) - 1, 0, -1):
        spec = spec_of(".".join(parts[:end]))
        if spec is not None and spec.submodule_search_locations is not None:
            return list(spec.submodule_search_locations), "/".join(parts[end:])
    return None


def _too_large(snapshot: Snapshot, cap: int) -> str:
    largest = sorted(snapshot.files.items(), key=lambda item: -len(item[1]))[:3]
    named = ", ".join(
        f"{file.removeprefix(SOURCES)} ({len(data):,} bytes)" for file, data in largest
    )
    return (
        f"the project's own modules and data files that the pipeline needs have {snapshot.size:,} "
        f"bytes; at most {cap:,} travel. The largest: {named}. Put data into the pipeline itself "
        "(an attribute that fit() sets), or install the package on the workers"
    )
