"""The contract between training and serving: what an artifact is, and who may answer from it."""

from scoreline_artifacts.errors import (
    ArtifactError,
    CorruptArtifact,
    Distrust,
    DoesNotTravel,
    GoldenMismatch,
    InvalidName,
    LogReplaced,
    LogTruncated,
    ModelOutputError,
    NothingToRollBack,
    NotReleased,
    PartlyPruned,
    StoreReplaced,
    StoreUnreachable,
    UnfitEnvironment,
    UnknownAliasError,
    UnknownModelError,
    UnknownVersionError,
    UnsuitableData,
    UnsuitableStore,
    UntrustedArtifact,
    UnusableKey,
)
from scoreline_artifacts.manifest import Manifest, Outputs
from scoreline_artifacts.schema import Column, ColumnType, Schema
from scoreline_artifacts.store.releases import Release
from scoreline_artifacts.store.signing import KeyRing
from scoreline_artifacts.store.store import Store

__all__ = [
    "ArtifactError",
    "Column",
    "ColumnType",
    "CorruptArtifact",
    "Distrust",
    "DoesNotTravel",
    "GoldenMismatch",
    "InvalidName",
    "KeyRing",
    "LogReplaced",
    "LogTruncated",
    "Manifest",
    "ModelOutputError",
    "NotReleased",
    "NothingToRollBack",
    "Outputs",
    "PartlyPruned",
    "Release",
    "Schema",
    "Store",
    "StoreReplaced",
    "StoreUnreachable",
    "UnfitEnvironment",
    "UnknownAliasError",
    "UnknownModelError",
    "UnknownVersionError",
    "UnsuitableData",
    "UnsuitableStore",
    "UntrustedArtifact",
    "UnusableKey",
]
