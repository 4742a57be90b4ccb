"""The formats that a plan can be written in, and what each of them offers: write, open, and say what it takes.

A format is a module with a `FORMAT`. It writes a plan as bytes, and opens such bytes again, by a program other than
scikit-learn, as a function of frames: what `export` proves is what was written.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from scoreline_client.errors import ScorelineError, SettingsError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from scoreline_artifacts.plan import ScoringPlan
    from scoreline_artifacts.schema import Column

TOLERANCE = 1e-9
"""Largest relative difference of a number that a file gives from the pipeline's."""
FORMATS = {
    "json": "scoreline_training.export.json_format",
    "onnx": "scoreline_training.export.onnx_format",
    "pmml": "scoreline_training.export.pmml_format",
}
"""The module of each format, imported only when it is asked for."""


@dataclass(frozen=True, kw_only=True)
class About:
    """Which version a file is made of."""

    model: str
    version: int
    manifest_sha256: str


@dataclass(frozen=True)
class Scored:
    """What the program of a format answers for a frame."""

    values: list[Any]
    """(rows,) Labels, of the types of `classes`, or numbers; a list for each row of several numbers."""
    probabilities: npt.NDArray[np.float64] | None = None
    """(rows, classes) in the order of `classes`; None where there are none."""
    classes: tuple[Any, ...] = ()


Evaluator: TypeAlias = "Callable[[pd.DataFrame], Scored]"
"""Scores frames with the columns and types of training. What it cannot score, it raises an exception for."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """How a plan is written down, and read by another program."""

    name: str
    suffix: str
    """Of files, with the dot."""
    write: Callable[[ScoringPlan, Sequence[Column], About], bytes]
    """The file of a plan, every step of which it `takes`; the columns are those of the schema, in order."""
    open: Callable[[bytes], Evaluator]
    """The program that scores what was written.

    Raises:
        ValueError: the bytes are not of this format.
        MissingDependency: what runs it is not installed.
    """
    takes: Callable[[Any], str | None]
    """None if a node or the end of a plan can be written, else why not, as the end of "it …" (`it has …`)."""
    libraries: tuple[str, ...] = ()
    """The distributions that write and open it, whose versions the proof names."""
    tolerance: float = TOLERANCE


@dataclass(frozen=True, kw_only=True)
class Unexportable:
    """A step that a format has no words for."""

    way: str
    """Where it stands in the pipeline: names of steps, columns, class, and the function with its file and line."""
    reason: str
    way_out: str


class NotExportable(ScorelineError):
    """Raised when a pipeline has steps that a format has no words for; all of them are named."""

    exit_status = 1

    def __init__(self, about: str, format_name: str, steps: Sequence[Unexportable]) -> None:
        listed = "".join(
            f"\n  {step.way}\n    {step.reason}\n    → {step.way_out}" for step in steps
        )
        count = "1 step" if len(steps) == 1 else f"{len(steps)} steps"
        super().__init__(
            f"{about} cannot be written as {format_name}: {count} cannot be exported.{listed}\n"
            "The version itself is served as it is, by workers and over HTTP."
        )
        self.steps = list(steps)


def format_of(name: str) -> Format:
    """The format of a name.

    Raises:
        SettingsError: there is none.
    """
    module = FORMATS.get(name)
    if module is None:
        raise SettingsError("the format", name, " or ".join(FORMATS))
    file_format: Format = importlib.import_module(module).FORMAT
    return file_format
