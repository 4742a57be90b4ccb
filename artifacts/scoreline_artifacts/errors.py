"""Everything that artifacts raise, below the root that all packages share.

ScorelineError
└── ArtifactError
    ├── InvalidName           a name cannot be that of a model or an alias
    ├── UnknownModelError     the store holds no such model
    ├── UnknownVersionError   the store holds no such version of it
    ├── UnknownAliasError     nothing was ever released under this alias
    ├── NothingToRollBack     an alias has no earlier release
    ├── NotReleased           a version was published, and could not be released
    ├── PartlyPruned          some versions were removed, and then the others could not be
    ├── CorruptArtifact       the files of an artifact are not what its manifest lists
    ├── UntrustedArtifact     not signed, or not by a key that is trusted here
    ├── UntrustedLog          the releases of an alias are all of keys that are not trusted here
    ├── LogTruncated          a release log ends before a release that was seen here
    ├── LogReplaced           an alias has another release log than the one that was seen here
    ├── StoreReplaced         under the address of a known store is another one
    ├── UnusableKey           a key file cannot be made, read or used
    ├── UnsuitableStore       a folder or a bucket that cannot hold an artifact store
    ├── StoreUnreachable      the store does not answer, denies access, or is full
    ├── UnsuitableData        a frame or pipeline that cannot be published
    │   └── DoesNotTravel     a part of it cannot come along to the workers
    ├── UnfitEnvironment      this environment lacks what a version needs
    ├── GoldenMismatch        a loaded version does not answer its golden rows as in training
    └── ModelOutputError      the output of a pipeline cannot be an answer
"""

from __future__ import annotations

from enum import StrEnum

from scoreline_client.errors import ScorelineError
from scoreline_client.protocol.names import PRODUCTION
from scoreline_client.shown import shown_name, shown_text, without_secrets


def _displayed(root: object) -> str:
    return shown_text(shown_name(str(root)), in_line=True)


class ArtifactError(ScorelineError):
    """The root of everything that this package raises."""


class InvalidName(ArtifactError):
    """Raised when a name cannot be that of a model or an alias."""

    def __init__(self, name: object, rule: str) -> None:
        super().__init__(f"{name!r} is not a usable name: {rule}")
        self.name = name


class UnknownModelError(ArtifactError):
    """Raised when the store holds no such model."""

    def __init__(self, model: str, store: object, models: list[str]) -> None:
        listed = ", ".join(models) or "none"
        super().__init__(
            f"no model {model!r} in the artifact store {_displayed(store)}; models there: {listed}"
        )
        self.model = model


class UnknownVersionError(ArtifactError):
    """Raised when the store holds the model but not the version."""

    def __init__(self, model: str, version: int, versions: list[int]) -> None:
        listed = ", ".join(map(str, versions)) or "none"
        super().__init__(f"model {model!r} has no version {version}; versions there: {listed}")
        self.model = model
        self.version = version


class UnknownAliasError(ArtifactError):
    """Raised when nothing was ever released under an alias."""

    def __init__(self, model: str, alias: str, aliases: list[str]) -> None:
        listed = ", ".join(aliases) or "none"
        super().__init__(
            f"model {model!r} has no release under {alias!r}; aliases there: {listed}. "
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


class NotReleased(ArtifactError):
    """Raised when a version was published and then could not be released."""

    def __init__(self, model: str, version: int, alias: str, reason: object) -> None:
        option = "" if alias == PRODUCTION else f" --alias {alias}"
        super().__init__(
            f"{model}@{version} is published, and {model}@{alias} does not name it: {reason} "
            f"Then `scoreline promote {model} {version}{option}` releases it."
        )
        self.model = model
        self.version = version
        self.alias = alias


class PartlyPruned(ArtifactError):
    """Raised when some versions of a model were removed, and then the others could not be."""

    exit_status = 1

    def __init__(self, model: str, removed: list[int], reason: object) -> None:
        listed = ", ".join(map(str, removed))
        super().__init__(
            f"removed of {model}: {listed}. What else was to go is still there: {reason}"
        )
        self.model = model
        self.removed = removed


class CorruptArtifact(ArtifactError):
    """Raised when an artifact's files are not what its manifest lists; nothing of it was unpickled."""

    def __init__(self, path: object, reason: str) -> None:
        about = shown_text(f"{path}: {reason}", in_line=True)
        super().__init__(f"{about}. Publish the version again; do not repair it by hand.")
        self.path = path
        self.reason = reason


class Distrust(StrEnum):
    """Why something is not trusted."""

    UNSIGNED = "it is not signed"
    NO_KEYS = "no key is trusted here"
    UNKNOWN_KEY = "the key that signed it is not trusted here"
    REVOKED_KEY = "the key that signed it was revoked here"
    BAD_SIGNATURE = "the signature does not fit: it was changed, or signed as something else"
    OTHER_STORE = "it was signed for another store, so it is not a version or release of this one"
    OTHER_BYTES = "it is not the version that was released: another one is in its place"
    OTHER_NAME = "the key that signed it is not trusted for this name here"


class UntrustedArtifact(ArtifactError):
    """Raised when something is not signed by a key that is trusted here; nothing was unpickled."""

    def __init__(
        self, about: object, reason: Distrust, advice: str, fingerprint: str | None = None
    ) -> None:
        by = f" (key {fingerprint})" if fingerprint else ""
        super().__init__(f"{about}: {reason}{by}. {advice}")
        self.about = about
        self.reason = reason
        self.fingerprint = fingerprint


class UntrustedLog(ArtifactError):
    """Raised when no release of an alias is signed by a key that is trusted here: a new one would begin another log."""

    def __init__(self, model: str, alias: str, reason: UntrustedArtifact) -> None:
        option = "" if alias == PRODUCTION else f" --alias {alias}"
        key = reason.fingerprint or "?"
        if reason.reason is Distrust.OTHER_NAME:
            distrust = "which is not trusted for this name here"
            advice = "name more models or aliases when you trust it (`scoreline keys trust FILE --models … --aliases …`)"
        else:
            distrust = "which is not trusted here"
            advice = f"`scoreline keys show {key[:8]}` there prints it, `scoreline keys trust FILE` here trusts it"
        super().__init__(
            f"{model}@{alias} has releases signed by key {key}, {distrust}. A release that does not follow them begins "
            f"another log, which whoever knows theirs refuses. If you trust who made them: {advice}. To begin the log "
            f"anew all the same: `scoreline promote {model} VERSION{option} --new-log`, and then "
            f"`scoreline accept {model} --alias {alias}` on every machine that has seen theirs."
        )
        self.model = model
        self.alias = alias
        self.fingerprint = reason.fingerprint


class LogTruncated(ArtifactError):
    """Raised when a release log ends before a release that was seen here."""

    def __init__(self, model: str, alias: str, found: int, seen: int, mark: object) -> None:
        super().__init__(
            f"the releases of {model}@{alias} end with number {found}, but number {seen} was seen "
            f"here: somebody took releases away, or an old copy of the store was put in its place. "
            f"Put the releases back, or promote a version again where the release was seen. If the old copy is "
            f"what you want: `scoreline accept {model} --alias {alias}` on every worker, or remove {mark}."
        )
        self.found = found
        self.seen = seen


class LogReplaced(ArtifactError):
    """Raised when an alias has another release log than the one that was seen here."""

    def __init__(self, model: str, alias: str) -> None:
        super().__init__(
            f"the releases of {model}@{alias} are not those of the log that was seen here, but another log's: "
            f"somebody who does not trust the key that signed it began it anew (`scoreline promote --new-log`), "
            f"or removed it, or put another one in its place. `scoreline history {model}` says who made the releases. "
            f"If that is what you want: `scoreline accept {model} --alias {alias}` on every machine that publishes, "
            "and on every worker."
        )
        self.model = model
        self.alias = alias


class StoreReplaced(ArtifactError):
    """Raised when under the address of a known store is another one, or one without an identity."""

    def __init__(self, location: object, known: str, found: str | None) -> None:
        other = f"the store {found[:16]}" if found else "a store without an identity"
        super().__init__(
            f"{location}: here is {other}, and {known[:16]} is known here under this address: it was begun anew, "
            "or another store's content was put in its place. If that is what you want: `scoreline accept` on "
            "this machine and on every worker."
        )
        self.known = known
        self.found = found


class UnusableKey(ArtifactError):
    """Raised when a key file cannot be made, read or used; the message says which one."""


class UnsuitableStore(ArtifactError):
    """Raised when a folder or a bucket cannot hold an artifact store."""

    def __init__(self, root: object, reason: str) -> None:
        super().__init__(f"{_displayed(root)} cannot be an artifact store: {reason}")
        self.root = root


class StoreUnreachable(ArtifactError):
    """Raised when a store does not answer, denies access, or is full."""

    exit_status = 3

    def __init__(
        self,
        root: object,
        reason: object,
        advice: str = "Check its URL, the network, and the credentials in this environment.",
    ) -> None:
        super().__init__(
            f"the artifact store {_displayed(root)} cannot be used now: "
            f"{without_secrets(str(reason), str(root))}. {advice}"
        )
        self.root = root


class UnsuitableData(ArtifactError):
    """Raised when a frame or a pipeline cannot be published."""


class DoesNotTravel(UnsuitableData):
    """Raised when a part of a pipeline cannot come along to the workers."""


class UnfitEnvironment(ArtifactError):
    """Raised when this environment lacks what a version needs; nothing of it was unpickled."""

    def __init__(self, model: str, version: int, reasons: list[str]) -> None:
        super().__init__(
            f"{model}@{version} cannot be served in this environment: {'; '.join(reasons)}"
        )
        self.reasons = reasons


class GoldenMismatch(ArtifactError):
    """Raised when a loaded version does not answer a golden row as it did in training."""

    def __init__(self, model: str, version: int, row: int, expected: object, found: object) -> None:
        super().__init__(
            f"{model}@{version} fails its golden rows: row {row} gave {found!r} here and "
            f"{expected!r} in training. The environment or the artifact differs."
        )
        self.row = row
        self.expected = expected
        self.found = found


class ModelOutputError(ArtifactError):
    """Raised when the output of a pipeline cannot be an answer."""

    code = "E_MODEL_OUTPUT"
