"""From a report's data to the bytes of the page: sections in order, each failing for itself alone."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from scoreline_training.report import origin, sections
from scoreline_training.report.answers import Kind
from scoreline_training.report.blocks import Note, Section, Tile
from scoreline_training.report.data import NotMeasurable, ReportData
from scoreline_training.report.importance import importance
from scoreline_training.report.measured import Measured, take_measure
from scoreline_training.report.measures import Measure
from scoreline_training.report.quality import quality
from scoreline_training.report.svg import percent

TILES = 5
_log = logging.getLogger(__name__)


def render(data: ReportData) -> bytes:
    """Draw the report, UTF-8. Never raises: what cannot be drawn is told in its place.

    The same data give the same bytes, unless the pipeline is so slow that a time budget cuts the
    importance of columns short.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # The pipeline is asked hundreds of times, with shuffled columns; what it has to say about
            # its input it has said when publish() scored it.
            warnings.simplefilter("ignore")
            return _page(data)
    # A report must not stop a version that is proven to be good: what failed is told in its place.
    except Exception as error:  # noqa: BLE001
        _log.warning(
            "the training report of %s could not be drawn", data.version.model, exc_info=True
        )
        return _excuse(data, error)


def _page(data: ReportData) -> bytes:
    measured, failure = _measured(data)
    found = _sections(data, measured, failure)
    return _html(
        data,
        kind=str(measured.answers.kind) if measured else "",
        notices=_notices(data, measured),
        tiles=_tiles(measured) if measured else [],
        sections=found,
    )


def _measured(data: ReportData) -> tuple[Measured | None, str]:
    try:
        return take_measure(data), ""
    except NotMeasurable as reason:
        return None, str(reason)
    # Scoring runs the pipeline's own code on rows that it may never have seen.
    except Exception as error:  # noqa: BLE001
        which = "held-out" if data.X_test is not None else "training"
        return None, f"The pipeline cannot be measured on the {which} rows: {_named(error)}"


def _sections(data: ReportData, measured: Measured | None, failure: str) -> list[Section]:
    found: list[Section] = []
    if measured is None:
        found.append(Section("quality", "Quality", "", [Note(failure)]))
    else:
        found.append(_drawn("quality", "Quality", partial(quality, measured)))
        found.append(
            _drawn("production", "Beside production", partial(sections.production, measured))
        )
        found.extend(_about_columns(measured))
    found.append(_drawn("schema", "Schema", partial(origin.schema_table, data)))
    found.append(_drawn("golden", "Golden rows", partial(origin.golden_rows, data)))
    found.append(_drawn("origin", "Lineage and environment", partial(origin.origin, data)))
    return found


def _about_columns(measured: Measured) -> list[Section]:
    order: list[str] = []

    def important() -> Section:
        found = importance(measured.data.version, measured.rows)
        order.extend(one.name for one in found.columns)
        return sections.important_columns(found)

    return [
        _drawn("importance", "Importance of columns", important),
        _drawn("columns", "Values of columns", lambda: sections.columns(measured, order)),
    ]


def _drawn(key: str, title: str, make: Callable[[], Section]) -> Section:
    try:
        return make()
    except NotMeasurable as reason:
        return Section(key, title, "", [Note(str(reason))])
    # Sections run the pipeline and draw whatever the data hold; one that fails leaves the others.
    except Exception as error:  # noqa: BLE001
        _log.warning("the section %r of a training report could not be drawn", title, exc_info=True)
        return Section(key, title, "", [Note(f"This could not be drawn: {_named(error)}")])


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def _notices(data: ReportData, measured: Measured | None) -> list[str]:
    notices = []
    if measured is not None and not measured.rows.held_out and measured.rows.truth is not None:
        notices.append(
            "Measured on the rows it was trained on: how it does on new rows is not known, and is "
            "usually worse. Pass X_test and y_test to publish()."
        )
    if not data.version.batchable:
        notices.append(
            "The answers of this pipeline depend on the rows that are scored with them. The figures "
            "here come from scoring all rows together; workers score each request by itself."
        )
    return notices


def _tiles(measured: Measured) -> list[Tile]:
    whose = "Held-out rows" if measured.rows.held_out else "Training rows"
    sampled = [f"sample of {measured.rows.of:,}"] if measured.rows.sampled else []
    tiles = [Tile(whose, f"{len(measured.rows.frame):,}", sampled)]
    tiles.extend(_tile(measured, one) for one in measured.measures[: TILES - 1])
    if measured.answers.kind is Kind.OUTLIERS and not measured.measures:
        share = float((measured.answers.values == -1).mean())
        tiles.append(Tile("Called outliers", percent(share)))
    return tiles


def _tile(measured: Measured, one: Measure) -> Tile:
    value = sections.figure(one.value)
    known = [] if one.interval is None else [f"95 %: {sections.interval(one)}"]
    comparison = measured.comparison
    others = comparison.measures if comparison else []
    before = next((was for was in others if was.name == one.name), None)
    if before is None:
        base = [] if one.baseline is None else [f"simplest answer {sections.figure(one.baseline)}"]
        return Tile(one.name, value, [*known, *base])
    trend = sections.trend_of(one, before)
    change = f"{sections.signed(one.value - before.value, one.value)} {sections.TRENDS[trend]}"
    was = f"production {sections.figure(before.value)}"
    return Tile(one.name, value, [*known, was], change, trend)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("scoreline_training.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _html(
    data: ReportData,
    *,
    kind: str = "",
    notices: Sequence[str] = (),
    tiles: Sequence[Tile] = (),
    sections: Sequence[Section] = (),
) -> bytes:
    page = _environment().get_template("report.html.j2")
    text = page.render(data=data, kind=kind, notices=notices, tiles=tiles, sections=sections)
    # A lone surrogate from a text column has no UTF-8; a reference to it harms nobody.
    return text.encode("utf-8", errors="xmlcharrefreplace")


def _excuse(data: ReportData, error: Exception) -> bytes:
    """A page that says only that there is no report; made without the parts that may have failed."""
    page = Markup(
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>{0}: no training report</title>"
        "<h1>{0}</h1><p>The training report could not be drawn: {1}. The version is not affected.</p>"
    )
    return page.format(data.version.model, _named(error)).encode(errors="xmlcharrefreplace")
