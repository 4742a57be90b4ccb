"""Proves a version in the clean room: it loads there, and answers its golden rows as in training."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreline_artifacts.manifest import GOLDEN, MANIFEST, Manifest
from scoreline_artifacts.packaging import clean_room

if TYPE_CHECKING:
    from scoreline_artifacts.golden import GoldenRow
    from scoreline_artifacts.loading.version import LoadedVersion

LIMIT_S = 600.0
"""Seconds that loading and scoring some golden rows may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a version does not work in the clean room."""

    kind: str
    """The exception's class, or how the process ended."""
    message: str
    module: str | None = None
    """The module that was not found, if that is what was wrong."""
    file: str | None = None
    """The file that was not found, if that is what was wrong."""
    variable: str | None = None
    """The environment variable that was not set, if that is what was wrong."""
    place: str | None = None
    """`file:line` of the training project's code that was running, if any was."""
    trace: str = ""
    """How it came there through the project's code, or the last words of a process that ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of a visit to the clean room."""

    failure: Failure | None = None
    batchable: bool = True
    """Whether golden rows got the same answers one by one, together and shuffled."""
    asked: list[str] = field(default_factory=list)
    """Modules and data files that its code asked for and that did not come along."""


def prove(manifest: Manifest, files: Mapping[str, bytes], *, limit_s: float = LIMIT_S) -> Finding:
    """Load a version in the clean room and score its golden rows there.

    A version that ends its process, or takes longer than `limit_s` seconds, is a failure like others.
    """
    with clean_room.staged(manifest, files) as folder:
        try:
            found = clean_room.visit(
                "scoreline_artifacts.packaging.proving:try_it", folder, limit_s
            )
        except clean_room.Ended as end:
            failure = Failure(kind=end.kind, message=end.message, trace=end.output)
            return Finding(failure=failure)
    failure = found.pop("failure")
    return Finding(**found, failure=Failure(**failure) if failure else None)


# In the room


def try_it(folder: Path) -> dict[str, Any]:
    """Load the artifact in a folder and score its golden rows; returns a `Finding`'s fields."""
    return asdict(_try_it(folder / clean_room.ARTIFACT))


def _try_it(staged: Path) -> Finding:
    from scoreline_artifacts import golden
    from scoreline_artifacts.loading import version

    manifest = Manifest.decode((staged / MANIFEST).read_bytes())

    def read(name: str) -> bytes:
        return (staged / name).read_bytes()

    namespace = version.namespace_of(manifest, read)
    try:
        loaded = version.assemble(manifest, read, namespace)
        rows = golden.decode(read(GOLDEN))
        loaded.check_golden_rows(rows, manifest.tolerance)
        batchable = _is_batchable(loaded, rows, manifest.tolerance)
    # Whatever loading or scoring raises is what the one who publishes has to know.
    except Exception as error:  # noqa: BLE001
        return Finding(failure=_failure(error, manifest), asked=sorted(namespace.asked))
    return Finding(batchable=batchable, asked=sorted(namespace.asked))


def _failure(error: BaseException, manifest: Manifest) -> Failure:
    prefix = f"{manifest.model}@{manifest.version}".replace(".", "_") + "/sources/"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(prefix)
    ]
    places = [f"{frame.filename.removeprefix(prefix)}:{frame.lineno}" for frame in frames]
    return Failure(
        kind=type(error).__name__,
        message=str(error),
        module=error.name if isinstance(error, ModuleNotFoundError) else None,
        file=str(error.filename or error) if isinstance(error, FileNotFoundError) else None,
        variable=_variable(error),
        place=places[-1] if places else None,
        # How it came there through the project's own code; through ours is of no use to anybody.
        trace="".join(traceback.format_list(frames))[-4000:],
    )


def _variable(error: BaseException) -> str | None:
    """The environment variable that was asked for and is not set."""
    frames = traceback.extract_tb(error.__traceback__)
    in_os = bool(frames) and frames[-1].filename in {os.__file__, "<frozen os>"}
    return str(error.args[0]) if isinstance(error, KeyError) and in_os else None


def _is_batchable(loaded: LoadedVersion, rows: Sequence[GoldenRow], tolerance: float) -> bool:
    """Whether records get the same answers alone, in company, and in another order."""
    import numpy as np

    from scoreline_artifacts import golden

    records = [row.record for row in rows]
    shuffled = np.random.default_rng(0).permutation(len(rows)).tolist()
    with suppress(Exception):  # a pipeline that fails on some company, or on none, depends on it
        alone = [loaded.score_records([record])[0] for record in records]
        mixed = loaded.score_records([records[place] for place in shuffled])
        pairs: list[tuple[Any, Any]] = [*zip(rows, alone, strict=True)]
        pairs += [(rows[place], found) for place, found in zip(shuffled, mixed, strict=True)]
        return all(golden.same_answer(want, got, tolerance) for want, got in pairs)
    return False
