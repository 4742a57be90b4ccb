"""From a version in a store to a file that another program scores with, its proof, and a signature; and the proof once more.

pima-3.onnx              the file
pima-3.onnx.proof.json   which version it is of, both hashes, and what was measured when both scored the same rows
pima-3.onnx.sig          an Ed25519 signature over the bytes of the proof, which bind those of the file
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from scoreline_artifacts import golden
from scoreline_artifacts.errors import Distrust, UntrustedArtifact
from scoreline_artifacts.loading.artifact import load, plan_of
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.manifest import GOLDEN
from scoreline_artifacts.plan import ScoringPlan, nodes
from scoreline_artifacts.plan.ends import End, OpaqueEnd, TargetEnd
from scoreline_artifacts.schema import Column
from scoreline_artifacts.store.local_files import write_file
from scoreline_artifacts.store.signing import REPAIR, Purpose
from scoreline_artifacts.store.store import Store, describe_file
from scoreline_client.errors import ScorelineError
from scoreline_training.export.formats import (
    FORMATS,
    About,
    Format,
    NotExportable,
    Unexportable,
    format_of,
)
from scoreline_training.export.proof import ROWS, NotProven, Parity, prove
from scoreline_training.export.way_out import way_out

PROOF_SUFFIX, SIGNATURE_SUFFIX = ".proof.json", ".sig"
_CALLED = (nodes.Opaque, OpaqueEnd)
_AROUND_CALLED = (nodes.Selected, nodes.Handed, nodes.Given)
"""Steps that hand their inputs to a step that is called; they are exported or refused with it."""


class ExportFailed(ScorelineError):
    """Raised when a file cannot be written or read here."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path


@dataclass(frozen=True, kw_only=True)
class ExportProof:
    """What `FILE.proof.json` says: of which version the file is, and what was measured when both scored the same rows."""

    model: str
    version: int
    manifest_sha256: str
    format: str
    sha256: str
    """The sha256 of the file."""
    size: int
    measured: Parity
    tolerance: float
    """The limit of `measured.largest_error`."""
    created_at: str
    libraries: dict[str, str] = field(default_factory=dict)
    """The versions that measured it: of Python, scikit-learn, and the libraries of the format."""
    proof_version: int = 1

    def encode(self) -> bytes:
        """JSON, for people as well."""
        return json.dumps(asdict(self), indent=2).encode() + b"\n"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file, and its proof beside it."""

    path: Path
    proof: ExportProof


@dataclass(frozen=True, kw_only=True)
class StepExport:
    """A step of a plan, and what becomes of it in each format."""

    way: str
    kind: str
    refused: dict[str, str | None]
    """By format, why it cannot be exported; None if it can."""


def export_version(
    store: Store,
    model: str,
    version: int,
    format_name: str,
    path: Path | None = None,
    *,
    rows: int | None = None,
) -> Exported:
    """Write a version as a file, prove that it answers as the version does, and sign the proof.

    `path` is `MODEL-VERSION` with the format's suffix, in the current folder, unless it is given. The file and what stands beside it are replaced, each as a whole, the signature last.

    Raises:
        NotExportable: the format has no words for some of its steps; all of them are named, nothing is written.
        NotProven: the file would answer otherwise than the version does; nothing is written.
        ArtifactError: the version is not there or not trusted, or nothing signs here.
        MissingDependency: the format needs a library that is not installed.
        ExportFailed: the file cannot be written.
    """
    file_format = format_of(format_name)
    path = path or Path(f"{model}-{version}{file_format.suffix}")
    # A device would be replaced by a file.
    if path.name == "" or (path.exists() and not path.is_file()):
        raise ExportFailed(path, "it cannot be written: it is no file")
    loaded = load(store, model, version)
    plan = _exportable(loaded, file_format)
    about = About(model=model, version=version, manifest_sha256=loaded.manifest_sha256)
    data = file_format.write(plan, _columns(loaded), about)
    proof = _prove(store, loaded, plan, file_format, data, rows)
    signature = store.ring.sign(Purpose.EXPORT, proof.encode())
    try:
        # An earlier signature is removed before the new file is there.
        _beside(path, SIGNATURE_SUFFIX).unlink(missing_ok=True)
        write_file(path, data)
        write_file(_beside(path, PROOF_SUFFIX), proof.encode())
        write_file(_beside(path, SIGNATURE_SUFFIX), signature)
    except OSError as error:
        raise ExportFailed(path, f"it cannot be written: {error.strerror or error}") from error
    return Exported(path=path, proof=proof)


def verify_export(store: Store, path: Path, *, rows: int | None = None) -> Exported:
    """Check the signature of a file's proof and the hashes in it, and prove the file once more, with what is installed here.

    Raises:
        UntrustedArtifact: the proof is not signed by a key that is trusted here, or the file or version is another one.
        NotProven: the file answers otherwise than the version does, here.
        ArtifactError: the version is not there.
        ExportFailed: the file, its proof or its signature cannot be read.
    """
    data, proof_data, signature = (
        _read(file) for file in (path, _beside(path, PROOF_SUFFIX), _beside(path, SIGNATURE_SUFFIX))
    )
    store.ring.verify(Purpose.EXPORT, proof_data, signature, about=path)
    try:
        proof = msgspec.json.decode(proof_data, type=ExportProof)
    except msgspec.MsgspecError as error:
        raise ExportFailed(path, f"its proof cannot be read: {error}") from error
    # A key may be trusted for some models only.
    store.ring.verify(Purpose.EXPORT, proof_data, signature, about=path, model=proof.model)
    if describe_file(data).sha256 != proof.sha256:
        raise UntrustedArtifact(path, Distrust.BAD_SIGNATURE, REPAIR[Purpose.EXPORT])
    loaded = load(store, proof.model, proof.version, sha256=proof.manifest_sha256)
    file_format = format_of(proof.format)
    plan = _exportable(loaded, file_format)
    return Exported(path=path, proof=_prove(store, loaded, plan, file_format, data, rows))


def export_steps(store: Store, model: str, version: int) -> list[StepExport]:
    """Each step of a version, and what becomes of it in each format.

    Raises:
        ArtifactError: the version is not there or not trusted.
        NotExportable: nobody knows a step of it.
    """
    plan = _plan(load(store, model, version), "a file")
    formats = [format_of(name) for name in FORMATS]
    return [
        StepExport(
            way=step.way,
            kind=type(step).__name__,
            refused={
                file_format.name: _refused(plan, step, file_format) for file_format in formats
            },
        )
        for step in _steps(plan)
    ]


def _plan(loaded: LoadedVersion, format_name: str) -> ScoringPlan:
    plan = plan_of(loaded)
    if isinstance(plan, str):
        step = Unexportable(way="the pipeline", reason=plan, way_out=way_out(None, None, ()))
        raise NotExportable(f"{loaded.model}@{loaded.version}", format_name, [step])
    return plan


def _exportable(loaded: LoadedVersion, file_format: Format) -> ScoringPlan:
    """The plan of a version, if a format takes all of it."""
    plan = _plan(loaded, file_format.name)
    # A step of the pipeline may be several of the plan.
    refused = dict.fromkeys(
        Unexportable(way=step.way, reason=reason, way_out=way_out(step, plan, _columns(loaded)))
        for step in _steps(plan)
        if not isinstance(step, _AROUND_CALLED) and (reason := _refused(plan, step, file_format))
    )
    if refused:
        raise NotExportable(f"{loaded.model}@{loaded.version}", file_format.name, [*refused])
    return plan


def _steps(plan: ScoringPlan) -> list[nodes.Node | End]:
    return [*plan.nodes, plan.end]


def _refused(plan: ScoringPlan, step: nodes.Node | End, file_format: Format) -> str | None:
    """Why a step cannot be exported, or None."""
    inner = step.inner if isinstance(step, TargetEnd) else step
    if isinstance(inner, _CALLED):
        prefix = f"{inner.way}: "
        reasons = (why.removeprefix(prefix) for why in plan.unplanned if why.startswith(prefix))
        why = next(reasons, "nothing is known of what it does")
        return f"it is called, as Python code that no file can hold: {why}"
    return None if isinstance(step, _AROUND_CALLED) else file_format.takes(step)


def _prove(
    store: Store,
    loaded: LoadedVersion,
    plan: ScoringPlan,
    file_format: Format,
    data: bytes,
    rows: int | None,
) -> ExportProof:
    about = f"{loaded.model}@{loaded.version} as {file_format.name}"
    manifest = store.manifest(loaded.model, loaded.version)
    records = [row.record for row in golden.decode(store.read(manifest, GOLDEN))]
    try:
        evaluator = file_format.open(data)
    except ValueError as error:
        # An older release of the program that scores the file may not read it.
        raise NotProven(about, f"the file cannot be opened here: {error}") from error
    measured = prove(
        about,
        loaded,
        plan,
        evaluator,
        records,
        tolerance=file_format.tolerance,
        rows=ROWS if rows is None else rows,
    )
    entry = describe_file(data)
    used = ("scoreline", "scikit-learn", "numpy", "pandas", *file_format.libraries)
    return ExportProof(
        model=loaded.model,
        version=loaded.version,
        manifest_sha256=loaded.manifest_sha256,
        format=file_format.name,
        sha256=entry.sha256,
        size=entry.size,
        measured=measured,
        tolerance=file_format.tolerance,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        libraries={"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in used},
    )


def _columns(loaded: LoadedVersion) -> tuple[Column, ...]:
    return loaded.schema.columns if loaded.schema else ()


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ExportFailed(path, f"it cannot be read: {error.strerror or error}") from error
