"""The contract between training and serving: what an artifact is, and who may answer from it."""

from scoreline_artifacts.errors import (
    ArtifactError,
    CorruptArtifact,
    DoesNotTravel,
    GoldenMismatch,
    InvalidName,
    ModelOutputError,
    NothingToRollBack,
    UnfitEnvironment,
    UnknownAliasError,
    UnknownModelError,
    UnknownVersionError,
    UnsuitableData,
)
from scoreline_artifacts.manifest import Manifest, Outputs
from scoreline_artifacts.releases import Release
from scoreline_artifacts.schema import Column, ColumnType, Schema
from scoreline_artifacts.store import Store

__all__ = [
    "ArtifactError",
    "Column",
    "ColumnType",
    "CorruptArtifact",
    "DoesNotTravel",
    "GoldenMismatch",
    "InvalidName",
    "Manifest",
    "ModelOutputError",
    "NothingToRollBack",
    "Outputs",
    "Release",
    "Schema",
    "Store",
    "UnfitEnvironment",
    "UnknownAliasError",
    "UnknownModelError",
    "UnknownVersionError",
    "UnsuitableData",
]
