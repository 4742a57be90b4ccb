"""From a fitted pipeline to the files of an artifact, proven in a clean room.

The modules that travel are found in two ways: by reading the code that the pipeline refers to, and by
recording the modules and files that this code looks for in the clean room in vain.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType

import pandas as pd

from scoreline_artifacts import Manifest, UnsuitableData, environment
from scoreline_artifacts.dependencies import ModuleOrigins, spec_of
from scoreline_artifacts.errors import DoesNotTravel
from scoreline_artifacts.loading.planned import PlanProof
from scoreline_artifacts.manifest import GOLDEN, PIPELINE, PLAN, SOURCES
from scoreline_artifacts.packaging import clean_room, pickling, sources
from scoreline_artifacts.store.store import describe_file
from scoreline_training.cautions import PublishWarning, find_cautions
from scoreline_training.diagnosis import diagnose

ROWS_FOR_PLAN = 20_000
"""Training rows with which a plan is proved, at the most."""
NAMED_FUNCTIONS = 20
"""Functions stored by value that a manifest lists; a single one suffices to refuse another Python."""


STAYED_AT_HOME = (
    ". It looks at the names of a package's data files, and only those travel that it opens for some training row; "
    "code=['package:path'] lets others travel"
)


@dataclass(frozen=True, slots=True)
class Packed:
    """A version before it is published."""

    files: Mapping[str, bytes]
    manifest: Manifest
    warnings: tuple[PublishWarning, ...] = ()

    def with_file(self, name: str, data: bytes) -> Packed:
        """The same with one more file, which the pipeline does not need."""
        listed = {**self.manifest.files, name: describe_file(data)}
        manifest = replace(self.manifest, files=listed)
        return replace(self, files={**self.files, name: data}, manifest=manifest)


@dataclass(slots=True)
class Requirements:
    """The modules and data files of the project that a pipeline is known to need."""

    modules: set[str] = field(default_factory=set)
    data: set[str] = field(default_factory=set)
    """Data files, by their path in an artifact."""

    def add_missing(self, names: Iterable[str], origins: ModuleOrigins) -> bool:
        """Add those modules and data files of `names` that the project has; whether any was new."""
        candidates = {name for name in names if name.startswith(SOURCES)} - self.data
        data = {
            path
            for path in candidates
            if sources.may_travel_unasked(path) and sources.data_file(path)
        }
        modules = {name for name in names if origins.is_local(name)} - self.modules
        self.data |= data
        self.modules |= modules
        return bool(modules or data)


def pack(
    pipeline: object,
    draft: Manifest,
    golden_rows: bytes,
    code: Iterable[str | ModuleType] = (),
    more_rows: bytes = b"",
    training: pd.DataFrame | None = None,
    plan_proof_s: float = 0.0,
) -> Packed:
    """Serialise a pipeline, add the modules that it needs, and prove it in a clean room.

    `draft` is a manifest without files, sources, libraries and batchability, which are found out here.
    `code` is the argument of `publish` with this name. `more_rows` are further rows that it is proved with and
    that do not travel; with rows of `training`, which do not either, its plan is proved, for
    `plan_proof_s` seconds at the most.

    Raises:
        UnsuitableData: the pipeline cannot be serialised.
        DoesNotTravel: it does not work in the clean room, and the message says why.
    """
    names = [module.__name__ if isinstance(module, ModuleType) else module for module in code]
    carried = {name for name in names if ":" not in name}
    origins = ModuleOrigins(carried)
    try:
        pickled = pickling.dump(pipeline, origins)
    # Whatever an object's own pickling raises; the caller needs to know which object it was.
    except Exception as error:
        raise UnsuitableData(
            f"the pipeline cannot be serialised: {type(error).__name__}: {error}. Look for an open "
            "file, a lock, a connection or a generator among its attributes."
        ) from error
    required = Requirements(modules=pickled.modules | pickled.imported)
    for name in names:
        package, is_data, path = name.partition(":")
        in_artifact = f"{SOURCES}{package.replace('.', '/')}/{path}"
        if is_data and sources.data_file(in_artifact) is None:
            raise DoesNotTravel(
                f"code= names {name!r}, but package {package!r} has no such file; give data files as "
                "'package:path/below/it'"
            )
        if is_data:
            required.data.add(in_artifact)
    for package in carried:
        if spec_of(package) is None:
            raise DoesNotTravel(f"code= names the module {package!r}, which cannot be found here")
        required.modules.update(sources.modules_below(package))
    plan_rows = b""
    if training is not None and plan_proof_s:
        sampled = training.sample(min(len(training), ROWS_FOR_PLAN), random_state=0)
        # A frame of its own: the other may carry whatever a project attached to it.
        plan_rows = pickle.dumps(
            pd.DataFrame({name: sampled[name].array for name in sampled.columns})
        )
    # Data files stay at home until code opens them: while it is proved, it sees their names.
    sees_names = True
    while True:
        packed = _pack_once(pickled, draft, golden_rows, required, origins)
        names = sources.list_data(packed.manifest.sources) if sees_names else []
        proof = clean_room.prove(
            packed.manifest,
            packed.files,
            more_rows=more_rows,
            listed=names,
            training=plan_rows,
            plan_proof_s=plan_proof_s,
        )
        if required.add_missing(proof.missing, origins):
            continue
        if proof.failure is not None:
            advice = "" if sees_names else STAYED_AT_HOME
            raise DoesNotTravel(diagnose(proof.failure, pipeline, origins) + advice)
        if any(name.startswith(SOURCES) and name.endswith("/*") for name in proof.missing):
            # The pipeline has seen the name of a file that it did not open, and that a worker will not have.
            sees_names = False
            continue
        data = sources.list_data(packed.manifest.sources)
        warnings = find_cautions(packed.files, pickled.by_value, proof, data)
        schema = packed.manifest.schema.with_unused(proof.unused)
        manifest = replace(packed.manifest, batchable=proof.batchable, schema=schema)
        packed = replace(packed, manifest=manifest, warnings=tuple(warnings))
        if proof.plan is None:
            return packed
        return packed.with_file(PLAN, PlanProof(**proof.plan).encode())


def _pack_once(
    pickled: pickling.PickledPipeline,
    draft: Manifest,
    golden_rows: bytes,
    required: Requirements,
    origins: ModuleOrigins,
) -> Packed:
    """The files and the manifest of a version that takes along the modules known to be required."""
    snapshot = sources.collect(required.modules, origins, data=sorted(required.data))
    files = {PIPELINE: pickled.data, GOLDEN: golden_rows, **snapshot.files}
    referred = _distributions(pickled.modules, origins)
    libraries = {*environment.ALWAYS, *referred}
    imported = {*_distributions(snapshot.imported | pickled.imported, origins)}
    manifest = replace(
        draft,
        files={name: describe_file(data) for name, data in files.items()},
        sources=dict(sorted(snapshot.modules.items())),
        libraries=environment.versions_of(libraries),
        modules=referred,
        imports=environment.versions_of(imported - libraries),
        by_value=sorted(pickled.by_value)[:NAMED_FUNCTIONS],
    )
    return Packed(files, manifest)


def _distributions(modules: Iterable[str], origins: ModuleOrigins) -> dict[str, str]:
    """The installed distributions that modules come from, each with one of these modules."""
    tops = sorted({name.partition(".")[0] for name in modules})
    of_tops = {origins.distribution_of(top): top for top in tops if not origins.is_local(top)}
    return {name: top for name, top in of_tops.items() if name is not None}
