"""What a report is drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from scoreline_artifacts.golden import GoldenRow
from scoreline_artifacts.loading.version import LoadedVersion

if TYPE_CHECKING:
    from scoreline_training.report.answers import Answers
    from scoreline_training.report.rows import Rows


class NotMeasurable(Exception):
    """Raised when a part of the report cannot be had from what is there; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incumbent:
    """The version in production while a new one is published, or why there is none to compare with."""

    reference: str | None = None
    """Such as `pima@3`; None when nothing was ever released."""
    released_at: str = ""
    """ISO 8601, UTC."""
    ask: Callable[[Rows], Answers] | None = None
    """What it says about rows; raises NotMeasurable if it cannot be asked about them."""
    why_not: str = ""
    """Why it cannot be asked at all, as a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything that a report is drawn from; all but the first three may be left out."""

    version: LoadedVersion
    """The new version, with the schema of the training frame."""
    created_at: str
    """ISO 8601, UTC; the one thing that differs between reports of the same input."""
    X_train: pd.DataFrame
    """The rows that the pipeline was fitted on."""
    y_train: Any = None
    """(rows,) or (rows, outputs), or None."""
    X_test: pd.DataFrame | None = None
    """Rows that were held out, with the same columns."""
    y_test: Any = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Figures that the training job gives by itself."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that the training job wants to be remembered."""
    libraries: Mapping[str, str] = field(default_factory=dict)
    """Versions by distribution."""
    golden: Sequence[GoldenRow] = ()
    production: Incumbent = Incumbent()
    pipeline_sha256: str = ""
    """Of the pipeline's bytes in the artifact: says to which version the report belongs."""
    sources: Sequence[str] | None = None
    """Modules whose source travels in the artifact; None when that is not known."""
    by_value: Sequence[str] = ()
    """Functions of which the pickle holds the bytecode, which only one minor version of Python runs."""
