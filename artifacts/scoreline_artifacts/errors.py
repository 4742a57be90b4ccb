"""Everything that artifacts raise.

ArtifactError
├── InvalidName           a model's or alias's name cannot be one
├── UnknownModelError     the store holds no such model
├── UnknownVersionError   the store holds no such version of it
├── UnknownAliasError     nothing was ever released under this alias
├── NothingToRollBack     an alias has no earlier release
├── CorruptArtifact       files are not what the manifest says, or no manifest at all
├── UnsuitableData        a frame or pipeline that cannot be published
│   └── DoesNotTravel     something of it cannot come along to the workers
├── UnfitEnvironment      this environment lacks what a version needs
├── GoldenMismatch        a loaded version answers otherwise than it did in training
└── ModelOutputError      a pipeline answers with something that cannot be an answer
"""

from __future__ import annotations


class ArtifactError(Exception):
    """The root of everything that this package raises."""


class InvalidName(ArtifactError):
    """Raised when a name cannot be that of a model or an alias."""

    def __init__(self, name: object, rule: str) -> None:
        super().__init__(f"{name!r} is not a usable name: {rule}")
        self.name = name


class UnknownModelError(ArtifactError):
    """Raised when the store holds no such model."""

    def __init__(self, model: str, store: object, models: list[str]) -> None:
        known = ", ".join(models) or "none"
        super().__init__(f"no model {model!r} in the artifact store {store}; models there: {known}")
        self.model = model


class UnknownVersionError(ArtifactError):
    """Raised when the store holds the model but not the version."""

    def __init__(self, model: str, version: int, versions: list[int]) -> None:
        known = ", ".join(map(str, versions)) or "none"
        super().__init__(f"model {model!r} has no version {version}; versions there: {known}")
        self.model = model
        self.version = version


class UnknownAliasError(ArtifactError):
    """Raised when nothing was ever released under an alias."""

    def __init__(self, model: str, alias: str, aliases: list[str]) -> None:
        known = ", ".join(aliases) or "none"
        super().__init__(
            f"model {model!r} has no release under {alias!r}; aliases there: {known}. "
            f"`scoreline promote {model} VERSION` makes one."
        )
        self.model = model
        self.alias = alias


class NothingToRollBack(ArtifactError):
    """Raised when an alias has no earlier release to go back to."""

    def __init__(self, model: str, alias: str) -> None:
        super().__init__(f"{model}@{alias} has no earlier release to go back to")
        self.model = model
        self.alias = alias


class CorruptArtifact(ArtifactError):
    """Raised when an artifact's files are not what they should be; nothing of it was unpickled."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}. Publish the version again; do not repair it by hand.")
        self.path = path
        self.reason = reason


class UnsuitableData(ArtifactError):
    """Raised when a frame or a pipeline cannot be published."""


class DoesNotTravel(UnsuitableData):
    """Raised when something that a pipeline needs cannot come along to the workers."""


class UnfitEnvironment(ArtifactError):
    """Raised when this environment lacks what a version needs; nothing of it was unpickled."""

    def __init__(self, model: str, version: int, reasons: list[str]) -> None:
        super().__init__(
            f"{model}@{version} cannot be served in this environment: {'; '.join(reasons)}"
        )
        self.reasons = reasons


class GoldenMismatch(ArtifactError):
    """Raised when a loaded version answers a golden row otherwise than it did in training."""

    def __init__(self, model: str, version: int, row: int, expected: object, found: object) -> None:
        super().__init__(
            f"{model}@{version} fails its golden rows: row {row} gave {found!r} here and "
            f"{expected!r} in training. The environment or the artifact differs."
        )
        self.row = row
        self.expected = expected
        self.found = found


class ModelOutputError(ArtifactError):
    """Raised when a pipeline answers with something that cannot be an answer."""

    code = "E_MODEL_OUTPUT"
