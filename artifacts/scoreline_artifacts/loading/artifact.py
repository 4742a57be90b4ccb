"""From the bytes of an artifact to a version in memory: open, verify, unpickle, check golden rows."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from scoreline_artifacts import environment, golden
from scoreline_artifacts.loading.namespace import Namespace
from scoreline_artifacts.loading.planned import PlanProof, ProvenPlan
from scoreline_artifacts.loading.version import LoadedVersion, class_source
from scoreline_artifacts.manifest import (
    GOLDEN,
    PIPELINE,
    PLAN,
    SOURCES,
    Manifest,
    OutputType,
    PipelineOutput,
)
from scoreline_artifacts.plan import ScoringPlan, read_plan
from scoreline_artifacts.store.store import Store
from scoreline_client.settings import ArtifactSettings

logger = logging.getLogger(__name__)


def load(
    store: Store,
    model: str,
    version: int,
    *,
    strict: bool = False,
    sha256: str | None = None,
    settings: Iterable[str] | None = None,
) -> LoadedVersion:
    """Load a version, proven to answer as it did in training.

    `strict` refuses an environment that differs from training's in ways that often do not matter. `sha256` is that of
    the manifest, as a release names it. `settings` are those of the process that loading it changes, where something
    else runs beside it; None: whatever it changes.

    Raises:
        UnknownModelError, UnknownVersionError: it is not in the store.
        UntrustedArtifact: no key that is trusted here has signed it; nothing was unpickled.
        CorruptArtifact: its bytes are not those that were published; nothing was unpickled.
        UnfitEnvironment: this environment lacks something that it needs; nothing was unpickled.
        GoldenMismatch: its answers differ from those of training.
    """
    loaded, check = load_unproven(
        store, model, version, strict=strict, sha256=sha256, settings=settings
    )
    check()
    return loaded


def load_unproven(
    store: Store,
    model: str,
    version: int,
    *,
    strict: bool = False,
    sha256: str | None = None,
    settings: Iterable[str] | None = None,
) -> tuple[LoadedVersion, Callable[[], None]]:
    """Load a version without scoring anything; the function that is returned with it checks its golden rows.

    Raises:
        ArtifactError: what `load` raises, but for GoldenMismatch, which the function raises.
    """
    verified = store.verified(model, version, sha256)
    manifest = verified.manifest
    environment.check(manifest, strict=strict)
    # Every file, including those that serving does not need: an artifact is complete, or it is refused.
    files = store.read_all(manifest)
    # Popped: the bytes of a large pipeline need not be kept beside it while it is checked.
    namespace = namespace_of(manifest, files.__getitem__, settings=settings)
    loaded = replace(assemble(manifest, files.pop, namespace), manifest_sha256=verified.sha256)
    rows = golden.decode(files.pop(GOLDEN))
    if PLAN in files:
        loaded = planned(loaded, PlanProof.decode(files.pop(PLAN)), rows)
    del files
    if manifest.outputs.each is None:
        loaded = replace(loaded, outputs=replace(manifest.outputs, each=_outputs_in(rows)))
    return loaded, lambda: loaded.check_golden_rows(rows, manifest.tolerance)


def planned(
    loaded: LoadedVersion, proof: PlanProof, rows: Sequence[golden.GoldenRow]
) -> LoadedVersion:
    """The version with its plan, if that was proved and has the same steps; `rows` check the plan before its first use."""
    name = f"{loaded.model}@{loaded.version}"
    reason = proof.unusable()
    if not reason and not ArtifactSettings.from_environment().plan:
        reason = "SCORELINE_PLAN is 0"
    if not reason and loaded.schema is not None:
        plan = plan_of(loaded)
        if isinstance(plan, ScoringPlan) and len(plan.nodes) == proof.nodes:
            proven = ProvenPlan(plan, proof.up_to_rows, name)
            proven.to_check(rows, loaded.manifest.tolerance if loaded.manifest else 0.0)
            return replace(loaded, plan=proven)
        reason = plan if isinstance(plan, str) else "it has other steps than in training"
    logger.info("plan_not_used version=%s: its pipeline scores: %s", name, reason)
    return loaded


def plan_of(loaded: LoadedVersion) -> ScoringPlan | str:
    """The plan of a version, or why it has none."""
    if loaded.schema is None or loaded.outputs.method != "predict":
        return "the pipeline only transforms"
    # What scikit-learn gives between two steps is another thing then, and a warning may be an error.
    kinds = ("sklearn", "warnings") if loaded.settings.is_exclusive else ("sklearn",)
    if changed := [name for name in loaded.settings.names if name.startswith(kinds)]:
        return f"its modules change settings of the process: {', '.join(changed)}"
    if not loaded.batchable:
        return "its answers depend on the batch"
    try:
        return read_plan(loaded.pipeline, loaded.schema.columns)
    # Whatever an attribute of a fitted step raises: the pipeline scores.
    except Exception as error:  # noqa: BLE001
        return f"it cannot be read: {type(error).__name__}: {error}"


def assemble(
    manifest: Manifest, read: Callable[[str], bytes], namespace: Namespace | None = None
) -> LoadedVersion:
    """Unpickle a version; `read` returns the verified bytes of its files."""
    namespace = namespace or namespace_of(manifest, read)
    with namespace.settings.recorded():
        pipeline = unpickle(read(PIPELINE), namespace)
    return LoadedVersion(
        pipeline=pipeline,
        model=manifest.model,
        version=manifest.version,
        outputs=manifest.outputs,
        schema=manifest.schema,
        batchable=manifest.batchable,
        manifest=manifest,
        namespace=namespace,
        class_from=class_source(pipeline, manifest.outputs),
    )


def namespace_of(
    manifest: Manifest,
    read: Callable[[str], bytes],
    listed: Iterable[str] = (),
    settings: Iterable[str] | None = None,
) -> Namespace:
    """The private modules of a version, of which none has been executed yet; `listed`, `settings` as for Namespace."""
    return Namespace(
        f"{manifest.model}@{manifest.version}",
        manifest.sources,
        {name: read(name) for name in manifest.files if name.startswith(SOURCES)},
        listed=listed,
        settings=settings,
    )


def _outputs_in(rows: Sequence[golden.GoldenRow]) -> list[PipelineOutput] | None:
    """The outputs of an artifact of an earlier release, as its golden rows have them."""
    if not rows:
        return None
    columns = [row.value if isinstance(row.value, list) else [row.value] for row in rows]
    outputs = []
    for index, values in enumerate(zip(*columns, strict=True)):
        types = {
            OutputType.TEXT
            if isinstance(value, str)
            else OutputType.BOOLEAN
            if isinstance(value, bool)
            else OutputType.NUMBER
            for value in values
        }
        name = index if len(columns[0]) > 1 else None
        outputs.append(PipelineOutput(name=name, type=types.pop() if len(types) == 1 else None))
    return outputs


def unpickle(data: bytes, namespace: Namespace) -> Any:
    """Unpickle verified bytes: unpickling executes whatever the bytes say, so never call it with others.

    `namespace` holds the modules that travelled with the version.
    """
    import dill

    class Unpickler(dill.Unpickler):  # type: ignore[misc]
        def find_class(self, module: str, name: str) -> Any:
            private = namespace.find(module, name)
            if private is not None:
                return private
            with suppress(ImportError):  # raised again below, as pickle words it
                namespace.settings.import_installed(module)
            return super().find_class(module, name)

    # ignore: an object of a class of training's __main__ has nothing to do with this process's __main__.
    return Unpickler(io.BytesIO(data), ignore=True).load()
