"""From a report's data to the bytes of the page: sections in order, each failing for itself alone."""

from __future__ import annotations

import html
import logging
import math
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from scoreline_training.report import sections
from scoreline_training.report.figures import cut, figure, number
from scoreline_training.report.metrics import NotMeasurable
from scoreline_training.report.sections import Block, Measured, ReportData

TILES = 4
_log = logging.getLogger(__name__)


class TrainingReport(NamedTuple):
    """A report, and what it was able to measure."""

    html: bytes
    """UTF-8."""
    figures: Mapping[str, float]
    """The metrics on held-out rows, by name; empty without labels of such rows."""


def render(data: ReportData) -> TrainingReport:
    """Draw the report. Never raises: a part that cannot be drawn is a sentence in its place.

    The same data give the same bytes, unless the pipeline is so slow that a time budget cuts the
    importance of columns short.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # The pipeline scores shuffled columns dozens of times; publish() has shown its warnings.
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
        return TrainingReport(text.encode(errors="xmlcharrefreplace"), {})


def _page(data: ReportData) -> TrainingReport:
    # A version is scored in the clean room, which imports this package, without Jinja.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    evaluation, blocks_by_title = None, dict[str, list[Block]]()
    try:
        evaluation = sections.measured(data)
    # Scoring runs the pipeline's own code on rows that it may never have seen.
    except Exception as error:  # noqa: BLE001
        which = "held-out" if data.X_test is not None else "training"
        reason = f"The pipeline cannot be measured on the {which} rows: {_named(error)}"
        blocks_by_title["Quality"] = [str(error) if isinstance(error, NotMeasurable) else reason]
    for title, make, needs_answers in sections.SECTIONS:
        if needs_answers and evaluation is None:
            continue
        blocks = blocks_by_title[title] = []
        try:
            blocks.extend(make(evaluation if needs_answers else data))
        except NotMeasurable as reason:
            blocks.append(str(reason))
        # Sections run the pipeline and draw whatever the data hold; one that fails leaves the others.
        except Exception as error:  # noqa: BLE001
            _log.warning("the section %r of a report cannot be drawn", title, exc_info=True)
            blocks.append(f"This could not be drawn: {_named(error)}")
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
        evaluation=evaluation,
        tiles=_tiles(evaluation) if evaluation else [],
        sections=blocks_by_title,
    )
    # A lone surrogate from a text column has no UTF-8; a reference to it harms nobody.
    page = text.encode("utf-8", errors="xmlcharrefreplace")
    figures = evaluation.measures if evaluation is not None and evaluation.rows.held_out else ()
    return TrainingReport(
        page, {measure.name: measure.value for measure in figures if math.isfinite(measure.value)}
    )


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def shown(value: Any) -> str:
    """A value as the text of a table's cell."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, list):
        return cut(f"[{', '.join(map(shown, value))}]", 400)
    is_number = isinstance(value, float | int) and not isinstance(value, bool)
    return number(value) if is_number else cut(value, 400)


def _tiles(evaluation: Measured) -> list[tuple[str, str, str, str, str]]:
    """Headline metrics: name, value, change, its meaning, and a quieter line."""
    count, of = len(evaluation.rows.frame), evaluation.rows.of
    name = "Held-out rows" if evaluation.rows.held_out else "Training rows"
    tiles = [(name, f"{count:,}", "", "", f"sample of {of:,}" if count < of else "")]
    for measure in evaluation.measures[:TILES]:
        detail = f"95 %: {sections.interval(measure)}" if measure.interval else ""
        was = evaluation.measures_before.get(measure.name)
        change, verdict = sections.trend(measure, was) if was else ("", "")
        tiles.append((measure.name, figure(measure.value), change, verdict, detail))
    return tiles
