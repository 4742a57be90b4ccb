"""Profiles a file without scoring it: the values of each column, and the rows that would be rejected.

The rules are the workers': each chunk of the file goes to a worker, and the reports are added up here.
So an analyst's machine needs nothing but the client.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import aclosing, closing
from dataclasses import asdict, dataclass, field
from typing import Any

from scoreline_client.codes import Code
from scoreline_client.files.chunks import answered_chunks, describe, open_reader
from scoreline_client.files.doubts import Doubts
from scoreline_client.files.reader import Chunk
from scoreline_client.files.source import open_source
from scoreline_client.options import BulkOptions
from scoreline_client.protocol.messages import Answer, Operation
from scoreline_client.shown import shown_name
from scoreline_client.transport.dispatcher import Transport

BAD_ROWS = 10
SHOWN_EXAMPLES = 5
_MOST_EXAMPLES = 1000
"""Different values of a column that are counted; further ones are only in the total."""
_NO_TARGET = "report"

ShowCheck = Callable[[int, int, int | None], None]
"""Called with the rows so far, how much of the input that is, and how much there is."""
_NO_VALUES: dict[str, Any] = {"count": 0, "examples": []}


@dataclass(slots=True)
class Values:
    """Values of a column that training did not have."""

    count: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """How often each occurs, as it is shown."""
    rejected: int = 0
    """How many of them are in rows that would be rejected for something else; `score` does not count those."""
    nearest: dict[str, str] = field(default_factory=dict)
    """The value that was probably meant, where there is any."""

    def add(self, values: Mapping[str, Any]) -> None:
        """Add the values of a chunk."""
        self.count += values["count"]
        self.rejected += values.get("rejected", 0)
        for example in values["examples"]:
            value = example["value"]
            if value in self.counts or len(self.counts) < _MOST_EXAMPLES:
                self.counts[value] += example["count"]
                if "nearest" in example:
                    self.nearest[value] = example["nearest"]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        examples = [
            {"value": value, "count": count}
            | ({"nearest": self.nearest[value]} if value in self.nearest else {})
            for value, count in self.counts.most_common(SHOWN_EXAMPLES)
        ]
        return {"count": self.count, "rejected": self.rejected, "examples": examples}


@dataclass(slots=True)
class ColumnReport:
    """The values of a column that the model needs."""

    name: str
    type: str
    """The type that the model expects."""
    nullable: bool
    """Whether a value may be missing."""
    found: Counter[str] = field(default_factory=Counter)
    """How many values look like each type."""
    nulls: int = 0
    rejected: int = 0
    """Rows that would be rejected for this column."""
    minimum: float | None = None
    maximum: float | None = None
    training: tuple[float | None, float | None] = (None, None)
    """Smallest and largest number of training."""
    out_of_range: Values = field(default_factory=Values)
    unseen: Values = field(default_factory=Values)

    def add(self, report: Mapping[str, Any]) -> None:
        """Add a worker's report of a chunk."""
        self.found.update(report["found"])
        self.nulls += report["nulls"]
        self.rejected += report["rejected"]
        for name, choose in (("minimum", min), ("maximum", max)):
            both = [x for x in (getattr(self, name), report.get(name)) if x is not None]
            setattr(self, name, choose(both, default=None))
        low, high = report.get("training", self.training)
        self.training = (low, high)
        self.out_of_range.add(report.get("out_of_range", _NO_VALUES))
        self.unseen.add(report.get("unseen", _NO_VALUES))

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {
            "found": dict(self.found.most_common()),
            "out_of_range": self.out_of_range.as_json(),
            "unseen": self.unseen.as_json(),
        }


@dataclass(slots=True)
class FileReport:
    """A file as a model sees it."""

    source: str
    model: str
    version: int
    rows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """Rows that would be rejected, by code."""
    columns: list[ColumnReport] = field(default_factory=list)
    bad_rows: list[dict[str, Any]] = field(default_factory=list)
    """The first rejected rows: row, line, column, value, code, message."""
    notes: list[str] = field(default_factory=list)
    """How the file is read."""
    doubts: Doubts = field(default_factory=Doubts)

    @property
    def rejected_rows(self) -> int:
        return self.rejected.total()

    def add(self, chunk: Chunk, answer: Answer) -> None:
        """Add a worker's answer for a chunk."""
        self.rows += answer.records
        self.rejected.update(answer.rejected)
        if chunk.unreadable:
            # Lines that the client could not read went as `null`, which workers reject with E_TYPE.
            self.rejected[Code.TYPE] -= len(chunk.unreadable)
            self.rejected.update(code for code, _ in chunk.unreadable.values())
            self.rejected = +self.rejected
        for column, report in zip(
            self.columns, (answer.report or {}).get("columns", []), strict=True
        ):
            column.add(report)
        self.doubts.add(answer.report)
        for problem in answer.problems[: max(0, BAD_ROWS - len(self.bad_rows))]:
            if chunk.lines:
                index = problem["row"] - 1
                problem |= {"row": chunk.start.row + index, "line": chunk.lines[index]}
                if index in chunk.unreadable:
                    problem["code"], problem["message"] = chunk.unreadable[index]
            self.bad_rows.append(problem)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "source": self.source,
            "model": self.model,
            "version": self.version,
            "rows": self.rows,
            "rejected": self.rejected_rows,
            "rejected_by_code": dict(sorted(self.rejected.items())),
            "columns": [column.as_json() for column in self.columns],
            "bad_rows": self.bad_rows,
            "notes": self.notes,
        }


async def check_file(
    transport: Transport,
    model: str,
    source_name: str,
    *,
    options: BulkOptions | None = None,
    progress: ShowCheck | None = None,
) -> FileReport:
    """Profile a file; see AsyncClient.check_file."""
    with closing(await asyncio.to_thread(open_source, source_name)) as source:
        info = await describe(transport, model)
        reader = open_reader(source, _NO_TARGET, options or BulkOptions(), wants_problems=False)
        report = FileReport(shown_name(source_name), info.model, info.version)
        report.columns = [
            ColumnReport(column["name"], column["type"], column["nullable"])
            for column in info.columns
        ]
        _, start = await asyncio.to_thread(reader.begin, info)
        answered = answered_chunks(
            transport, info, reader, start, total_bytes=source.size, operation=Operation.CHECK
        )
        async with aclosing(answered):
            async for chunk, answer in answered:
                report.add(chunk, answer)
                if progress is not None:
                    progress(report.rows, chunk.done, reader.total)
        report.notes = [*reader.notes, *report.doubts.notes(report.rows)]
    return report
