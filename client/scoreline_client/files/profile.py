"""Looks at a file without scoring it: what is in each column, and which rows would be rejected.

The rules are the workers': each piece of the file goes to one of them, and what they report is added up
here. So an analyst's machine needs nothing but the client.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from scoreline_client.codes import Code
from scoreline_client.files.formats.opening import open_reader
from scoreline_client.files.formats.pieces import Described, Piece, Reader
from scoreline_client.files.source import Source, open_source
from scoreline_client.options import BulkOptions
from scoreline_client.protocol.messages import Answer, Operation
from scoreline_client.transport.asking import answers, ask_for_description
from scoreline_client.transport.dispatcher import Transport

BAD_ROWS = 10
SHOWN_EXAMPLES = 5
_MOST_EXAMPLES = 1000
"""Different values that are counted, of each column; those that come later are only in the total."""
_NO_TARGET = "report"

Show = Callable[[int, int, int | None], None]
"""Called with the rows so far, how much of the input that is, and how much there is."""


@dataclass(slots=True)
class Values:
    """Values of a column that training did not have."""

    count: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """How often each was there, as it is shown."""
    nearest: dict[str, str] = field(default_factory=dict)
    """What was probably meant, where there is something."""

    def add(self, found: Mapping[str, Any]) -> None:
        self.count += found["count"]
        for one in found["examples"]:
            value = one["value"]
            if value in self.counts or len(self.counts) < _MOST_EXAMPLES:
                self.counts[value] += one["count"]
                if "nearest" in one:
                    self.nearest[value] = one["nearest"]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        examples = [
            {"value": value, "count": count}
            | ({"nearest": self.nearest[value]} if value in self.nearest else {})
            for value, count in self.counts.most_common(SHOWN_EXAMPLES)
        ]
        return {"count": self.count, "examples": examples}


@dataclass(slots=True)
class ColumnReport:
    """What was found in a column that the model needs."""

    name: str
    type: str
    """What the model expects."""
    nullable: bool
    """Whether a value may be missing."""
    found: Counter[str] = field(default_factory=Counter)
    """What the values look like, and how many of them."""
    nulls: int = 0
    rejected: int = 0
    """Rows that would be rejected for this column."""
    minimum: float | None = None
    maximum: float | None = None
    training: tuple[float | None, float | None] = (None, None)
    """Smallest and largest number of training."""
    out_of_range: Values = field(default_factory=Values)
    unseen: Values = field(default_factory=Values)

    def add(self, found: Mapping[str, Any]) -> None:
        """Add what was found in a piece of the file."""
        self.found.update(found["found"])
        self.nulls += found["nulls"]
        self.rejected += found["rejected"]
        self.minimum = _either(min, self.minimum, found.get("minimum"))
        self.maximum = _either(max, self.maximum, found.get("maximum"))
        low, high = found.get("training", self.training)
        self.training = (low, high)
        self.out_of_range.add(found.get("out_of_range", _NOTHING))
        self.unseen.add(found.get("unseen", _NOTHING))

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {
            "found": dict(self.found.most_common()),
            "out_of_range": self.out_of_range.as_json(),
            "unseen": self.unseen.as_json(),
        }


_NOTHING: dict[str, Any] = {"count": 0, "examples": []}


@dataclass(slots=True)
class FileReport:
    """What a file looks like to a model."""

    source: str
    model: str
    version: int
    rows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """Rows that would be rejected, by code."""
    columns: list[ColumnReport] = field(default_factory=list)
    bad_rows: list[dict[str, Any]] = field(default_factory=list)
    """The first of them: row, line, column, value, code, message."""
    notes: list[str] = field(default_factory=list)
    """How the file is read."""

    @property
    def rejected_rows(self) -> int:
        return self.rejected.total()

    def add(self, piece: Piece, answer: Answer) -> None:
        """Add what a worker says of a piece."""
        self.rows += answer.records
        self.rejected.update(answer.rejected)
        found = (answer.report or {}).get("columns", [])
        if not self.columns:
            self.columns = [
                ColumnReport(one["name"], one["type"], one["nullable"]) for one in found
            ]
        for column, one in zip(self.columns, found, strict=True):
            column.add(one)
        room = BAD_ROWS - len(self.bad_rows)
        self.bad_rows += [_placed(one, piece) for one in answer.problems[: max(0, room)]]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "source": self.source,
            "model": self.model,
            "version": self.version,
            "rows": self.rows,
            "rejected": self.rejected_rows,
            "rejected_by_code": dict(sorted(self.rejected.items())),
            "columns": [one.as_json() for one in self.columns],
            "bad_rows": self.bad_rows,
            "notes": self.notes,
        }


def _either(
    choose: Callable[[float, float], float], one: float | None, other: float | None
) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return choose(one, other)


def _placed(problem: dict[str, Any], piece: Piece) -> dict[str, Any]:
    """A problem with its row in the file; workers number the records of JSON and Arrow from 1."""
    numbers = getattr(piece.context, "numbers", None)
    if numbers is None:
        return problem
    place = problem["row"] - 1
    return problem | {"row": piece.start.row + place, "line": numbers[place]}


async def check_file(
    transport: Transport,
    model: str,
    source_name: str,
    *,
    options: BulkOptions | None = None,
    progress: Show | None = None,
) -> FileReport:
    """Look at a file; see AsyncClient.check_file."""
    source = await asyncio.to_thread(open_source, source_name)
    try:
        description = await ask_for_description(transport, model)
        described = Described.of(description)
        schema = (description.description or {}).get("columns", [])
        reader = open_reader(source, _NO_TARGET, options or BulkOptions(), wants_problems=False)
        report = FileReport(source_name, described.model, described.version)
        report.columns = [ColumnReport(one["name"], one["type"], one["nullable"]) for one in schema]
        await _check(transport, described, source, reader, report, progress)
        report.notes = list(reader.notes)
    finally:
        source.close()
    return report


async def _check(
    transport: Transport,
    described: Described,
    source: Source,
    reader: Reader,
    report: FileReport,
    progress: Show | None,
) -> None:
    _, start = await asyncio.to_thread(reader.begin, described)
    answered = answers(
        transport,
        described,
        reader,
        start,
        total_bytes=source.size,
        operation=Operation.CHECK,
    )
    async with aclosing(answered):
        async for piece, answer in answered:
            report.add(piece, _with_unreadable(piece, answer))
            if progress is not None:
                progress(report.rows, piece.done, reader.total)


def _with_unreadable(piece: Piece, answer: Answer) -> Answer:
    """The answer with what the client knows: lines that are no JSON went as `null`."""
    problems = getattr(piece.context, "problems", {})
    if not problems:
        return answer
    rejected = Counter(answer.rejected)
    rejected[Code.TYPE] -= len(problems)
    rejected.update(code for code, _ in problems.values())
    answer = replace(answer, rejected=dict(+rejected))
    for one in answer.problems:
        if one["row"] - 1 in problems:
            one["code"], one["message"] = problems[one["row"] - 1]
    return answer
