"""The manifest: what is in an artifact, machine-readable.

An artifact is a directory that never changes once it is published:

    manifest.json    this, canonical: sorted keys, no white space
    pipeline.dill    the fitted pipeline
    golden.jsonl     golden rows: raw records and the answers that training gave
    sources/…        modules and data files of the training project that the pipeline needs
    report.html      the training report, for people
    signature.json   an Ed25519 signature over the bytes of manifest.json, see signing.py

The manifest binds model, version, and the size and sha256 of every file but itself and the
signature; the signature names the key. Format 1 was not signed, and is refused.

To change the format: raise FORMAT_VERSION, keep `decode` reading every format that was ever
released, and put an artifact written by the old one under `tests/artifacts/`. Adding a field with a
default needs no new format; changing what a field means does.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import msgspec

from scoreline_artifacts.errors import CorruptArtifact
from scoreline_artifacts.schema import Schema

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
PIPELINE = "pipeline.dill"
GOLDEN = "golden.jsonl"
REPORT = "report.html"
SOURCES = "sources/"
"""The folder of the training project's modules and data files."""
DIST_INFO = ".dist-info"
"""Ends the name of a folder in there with the METADATA of a distribution that is the project itself."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of an artifact."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """How the pipeline is called, and what its output is."""

    method: str
    """`predict` or, for a pipeline that only transforms, `transform`."""
    classes: list[Any] | None = None
    """The classes of the probabilities, in order; None when there are none."""
    value_from: str = "predict"
    """`probabilities` when, on every training row, predict gave the class of the largest
    probability: then one call of the pipeline serves for both."""


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
    format_version: int = FORMAT_VERSION

    def encode(self) -> bytes:
        """Canonical JSON."""
        values = asdict(self)
        values["schema"] = values["schema"]["columns"]
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
            if version != FORMAT_VERSION:
                reason = f"format {version} is not known here, only {FORMAT_VERSION}; update this"
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
