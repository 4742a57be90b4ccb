"""From a fitted pipeline to the files of an artifact, proven in a clean room.

What travels is found in two ways: by reading the code that the pipeline refers to, and by watching
what that code asks for in the clean room and does not find.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from scoreline_artifacts import Manifest, UnsuitableData, environment
from scoreline_artifacts.dependencies import ModuleOrigins, spec_of
from scoreline_artifacts.errors import DoesNotTravel
from scoreline_artifacts.manifest import GOLDEN, PIPELINE, SOURCES
from scoreline_artifacts.packaging import clean_room, pickling, sources
from scoreline_artifacts.store.store import describe_file
from scoreline_training.diagnosis import explain

NAMED_FUNCTIONS = 20
"""Functions stored by value that a manifest names; one is enough to refuse another Python."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What is to be published."""

    files: Mapping[str, bytes]
    manifest: Manifest

    def with_file(self, name: str, data: bytes) -> Packed:
        """The same and one file more, which the pipeline does not need."""
        listed = {**self.manifest.files, name: describe_file(data)}
        return Packed({**self.files, name: data}, replace(self.manifest, files=listed))


@dataclass(slots=True)
class _Luggage:
    """What is known to be needed of the project so far."""

    modules: set[str] = field(default_factory=set)
    data: set[str] = field(default_factory=set)

    def take(self, asked: Iterable[str], origins: ModuleOrigins) -> bool:
        """Add what is there of that which was asked for in vain; whether there was any."""
        places = {one for one in asked if one.startswith(SOURCES)} - self.data
        modules = {one for one in asked if origins.is_local(one)} - self.modules
        self.data |= places
        self.modules |= modules
        return bool(modules) or any(sources.has_data(place) for place in places)


def pack(
    pipeline: object, draft: Manifest, golden_rows: bytes, code: Iterable[str | ModuleType] = ()
) -> Packed:
    """Serialise a pipeline, add what it needs of this project, and prove it in a clean room.

    `draft` says all but what is found out here: files, sources, libraries, whether it is batchable.
    `code` is what `publish` was given under this name.

    Raises:
        UnsuitableData: the pipeline cannot be serialised.
        DoesNotTravel: it does not work in the clean room, and the message says why.
    """
    names = [one.__name__ if isinstance(one, ModuleType) else one for one in code]
    carried = {name for name in names if ":" not in name}
    origins = ModuleOrigins(carried)
    pickled = _pickled(pipeline, origins)
    luggage = _Luggage(
        modules=pickled.modules | pickled.imported | _below(carried),
        data={f"{SOURCES}{_place(name)}" for name in names if ":" in name},
    )
    while True:
        packed = _pack_once(pickled, draft, golden_rows, luggage, origins)
        proof = clean_room.prove(packed.manifest, packed.files)
        if luggage.take(proof.missing, origins):
            continue
        if proof.failure is not None:
            raise DoesNotTravel(explain(proof.failure, pipeline, origins))
        return replace(packed, manifest=replace(packed.manifest, batchable=proof.batchable))


def _pack_once(
    pickled: pickling.PickledPipeline,
    draft: Manifest,
    golden_rows: bytes,
    luggage: _Luggage,
    origins: ModuleOrigins,
) -> Packed:
    taken = sources.collect(luggage.modules, origins, data=sorted(luggage.data))
    files = {PIPELINE: pickled.data, GOLDEN: golden_rows, **taken.files}
    found = _distributions(pickled.modules, origins)
    needed = {*environment.ALWAYS, *found}
    imported = {*_distributions(taken.imported | pickled.imported, origins)}
    manifest = replace(
        draft,
        files={name: describe_file(data) for name, data in files.items()},
        sources=dict(sorted(taken.modules.items())),
        libraries=environment.versions_of(needed),
        modules=found,
        imports=environment.versions_of(imported - needed),
        by_value=sorted(pickled.by_value)[:NAMED_FUNCTIONS],
    )
    return Packed(files, manifest)


def _distributions(modules: Iterable[str], origins: ModuleOrigins) -> dict[str, str]:
    """The installed distributions that modules come from, each with such a module."""
    tops = sorted({name.partition(".")[0] for name in modules})
    found = {origins.distribution_of(top): top for top in tops if not origins.is_local(top)}
    return {distribution: top for distribution, top in found.items() if distribution is not None}


def _below(packages: Iterable[str]) -> set[str]:
    for package in packages:
        if spec_of(package) is None:
            raise DoesNotTravel(f"code= names the module {package!r}, which cannot be found here")
    return {module for package in packages for module in sources.modules_below(package)}


def _place(name: str) -> str:
    package, _, path = name.partition(":")
    place = f"{package.replace('.', '/')}/{path}"
    if not sources.has_data(SOURCES + place):
        raise DoesNotTravel(
            f"code= names {name!r}, but package {package!r} has no such file; give data files as "
            "'package:path/below/it'"
        )
    return place


def _pickled(pipeline: Any, origins: ModuleOrigins) -> pickling.PickledPipeline:
    try:
        return pickling.dump(pipeline, origins)
    # Whatever an object's own pickling raises; the caller needs to know which object it was.
    except Exception as error:
        raise UnsuitableData(
            f"the pipeline cannot be serialised: {type(error).__name__}: {error}. Look for an open "
            "file, a lock, a connection or a generator among its attributes."
        ) from error
