"""The manifest: what is in an artifact, machine-readable.

An artifact is a directory that never changes once it is published:

    manifest.json    this, canonical: sorted keys, no white space
    pipeline.dill    the fitted pipeline
    golden.jsonl     golden rows: raw records and the answers that training gave
    sources/…        modules and data files of the training project that the pipeline needs
    report.html      the training report, for people
    plan.json        how the plan of the pipeline was proved, see loading/planned.py
    signature.json   an Ed25519 signature over the bytes of manifest.json, see signing.py

The manifest binds store, model, version, and the size and sha256 of every file but itself and the
signature; the signature names the key. Format 1 was not signed, and is refused; format 2 named no store.

To change the format: raise FORMAT_VERSION, keep `decode` reading every format that was ever
released, and put an artifact written by the old one under `tests/artifacts/`. Adding a field with a
default needs no new format; changing what a field means does.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from typing import Any

import msgspec

from scoreline_artifacts.errors import CorruptArtifact
from scoreline_artifacts.schema import Schema
from scoreline_client.protocol.names import prediction_column, probability_column

FORMAT_VERSION = 3
READ_FORMATS = (2, 3)
"""Format 2 names no store: such artifacts belong to the store whose identity lists them."""
MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
PIPELINE = "pipeline.dill"
GOLDEN = "golden.jsonl"
REPORT = "report.html"
PLAN = "plan.json"
"""What publishing found out about the plan of the pipeline; earlier releases ignore it."""
SOURCES = "sources/"
"""The folder of the training project's modules and data files."""
STEP_PARAMETERS = "step_parameters"
"""The key in `training` of the parameters of the pipeline's steps, text by name. Earlier releases record none."""
DIST_INFO = ".dist-info"
"""Ends the name of a folder below SOURCES with the METADATA of a distribution that is the project itself."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of an artifact."""

    size: int
    sha256: str


class OutputType(StrEnum):
    """What the values of an output are."""

    NUMBER = "number"
    """Finite numbers, whole or not, of at most 64 bits."""
    BOOLEAN = "boolean"
    """True or false."""
    TEXT = "text"
    """Text, such as the names of classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOutput:
    """One of the values that a pipeline gives for each record."""

    name: str | int | None = None
    """Its column's name, else its index from 0; None for the only output of a pipeline."""
    type: OutputType | None = None
    """None if that is not known."""
    classes: list[Any] | None = None
    """The classes of its own probabilities, in order, where each of several outputs has some."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """How the pipeline is called, and what its output is."""

    method: str
    """`predict` or, for a pipeline that only transforms, `transform`."""
    classes: list[Any] | None = None
    """The classes of the only output, or the labels, of which a record may have several, in the order of the
    probabilities; None when there are none, or each output has its own."""
    value_from: str = "predict"
    """Read by earlier releases alone: `probabilities` if one call of the pipeline serves for both. This release
    decides that by the classes when it loads a version, see `loading/one_call.py`."""
    each: list[PipelineOutput] | None = None
    """The outputs, in order. None in artifacts of earlier releases, where the golden rows tell."""

    @property
    def is_several(self) -> bool:
        """Whether a value is a list, with a value of each output."""
        return self.each is not None and len(self.each) > 1

    @cached_property
    def types(self) -> list[OutputType | None]:
        """The types of the values, as far as they are known."""
        return [output.type for output in self.each or ()]

    @cached_property
    def prediction_columns(self) -> list[str]:
        """The columns of the values, in files and frames."""
        return [prediction_column(output.name) for output in self.each or (PipelineOutput(),)]

    @cached_property
    def probability_columns(self) -> list[str]:
        """The columns of the probabilities, in order."""
        return [probability_column(label) for label in self.classes or ()] + [
            probability_column(label, output.name)
            for output in self.each or ()
            for label in output.classes or ()
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The contents and requirements of one artifact."""

    model: str
    version: int
    created_at: str
    """ISO 8601, UTC."""
    files: dict[str, FileEntry]
    schema: Schema
    outputs: Outputs
    batchable: bool = True
    """Whether answers were the same one by one, together and shuffled."""
    tolerance: float = 1e-9
    """Relative and absolute difference from a golden row's numbers that still counts as equal."""
    libraries: dict[str, str] = field(default_factory=dict)
    """Versions, in training, of Python and of every distribution that the pipeline refers to."""
    imports: dict[str, str] = field(default_factory=dict)
    """Versions of further distributions that the sources import, perhaps only at times."""
    modules: dict[str, str] = field(default_factory=dict)
    """A module of each of these distributions: another distribution may provide it here."""
    by_value: list[str] = field(default_factory=list)
    """Functions of which the pickle holds the bytecode, which only one minor version of Python runs."""
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    """Rows, parameters and anything else that the training job records."""
    sources: dict[str, str] = field(default_factory=dict)
    """Modules of the training project that travel: name to file."""
    store: str = ""
    """The identity of the store that it was published into; empty until then, and in format 2."""
    format_version: int = FORMAT_VERSION

    def encode(self) -> bytes:
        """Canonical JSON."""
        values = asdict(self)
        values["schema"] = [column.encode() for column in self.schema.columns]
        # Manifests of earlier releases are encoded as they were signed.
        if self.format_version == 2:
            del values["store"]
        if self.outputs.each is None:
            del values["outputs"]["each"]
        return json.dumps(values, sort_keys=True, separators=(",", ":"), default=_plain).encode()

    @classmethod
    def decode(cls, data: bytes, path: object = MANIFEST) -> Manifest:
        """Read a manifest.

        Raises:
            CorruptArtifact: the bytes are not a manifest, or of a format that this Scoreline does not know.
        """
        try:
            # Not by msgspec: a metric may be NaN or infinite, in JSON's usual extension.
            values = json.loads(data)
            version = values.get("format_version")
            if version == 1:
                reason = "format 1 was published by a Scoreline that did not sign"
                raise CorruptArtifact(path, reason)
            if version not in READ_FORMATS:
                reason = (
                    f"format {version} is not known here, only up to {FORMAT_VERSION}; update this"
                )
                raise CorruptArtifact(path, reason)
            if unknown := values.keys() - {field.name for field in fields(cls)}:
                raise CorruptArtifact(path, f"unknown fields {', '.join(sorted(unknown))}")
            values["schema"] = {"columns": values["schema"]}
            return msgspec.convert(values, cls)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CorruptArtifact(path, f"the manifest cannot be read: {error}") from error


def _plain(value: Any) -> Any:
    """numpy scalars and arrays as Python values."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be stored in a manifest")
