"""From a report's data to the bytes of the page: sections in order, each failing for itself alone."""

from __future__ import annotations

import html
import logging
import math
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from scoreline_training.report import sections
from scoreline_training.report.figures import cut, figure, number, percent
from scoreline_training.report.metrics import Kind, NotMeasurable
from scoreline_training.report.sections import Block, Measured, ReportData

TILES = 4
_log = logging.getLogger(__name__)


def render(data: ReportData) -> bytes:
    """Draw the report, UTF-8. Never raises: what cannot be drawn is told where it belongs.

    The same data give the same bytes, unless the pipeline is so slow that a time budget cuts the
    importance of columns short.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # The pipeline is asked hundreds of times, with shuffled columns; what it warns of it has
            # said when publish() scored it.
            warnings.simplefilter("ignore")
            return _page(data)
    # A report must not stop a version that is proven to be good.
    except Exception as error:  # noqa: BLE001
        _log.warning("the training report of %s cannot be drawn", data.version.model, exc_info=True)
        model, reason = html.escape(data.version.model), html.escape(_named(error))
        text = (
            f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{model}</title><h1>{model}</h1>"
            f"<p>The training report could not be drawn: {reason}. The version is not affected.</p>"
        )
        return text.encode(errors="xmlcharrefreplace")


def _page(data: ReportData) -> bytes:
    # Who only asks a version in the clean room does without Jinja.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found, reason = None, ""
    try:
        found = sections.measured(data)
    except NotMeasurable as error:
        reason = str(error)
    # Scoring runs the pipeline's own code on rows that it may never have seen.
    except Exception as error:  # noqa: BLE001
        which = "held-out" if data.X_test is not None else "training"
        reason = f"The pipeline cannot be measured on the {which} rows: {_named(error)}"
    order: list[str] = []
    makes: dict[str, Callable[[], Iterable[Block]]] = {"Quality": lambda: [reason]}
    if found is not None:
        makes = {
            "Quality": partial(sections.quality, found),
            "Beside production": partial(sections.production, found),
            "Importance of columns": partial(sections.important_columns, found, order),
            "Values of columns": partial(sections.column_values, found, order),
        }
    makes |= {
        "Schema": partial(sections.schema, data),
        "Golden rows": partial(sections.golden_rows, data),
        "Lineage and environment": partial(sections.origin, data),
    }
    environment = Environment(
        loader=PackageLoader("scoreline_training.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    text = environment.get_template("report.html.j2").render(
        data=data,
        kind=str(found.answers.kind) if found else "",
        notices=_notices(data, found),
        tiles=_tiles(found) if found else [],
        sections={title: _blocks(title, make) for title, make in makes.items()},
    )
    # A lone surrogate from a text column has no UTF-8; a reference to it harms nobody.
    return text.encode("utf-8", errors="xmlcharrefreplace")


def _blocks(title: str, make: Callable[[], Iterable[Block]]) -> list[Block]:
    """What a section holds; up to a failure, and the reason of it."""
    found: list[Block] = []
    try:
        found.extend(make())
    except NotMeasurable as reason:
        found.append(str(reason))
    # Sections run the pipeline and draw whatever the data hold; one that fails leaves the others.
    except Exception as error:  # noqa: BLE001
        _log.warning("the section %r of a training report cannot be drawn", title, exc_info=True)
        found.append(f"This could not be drawn: {_named(error)}")
    return found


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def shown(value: Any) -> str:
    """A value as the text of a table's cell."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, list):
        return cut(f"[{', '.join(map(shown, value))}]", 400)
    if isinstance(value, float | int) and not isinstance(value, bool):
        return number(value)
    return cut(value, 400)


def _notices(data: ReportData, found: Measured | None) -> Iterable[str]:
    if found is not None and not found.rows.held_out and found.rows.truth is not None:
        yield (
            "Measured on the rows it was trained on: how it does on new rows is not known, and is "
            "usually worse. Pass X_test and y_test to publish()."
        )
    if not data.version.batchable:
        yield (
            "The answers of this pipeline depend on the rows that are scored with them. The figures "
            "here come from scoring all rows together; workers score each request by itself."
        )


def _tiles(found: Measured) -> Iterable[tuple[str, str, str, str, list[str]]]:
    """Headline figures: name, value, change, what the change is, and quieter lines."""
    rows = found.rows
    sampled = [f"sample of {rows.of:,}"] if len(rows.frame) < rows.of else []
    yield (
        "Held-out rows" if rows.held_out else "Training rows",
        number(len(rows.frame)),
        "",
        "",
        sampled,
    )
    for one in found.measures[:TILES]:
        before, change = found.measures_before.get(one.name), ("", "")
        details = [f"95 %: {sections.interval(one)}"] if one.interval else []
        if before is not None:
            change = sections.trend(one, before)
            details.append(f"production {figure(before.value)}")
        elif one.baseline is not None:
            details.append(f"simplest answer {figure(one.baseline)}")
        yield one.name, figure(one.value), *change, details
    if found.answers.kind is Kind.OUTLIERS and not found.measures:
        yield "Called outliers", percent((found.answers.values == "-1").mean()), "", "", []
