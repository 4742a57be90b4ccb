"""What a CSV text means, told by Python's `csv` module and value by value: slow, and beyond doubt."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from scoreline_artifacts import Schema
from scoreline_artifacts.validation import Problem, frame_of_columns
from scoreline_tasks.scoring.text_values import PLAIN, TextRules, reader_of


@dataclass
class Oracle:
    """All rows of a text and what they are worth."""

    fields: list[list[str]] = field(default_factory=list)
    """Each row's fields, as the csv module reads them when it is lenient."""
    lines: list[int] = field(default_factory=list)
    """The physical line on which each row begins, from 0."""
    frame: pd.DataFrame = field(default_factory=pd.DataFrame)
    codes: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    """Code and column of what is wrong with rows, by place."""


def consult(
    data: bytes, columns: Sequence[str], schema: Schema, rules: TextRules = PLAIN
) -> Oracle:
    """Read a text slowly."""
    found = Oracle()
    good: list[int] = []
    for line, raw, fields in raw_rows(data.decode("utf-8", "surrogateescape")):
        row = len(found.fields)
        found.fields.append(fields)
        found.lines.append(line)
        code = _trouble(raw, fields, len(columns))
        if code is None:
            good.append(row)
        else:
            found.codes[row] = (code, None)
    places = [list(columns).index(name) for name in schema.names]
    values: dict[str, list[Any]] = {
        column.name: [reader_of(column, rules)(found.fields[row][place]) for row in good]
        for column, place in zip(schema.columns, places, strict=True)
    }
    checked = frame_of_columns(values, len(good), schema)
    found.frame = checked.frame
    found.codes |= {good[one.record]: _told(one) for one in checked.problems}
    return found


def _told(problem: Problem) -> tuple[str, str | None]:
    return problem.code, problem.column


def raw_rows(text: str) -> list[tuple[int, str, list[str]]]:
    """Each row: the line on which it begins, its text with its line end, its fields."""
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(iter(lines))
    found = []
    start = 0
    for fields in reader:
        raw = "".join(lines[start : reader.line_num])
        if fields:
            found.append((start, raw, fields))
        start = reader.line_num
    return found


def _trouble(raw: str, fields: list[str], columns: int) -> str | None:
    try:
        raw.encode()
    except UnicodeEncodeError:
        return "E_ENCODING"
    if "\0" in raw:
        return "E_CONTROL_CHAR"
    try:
        list(csv.reader(io.StringIO(raw, newline=""), strict=True))
    except csv.Error:
        return "E_QUOTE"
    return None if len(fields) == columns else "E_FIELD_COUNT"
