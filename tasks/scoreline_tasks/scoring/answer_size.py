"""Bounds what an answer says about errors: the first of a kind in full, the others after it in a few bytes.

A record of three bytes may have an error of a hundred, and answers are kept for an hour. So an answer says as much
as a small multiple of its request; further errors are in groups of the same code and column, which the client takes
apart again (`Answer.decode`). A caller who does not ask for groups gets a short error for each record, or none of
them where even those would be too much.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from scoreline_artifacts.validation import Problem
from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused
from scoreline_client.protocol.messages import INLINE_ANSWER_BYTES

if TYPE_CHECKING:
    from scoreline_tasks.scoring.predict import CodecResult

FULL, SHORT = 4, 8
"""Bytes of errors in full, and of short ones, for each byte of the request."""
FEW = 30
"""Errors that are given in full without adding up their sizes."""
_ENTRY_BYTES = 64
"""Bytes of a short error, and of an error in full beside its texts."""


def full_bytes(body_bytes: int) -> int:
    """How many bytes of errors in full the answer to a request has."""
    return max(INLINE_ANSWER_BYTES, FULL * body_bytes)


def bound_errors(result: CodecResult, body_bytes: int, *, grouped: bool) -> None:
    """Shorten the errors, problems and warnings of a result to what its request's size permits.

    Raises:
        RequestRefused: E_TOO_LARGE; there are too many errors even for short ones.
    """
    if len(result.errors) + len(result.problems) + len(result.warnings) < FEW:
        return
    errors = ((int(index), detail) for index, detail in result.errors.items())
    problems = ((problem["row"], problem) for problem in result.problems)
    full, short, groups = _divided(errors, body_bytes, "record", "records")
    result.errors = {str(index): detail for index, detail in full.items()}
    rows, short_rows, row_groups = _divided(problems, body_bytes, "row", "rows")
    result.problems = list(rows.values())
    if grouped:
        result.more_errors = [*groups, *row_groups]
    elif _ENTRY_BYTES * (len(short) + len(short_rows)) > max(
        INLINE_ANSWER_BYTES, SHORT * body_bytes
    ):
        raise RequestRefused(
            Code.TOO_LARGE,
            f"{len(full) + len(short) + len(rows) + len(short_rows):,} records have errors, more than an answer of "
            f"this size may tell of: send fewer at a time, or ask with grouped_errors. The first: "
            f"{next(iter([*full.values(), *rows.values()]))['message']}",
        )
    else:
        result.errors |= {str(index): detail for index, detail in short.items()}
        result.problems += short_rows.values()
    room = full_bytes(body_bytes)
    for warnings in result.warnings.values():
        room -= sum(map(_size, warnings))
        if room < 0:
            for warning in warnings:
                warning |= {"message": "", "value": ""}


def _divided(
    details: Iterable[tuple[int, dict[str, Any]]], body_bytes: int, singular: str, plural: str
) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]], list[dict[str, Any]]]:
    """Errors in full as long as there is room, short ones for the others, and the same ones in groups."""
    room = full_bytes(body_bytes)
    full: dict[int, dict[str, Any]] = {}
    short: dict[int, dict[str, Any]] = {}
    groups: dict[tuple[str, str | None], dict[str, Any]] = {}
    firsts: dict[tuple[str, str | None], tuple[int, str]] = {}
    for number, detail in details:
        kind = detail["code"], detail.get("column")
        first, message = firsts.setdefault(kind, (number, detail["message"]))
        room -= _size(detail)
        if room >= 0:
            full[number] = detail
            continue
        position = {name: detail[name] for name in detail if name in ("row", "line")}
        short[number] = {**position, "code": kind[0], "message": f"like {singular} {first}"}
        if kind not in groups:
            column = {} if kind[1] is None else {"column": kind[1]}
            message = f"like {singular} {first}: {message}"
            groups[kind] = {"code": kind[0], "message": message, **column, plural: []}
        groups[kind][plural].append(number)
        if "line" in detail:
            groups[kind].setdefault("lines", []).append(detail["line"])
    return full, short, list(groups.values())


def _size(detail: Mapping[str, Any]) -> int:
    """About how many bytes an error or a warning has in an answer."""
    return _ENTRY_BYTES + sum(len(text) for text in detail.values() if isinstance(text, str))


def error_texts(
    problems: Mapping[int, Problem], body_bytes: int, first_row: int
) -> Iterator[tuple[int, str]]:
    """The texts of the column `error`, by index: in full as long as there is room."""
    room = full_bytes(body_bytes)
    firsts: dict[tuple[str, str | None], int] = {}
    for index in sorted(problems):
        problem = problems[index]
        first = firsts.setdefault((problem.code, problem.column), index)
        text = f"{problem.code}: {problem.message}"
        room -= len(text)
        yield index, text if room >= 0 else f"{problem.code}: like row {first_row + first}"
