"""What is answered for the rows of a file or a frame: the columns, and the particulars beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.schema import Column
from scoreline_artifacts.validation import (
    Checked,
    Finding,
    Problem,
    Rules,
    describe_unusual,
    nearest_category,
    shown,
)
from scoreline_client.codes import Code, WarningCode
from scoreline_client.options import RequestOptions
from scoreline_tasks.scoring.predict import RequestProblem, Scored

EXAMPLES = 5
"""So many different values are shown of what is warned of in a column."""
_SEPARATOR = "; "

Position = Callable[[int], dict[str, int]]
"""The row and, in text, the line of a record, by its place."""


def rules_of(options: RequestOptions) -> Rules:
    """What records are held to beside their types."""
    return Rules(unseen=options.unseen.value, out_of_range=options.out_of_range.value)


def all_problems(checked: Checked, scored: Scored) -> dict[int, Problem]:
    """What is wrong with records, by place: before they were scored, and then."""
    problems = {problem.record: problem for problem in checked.problems}
    for row, problem in scored.errors.items():
        problems[row if checked.good is None else int(checked.good[row])] = problem
    return problems


def output_names(loaded: LoadedVersion, options: RequestOptions) -> list[str]:
    """The answer's columns.

    Raises:
        RequestProblem: E_WIRE; a class was asked for that the version does not have.
    """
    shares = [f"probability_{label}" for label in loaded.classes or ()]
    names: list[str] = []
    for name in (
        ("prediction", "probability", "error") if options.outputs is None else options.outputs
    ):
        if name.startswith("probability_") and name not in shares:
            message = f"there is no output {name!r}; this version has {', '.join(shares) or 'none'}"
            raise RequestProblem(Code.WIRE, message)
        names += shares if name == "probability" else [name]
    return names


def output_table(
    count: int,
    checked: Checked,
    scored: Scored,
    problems: Mapping[int, Problem],
    loaded: LoadedVersion,
    options: RequestOptions,
) -> Any:
    """The columns that are asked for, (count,) each; null is none."""
    columns: dict[str, Any] = {}
    classes = [f"probability_{label}" for label in loaded.classes or ()]
    for name in output_names(loaded, options):
        if name == "prediction":
            columns[name] = _spread(scored.values, count, checked, problems)
        elif name == "error":
            columns[name] = _errors(count, problems)
        elif name == "warnings":
            columns[name] = _warnings(count, checked, loaded, problems)
        elif scored.probabilities is None:
            # Where no row could be scored there are none, but their columns must be there.
            columns[name] = pa.nulls(count, pa.float64())
        else:
            shares = scored.probabilities[:, classes.index(name)]
            columns[name] = _spread(shares, count, checked, problems)
    return pa.table(columns)


def _errors(count: int, problems: Mapping[int, Problem]) -> Any:
    if not problems:
        return pa.nulls(count, pa.string())
    errors: list[str | None] = [None] * count
    for row, problem in problems.items():
        errors[row] = f"{problem.code}: {problem.message}"
    return pa.array(errors, pa.string())


def _warnings(
    count: int, checked: Checked, loaded: LoadedVersion, problems: Mapping[int, Problem]
) -> Any:
    texts: list[str | None] = [None] * count
    for one in each_warning(checked, loaded):
        if one.place not in problems:
            before = texts[one.place]
            text = f"{one.code}: {one.message}"
            texts[one.place] = text if before is None else before + _SEPARATOR + text
    return pa.array(texts, pa.string())


def _spread(values: Any, count: int, checked: Checked, problems: Mapping[int, Problem]) -> Any:
    """Answers of the good records at their places, null everywhere else."""
    array = np.asarray(values)
    rows = pa.array(array.tolist() if array.ndim > 1 or array.dtype == object else array)
    if not problems:
        return rows
    source = np.full(count, -1, dtype=np.int64)
    source[slice(None) if checked.good is None else checked.good] = np.arange(len(rows))
    source[list(problems)] = -1
    return rows.take(pa.array(source, mask=source < 0))


# Particulars


def particulars(
    problems: Mapping[int, Problem], limit: int, position: Position
) -> list[dict[str, Any]]:
    """The first rejected rows, as the answer tells of them."""
    found = []
    for place in islice(sorted(problems), limit):
        problem = problems[place]
        one = position(place) | {"code": problem.code, "message": problem.message}
        if problem.column is not None:
            one["column"] = problem.column
        if problem.value is not None:
            one["value"] = problem.value
        found.append(one)
    return found


@dataclass(frozen=True, slots=True)
class Warned:
    """One thing that is unusual about one record."""

    place: int
    code: str
    column: str
    value: str
    message: str


def each_warning(checked: Checked, loaded: LoadedVersion) -> Iterator[Warned]:
    """All findings, record by record."""
    for one in checked.findings:
        column = _column(loaded, one.column)
        values = _values(checked, one)
        for place, value in zip(one.records.tolist(), values.tolist(), strict=True):
            message = describe_unusual(one.code, column, value)
            yield Warned(place, one.code, one.column, shown(value), message)


def warned(checked: Checked, loaded: LoadedVersion, position: Position) -> list[dict[str, Any]]:
    """How often something unusual was found, by code and column, with examples."""
    return [_summary(checked, loaded, one, position) for one in checked.findings]


def _summary(
    checked: Checked, loaded: LoadedVersion, finding: Finding, position: Position
) -> dict[str, Any]:
    examples = []
    for value, count, first in _most_frequent(_values(checked, finding)):
        place = int(finding.records[first])
        one = position(place) | {"value": shown(value), "count": count}
        if finding.code == WarningCode.UNSEEN_CATEGORY:
            near = nearest_category(_column(loaded, finding.column), str(value))
            one |= {"nearest": near} if near is not None else {}
        examples.append(one)
    return {
        "code": finding.code,
        "column": finding.column,
        "count": len(finding.records),
        "examples": examples,
    }


def _most_frequent(values: Any) -> list[tuple[Any, int, int]]:
    """The values that are there most, how often, and where first."""
    plain = values if isinstance(values, np.ndarray) else np.asarray(values, dtype=object)
    found, firsts, counts = np.unique(plain, return_index=True, return_counts=True)
    order = np.lexsort((firsts, -counts))[:EXAMPLES]
    return [
        (found[at].item() if plain.dtype != object else found[at], int(counts[at]), int(firsts[at]))
        for at in order
    ]


def _column(loaded: LoadedVersion, name: str) -> Column:
    assert loaded.schema is not None  # noqa: S101 - nothing is found unusual without a schema
    return next(one for one in loaded.schema.columns if one.name == name)


def _values(checked: Checked, finding: Finding) -> Any:
    """What the column has at the finding's records, as numpy has it."""
    rows = np.searchsorted(checked.places, finding.records)
    return checked.frame[finding.column].to_numpy()[rows]
