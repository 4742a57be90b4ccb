"""A version as a file that other programs score with, proven to answer as the pipeline does."""

from scoreline_training.export.export import (
    Exported,
    ExportFailed,
    ExportProof,
    StepExport,
    export_steps,
    export_version,
    verify_export,
)
from scoreline_training.export.formats import (
    About,
    Format,
    NotExportable,
    Scored,
    Unexportable,
    format_of,
)
from scoreline_training.export.proof import NotProven, Parity

__all__ = [
    "About",
    "ExportFailed",
    "ExportProof",
    "Exported",
    "Format",
    "NotExportable",
    "NotProven",
    "Parity",
    "Scored",
    "StepExport",
    "Unexportable",
    "export_steps",
    "export_version",
    "format_of",
    "verify_export",
]
