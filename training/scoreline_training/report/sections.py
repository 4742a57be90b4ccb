"""The sections of a report: sentences, tables and plots, for each kind of pipeline."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics
from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

from scoreline_artifacts.golden import GoldenRow
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_training.report import figures, lineage
from scoreline_training.report import metrics as measures
from scoreline_training.report.comparison import Incumbent, compare, same_answers
from scoreline_training.report.figures import Plot, cut, figure, number
from scoreline_training.report.metrics import Answers, Array, Kind, Measure, NotMeasurable, Rows

MATRIX_CLASSES, CURVES, LISTED, COLUMNS, VALUES = 12, 6, 30, 36, 8
GOLDEN_ROWS, GOLDEN_COLUMNS = 5, 10
T = TypeVar("T")


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
    production: Incumbent = field(default_factory=Incumbent)
    pipeline_sha256: str = ""
    """Of the pipeline's bytes in the artifact: says to which version the report belongs."""
    sources: Sequence[str] = ()
    """Modules whose source travels in the artifact."""
    by_value: Sequence[str] = ()
    """Functions of which the pickle holds the bytecode, which only one minor version of Python runs."""


class Cell(NamedTuple):
    """A table's cell with a colour, and a quieter text."""

    text: str
    css: str
    detail: str = ""
    shade: float = 0.0
    """0 to 1: the strength of the colour, or the length of a bar."""
    mark: float | None = None
    """0 to 1: a second value on the scale of a bar."""


class Table(NamedTuple):
    """Rows under headings; without headings, names and values."""

    title: str
    rows: Sequence[Sequence[Any]]
    headings: Sequence[str] = ()
    note: str = ""
    css: str = ""


Block = str | Plot | Table | list[Any]
"""A sentence, a plot, a table, or several plots or tables side by side."""


class Measured(NamedTuple):
    """Rows, answers and metrics of both versions, worked out once for all sections."""

    data: ReportData
    rows: Rows
    answers: Answers
    measures: list[Measure]
    unmeasured: str
    """Why there are no measures, as a sentence."""
    before: Answers | None
    """Answers of the version in production."""
    measures_before: dict[str, Measure]
    uncompared: str
    """Why there are no answers of the version in production, as a sentence."""


def measured(data: ReportData) -> Measured:
    """Score the rows with both versions; raises whatever the pipeline raises."""
    held_out = data.X_test is not None and len(data.X_test) > 0
    pair = (data.X_test, data.y_test) if held_out else (data.X_train, data.y_train)
    rows = measures.measured_rows(data.version, held_out, *pair)
    answers = measures.ask(data.version, rows.frame, rows.truth)
    before, uncompared = attempt(lambda: compare(data.production, answers, rows))

    def measures_of(scored: Answers | None) -> list[Measure]:
        return [] if rows.truth is None or scored is None else measures.measure(rows.truth, scored)

    now, unmeasured = attempt(lambda: measures_of(answers))
    was = {measure.name: measure for measure in attempt(lambda: measures_of(before))[0] or ()}
    return Measured(data, rows, answers, now or [], unmeasured, before, was, uncompared)


def attempt(make: Callable[[], T]) -> tuple[T | None, str]:
    """The result, or None and the reason why there is none."""
    try:
        return make(), ""
    except NotMeasurable as reason:
        return None, str(reason)


def plots(*makes: Callable[[], Plot]) -> Iterator[Block]:
    """Plots side by side, and sentences for those that cannot be drawn, each reason once."""
    results = [attempt(make) for make in makes]
    yield [plot for plot, _ in results if plot is not None]
    yield from dict.fromkeys(reason for _, reason in results if reason)


def quality(evaluation: Measured) -> Iterator[Block]:
    """How good the answers are, as far as that can be told."""
    answers, rows, truth = evaluation.answers, evaluation.rows, evaluation.rows.truth
    sampled = f", a random sample of {rows.of:,}" if len(rows.frame) < rows.of else ""
    whose = "held-out" if rows.held_out else "training"
    yield f"On {len(rows.frame):,} {whose} rows{sampled}. {rows.remark}"
    if truth is None or not evaluation.measures:
        if evaluation.unmeasured:
            yield evaluation.unmeasured
        outputs = pd.DataFrame(answers.values).iloc[:, :COLUMNS].items()
        yield [distribution(f"Answers, column {index + 1}", [column]) for index, column in outputs]
        return
    if answers.classes is not None:
        yield from _classifier(evaluation, answers.named(truth))
    else:
        actual, predicted = truth.astype(float), answers.values.astype(float)
        residuals = actual - predicted
        low, high = np.quantile(residuals, [0.05, 0.95])
        note = f"Nine in ten lie between {number(low)} and {number(high)}."
        yield from plots(
            lambda: figures.errors(
                "Predicted and actual", "actual_vs_predicted", actual, predicted
            ),
            lambda: figures.errors(
                "Residuals over prediction", "residual_vs_predicted", actual, predicted
            ),
            lambda: figures.histogram("Residuals", {"all": residuals}, "actual − predicted", note),
        )
        shares = [0.5, 0.75, 0.9, 0.95, 0.99, 1.0]
        row = ["error at most", *np.quantile(np.abs(residuals), shares)]
        yield Table(
            "Absolute error", [row], ["share of rows", *(f"{share:.0%}" for share in shares)]
        )
    if not evaluation.measures_before:
        yield _figures(evaluation)


def _classifier(evaluation: Measured, truth: Array) -> Iterator[Block]:
    answers = evaluation.answers
    names, probabilities = answers.names, answers.probabilities
    makes = [
        partial(_ranking, evaluation, truth, display)
        for display in (RocCurveDisplay, PrecisionRecallDisplay)
    ]
    if answers.kind is Kind.MULTICLASS and probabilities is not None:
        sure, right = probabilities.max(axis=1), answers.values == truth
        groups = {"right": sure[right], "wrong": sure[~right]}
        makes.append(partial(figures.calibration, right, sure, "right"))
        x = "largest probability"
        makes.append(partial(figures.histogram, "Confidence", groups, x))
    elif answers.scores is not None:
        x, positive = "score", cut(names[1])
        if probabilities is not None:
            x = f"probability of {positive}"
            makes.append(
                partial(figures.calibration, truth == names[1], probabilities[:, 1], positive)
            )
        groups = {name: answers.scores[truth == name] for name in names}
        makes.append(partial(figures.histogram, "Scores by true class", groups, x))
    yield from plots(*makes)
    tables = [_confusion(truth, answers)]
    if answers.kind is Kind.MULTICLASS:
        columns = metrics.precision_recall_fscore_support(
            truth, answers.values, labels=names, zero_division=0.0
        )
        by_class = sorted(zip(names, *columns, strict=True), key=lambda row: -row[-1])[:LISTED]
        rows = [[name, *map(figure, shares), int(count)] for name, *shares, count in by_class]
        note = f"The {LISTED} most frequent of {len(names)} classes." if len(names) > LISTED else ""
        tables.append(Table("By class", rows, ["class", "precision", "recall", "F1", "rows"], note))
    elif probabilities is not None and (truth == names[1]).any():
        rows, positive = [], truth == names[1]
        for threshold in np.arange(1, 10) / 10:
            above = probabilities[:, 1] >= threshold
            precision = figure(positive[above].mean()) if above.any() else "–"
            recall = figure(above[positive].mean())
            rows.append([str(threshold), f"{above.mean():.1%}", precision, recall])
        headings = ["threshold", f"rows called {cut(names[1])}", "precision", "recall"]
        tables.append(Table("If another threshold were chosen", rows, headings))
    yield tables


def _confusion(truth: Array, answers: Answers) -> Table:
    """The confusion matrix, in which the rarest of many classes share a row and a column."""
    names = answers.names
    frequent = pd.Index([*truth, *names]).value_counts().index[:MATRIX_CLASSES]
    order = [name for name in dict.fromkeys([*names, *sorted(set(truth))]) if name in frequent]
    pair = [
        np.where(np.isin(labels, order), labels, "all others") for labels in (truth, answers.values)
    ]
    order += ["all others"] * (len(set(truth) | set(names)) > len(order))
    rows = []
    for true, counts in enumerate(metrics.confusion_matrix(*pair, labels=order)):
        shares = counts / max(counts.sum(), 1)
        cells = [
            Cell(f"{count:,}", "right" if true == predicted else "wrong", f"{share:.1%}", share)
            for predicted, (count, share) in enumerate(zip(counts, shares, strict=True))
        ]
        rows.append([order[true], *cells, int(counts.sum())])
    headings = ["true class", *(f"predicted {cut(name)}" for name in order), "rows"]
    note = "Percentages are shares of a true class; the diagonal is right."
    return Table("Confusion matrix", rows, headings, note, "matrix")


def _ranking(evaluation: Measured, truth: Array, display: Any) -> Plot:
    """A curve of this version and of the one in production, or a curve for each of several classes."""
    answers, before, at, note = evaluation.answers, evaluation.before, None, ""
    names = answers.names
    if answers.kind is Kind.MULTICLASS and answers.probabilities is not None:
        columns = dict(zip(names, answers.probabilities.T, strict=True))
        present = pd.Series(truth).value_counts().index.intersection(pd.Index(names), sort=False)
        curves = {name: (truth == name, columns[name]) for name in present[:CURVES]}
        if len(names) > CURVES:
            note = f"The {CURVES} most frequent of {len(names)} classes."
    elif answers.scores is not None:
        positive, flagged = truth == names[1], answers.values == names[1]
        curves = {"this version": (positive, answers.scores)}
        if before and before.classes == answers.classes and before.scores is not None:
            reference = evaluation.data.production.reference
            curves[f"{reference}, in production"] = positive, before.scores
        recall, precision = flagged[positive].mean(), positive[flagged].mean()
        at = (recall, precision if flagged.any() else 1.0)
        if display is RocCurveDisplay:
            at = (flagged[~positive].mean(), recall)
    else:
        raise NotMeasurable("The pipeline gives neither probabilities nor scores to rank rows by.")
    if len(set(truth)) < 2:
        raise NotMeasurable("There is nothing to tell apart: all rows are of one class.")
    return figures.ranking(display, curves, at, note)


def trend(now: Measure, before: Measure) -> tuple[str, str]:
    """The change of a metric, and its meaning: better, worse, the same, within error."""
    change = now.value - before.value
    text = ("+" if change >= 0 else "") + figure(change)
    if abs(change) < 5e-4 * max(1.0, abs(before.value)):
        return text, "the same"
    if now.interval is None:
        return text, ""
    if now.interval[0] <= before.value <= now.interval[1]:
        return text, "within error"
    return text, "better" if (change > 0) == now.metric.more_is_better else "worse"


def interval(measure: Measure) -> str:
    """A metric's 95 % interval."""
    return "–".join(map(figure, measure.interval)) if measure.interval else "–"


def _figures(evaluation: Measured) -> Table:
    """All metrics, and those of the version in production if it has any."""
    headings = ["figure", "this version", "95 % interval", "simplest"]
    rows: list[list[Any]] = []
    note = "Simplest: always the most frequent class, or the mean."
    for measure in evaluation.measures:
        base = "–" if np.isnan(measure.simplest) else figure(measure.simplest)
        rows.append([measure.name, figure(measure.value), interval(measure), base])
        if before := evaluation.measures_before.get(measure.name):
            text, verdict = trend(measure, before)
            rows[-1] += [figure(before.value), Cell(text, verdict, verdict)]
    if evaluation.measures_before:
        headings += [str(evaluation.data.production.reference), "difference"]
        note += " Within error: production's figure lies in the 95 % interval of this one's."
    return Table("Figures", rows, headings, note)


def production(evaluation: Measured) -> Iterator[Block]:
    """The new version beside the one in production."""
    now, before, count = evaluation.answers, evaluation.before, len(evaluation.rows.frame)
    if before is None:
        yield evaluation.uncompared
        return
    incumbent = evaluation.data.production
    yield (
        f"{incumbent.reference}, released {incumbent.released_at[:10]}, scored the same {count:,} rows. If it was trained on some "
        "of them, its figures flatter it."
    )
    same = same_answers(now.values, before.values)
    facts = {"Same answer": f"{same.sum():,} of {count:,} rows ({same.mean():.1%})"}
    if evaluation.measures_before and evaluation.rows.truth is not None and now.classes is not None:
        truth = now.named(evaluation.rows.truth)
        mended = int(((now.values == truth) & (before.values != truth)).sum())
        broken = int(((now.values != truth) & (before.values == truth)).sum())
        facts["Right now, wrong in production"] = f"{mended:,}"
        facts["Wrong now, right in production"] = f"{broken:,}"
        if mended + broken:
            p = f"p = {number(stats.binomtest(mended, mended + broken).pvalue)}"
            facts["By chance alone"] = f"a split as uneven as this has {p} (exact McNemar test)"
    pair = [side.values if side.scores is None else side.scores for side in (now, before)]
    if now.classes == before.classes and all(array.dtype.kind in "fiu" for array in pair):
        change = np.abs(pair[0] - pair[1])
        facts["Mean absolute difference"] = number(change.mean())
        facts["Largest difference"] = number(change.max())
    row_by_row = Table("Row by row", list(facts.items()), css="facts")
    yield [_figures(evaluation), row_by_row] if evaluation.measures_before else [row_by_row]


def important_columns(evaluation: Measured) -> Iterator[Block]:
    """The cost of shuffling each column."""
    metric = evaluation.measures[0].metric if evaluation.measures else None
    costs, unit = measures.importance(evaluation.data.version, evaluation.rows, metric)
    yield (
        "Each raw column was shuffled, and the pipeline asked again. Columns that carry the same "
        "information hide each other."
    )
    largest = max(costs.max(), 1e-12)
    rows = [
        [cut(name, 60), Cell(figure(cost), "bar", shade=max(0.0, cost / largest))]
        for name, cost in costs[:LISTED].items()
    ]
    note = f"{len(costs) - LISTED:,} more columns matter less. " if len(costs) > LISTED else ""
    if left := evaluation.rows.frame.shape[1] - len(costs):
        note += f"{left:,} columns were not measured, to keep the report quick."
    yield Table("Permutation importance", rows, ["column", unit], note, "bars")


def column_values(data: ReportData) -> Iterator[Block]:
    """The distribution of each column's values."""
    frames = [data.X_train]
    lead = f"Bars: shares of the {len(data.X_train):,} training rows."
    if data.X_test is not None and len(data.X_test):
        frames.append(data.X_test)
        lead += (
            " Orange marks: the held-out rows. Difference: half the sum of all differences between the "
            "two, from 0 for equal to 1 for disjoint."
        )
    yield lead
    frames = [frame.iloc[measures.sample(len(frame), measures.MEASURED_ROWS)] for frame in frames]
    columns = data.version.schema.columns if data.version.schema else ()
    yield [
        distribution(column.name, [frame[column.name] for frame in frames], column.type.value)
        for column in columns[:COLUMNS]
    ]
    if left := len(columns[COLUMNS:]):
        yield f"The first {COLUMNS} columns; {left:,} are left out."


def distribution(title: str, samples: Sequence[pd.Series[Any]], kind: str = "") -> Table:
    """Shares of a column's most frequent values, or of ranges of its many numbers or moments.

    The first part is drawn as bars, the second one, if there is any, as marks on them.
    """
    facts, missing = [kind] if kind else [], samples[0].isna().mean()
    facts += [f"{missing:.1%} missing"] if missing else []
    values: list[Any] = [sample.dropna() for sample in samples]
    different, is_date = values[0].nunique(), pd.api.types.is_datetime64_any_dtype(samples[0])
    order: list[str] = []
    if different > VALUES and (is_date or pd.api.types.is_numeric_dtype(samples[0])):
        if is_date:
            start, day = pd.Timestamp(0, tz="UTC"), pd.Timedelta("1D")
            values = [(pd.to_datetime(moments, utc=True) - start) / day for moments in values]
        numbers = [np.asarray(sample, dtype=float) for sample in values]
        # A few extremes do not squeeze the ranges of all others.
        low, high = np.quantile(numbers[0][np.isfinite(numbers[0])], [0.01, 0.99])
        ends = np.linspace(low, high, VALUES - 1)
        if is_date or (numbers[0] == np.round(numbers[0])).all():
            ends = np.unique(np.round(ends))
        texts = [str(np.datetime64(int(end), "D")) if is_date else number(end) for end in ends]
        order = [f"up to {texts[0]}", *map(" to ".join, pairwise(texts)), f"above {texts[-1]}"]
        values = [[order[index] for index in np.searchsorted(ends, sample)] for sample in numbers]
    # As Python's text: pandas' own cannot hold lone surrogates.
    counts = [
        pd.Series([str(value) for value in sample], dtype=object).value_counts()
        for sample in values
    ]
    shares = [count / max(count.sum(), 1) for count in counts]
    if not order:
        order = counts[0].index[:VALUES].tolist()
        facts.append(f"{different:,} different")
    if len(shares) > 1:
        facts.append(f"difference {shares[0].sub(shares[1], fill_value=0.0).abs().sum() / 2:.2f}")
    labels = pd.Index(dict.fromkeys(order), dtype=object)
    drawn = [share.reindex(labels, fill_value=0.0) for share in shares]
    if rest := len(set(counts[0].index).difference(order)):
        others = f"{rest:,} others"
        drawn = [
            pd.concat([share, pd.Series({others: max(0.0, 1 - share.sum())})]) for share in drawn
        ]
    marks = drawn[1] if len(drawn) > 1 else [None] * len(drawn[0])
    rows = [
        [cut(name, 30), Cell(f"{share:.1%}", "bar", shade=share, mark=mark)]
        for (name, share), mark in zip(drawn[0].items(), marks, strict=True)
    ]
    return Table(title, rows, note=" · ".join(facts), css="bars")


def schema(data: ReportData) -> Iterator[Block]:
    """The columns that a record must have."""
    yield "What a record must look like; taken from the training rows."
    columns, rows = data.version.schema.columns if data.version.schema else (), []
    for column in columns[: 10 * LISTED]:
        values = ", ".join(cut(name, 20) for name in (column.categories or ())[:8])
        if column.categories is not None and len(column.categories) > 8:
            values += f", … {len(column.categories) - 8} more"
        elif column.minimum is not None and column.maximum is not None:
            values = f"{number(column.minimum)} to {number(column.maximum)}"
        rows.append([column.name, column.type.value, column.dtype, column.presence, values])
    left = len(columns) - len(rows)
    note = f"{left:,} more columns are in the manifest." if left else ""
    headings = ["column", "type", "pandas", "presence", "values in training"]
    yield Table(f"{len(columns):,} columns", rows, headings, note, "words")


def golden_rows(data: ReportData) -> Iterator[Block]:
    """Some of the records that every worker scores before it serves the version."""
    yield (
        f"{len(data.golden)} training rows travel with the version; a worker serves it only if it gives "
        "these answers."
    )
    names, rows = list(data.golden[0].record) if data.golden else [], []
    for row in data.golden[:GOLDEN_ROWS]:
        values = [row.record.get(name) for name in names[:GOLDEN_COLUMNS]]
        # Whole numbers may be years or keys: they stand as they are sent.
        values = [str(value) if isinstance(value, int) else value for value in values]
        rows.append([*values, row.value, max(row.probabilities or [np.nan])])
    note = f"The first {len(rows)}, with {len(names[:GOLDEN_COLUMNS])} of {len(names):,} columns."
    headings = [*names[:GOLDEN_COLUMNS], "answer", "largest probability"]
    yield Table("Records and answers", rows, headings, note, "records")


def origin(data: ReportData) -> Iterator[Block]:
    """The data, code and environment that the version comes from."""
    inputs = {name: getattr(data, name) for name in ("X_train", "y_train", "X_test", "y_test")}
    by_value = ", ".join(data.by_value)
    tables: dict[str, Mapping[str, Any]] = {
        "Version": {
            "Model": data.version.model,
            "Created": data.created_at,
            "Pipeline": type(data.version.pipeline).__name__,
            "sha256 of pipeline": data.pipeline_sha256,
            "In production before": data.production.reference or "nothing",
            "Git commit": lineage.commit_here(),
        },
        "Data": {"Training rows": len(data.X_train), "Columns": data.X_train.shape[1]}
        | {
            f"sha256 of {name}": lineage.data_sha256(value) or "not computed"
            for name, value in inputs.items()
            if value is not None
        },
        "Parameters": data.training,
        "Figures from the training job": data.metrics,
        "Environment": {
            "Python": f"{platform.python_implementation()} {platform.python_version()}",
            "System": f"{platform.system()} {platform.release()} {platform.machine()}",
            "Modules that travel": ", ".join(data.sources) or "none",
            "Bytecode that travels": f"{by_value}; runs on this minor version of Python only"
            if by_value
            else "none",
        },
        "Libraries": dict(sorted(data.libraries.items(), key=lambda item: item[0].lower())),
    }
    yield [Table(title, list(flat(facts)), css="facts") for title, facts in tables.items() if facts]


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values as one list of names and values."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


SECTIONS: tuple[tuple[str, Callable[[Any], Iterator[Block]], bool], ...] = (
    ("Quality", quality, True),
    ("Beside production", production, True),
    ("Importance of columns", important_columns, True),
    ("Values of columns", column_values, False),
    ("Schema", schema, False),
    ("Golden rows", golden_rows, False),
    ("Lineage and environment", origin, False),
)
"""Titles, the functions that make the blocks, and whether they take `Measured` instead of the data."""
