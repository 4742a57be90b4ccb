"""The sections of a report: sentences, tables and plots, for each kind of pipeline."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
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
from scoreline_training.report.figures import SERIES, Plot, cut, figure, number, percent
from scoreline_training.report.metrics import Answers, Array, Kind, Measure, NotMeasurable, Rows

MATRIX_CLASSES, LISTED, DRAWN_COLUMNS, LISTED_COLUMNS, IMPORTANCES = 12, 30, 36, 300, 20
GOLDEN_SHOWN, GOLDEN_COLUMNS = 5, 10
T = TypeVar("T")
NO_SCORES = "The pipeline gives neither probabilities nor scores to rank rows by."


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
    sources: Sequence[str] | None = None
    """Modules whose source travels in the artifact; None when that is not known."""
    by_value: Sequence[str] = ()
    """Functions of which the pickle holds the bytecode, which only one minor version of Python runs."""


class Cell(NamedTuple):
    """A table's cell with a second, quieter line."""

    text: str
    detail: str
    css: str
    shade: float = 0.0
    """0 to 1, how strongly it is coloured."""


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
    """Rows, answers and figures of both versions, worked out once for all sections."""

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
    truth, answers = rows.truth, measures.ask(data.version, rows.frame, rows.truth)
    before, uncompared = attempt(lambda: compare(data.production, answers, rows))

    def measures_of(one: Answers | None) -> list[Measure]:
        return [] if truth is None or one is None else list(measures.measure(truth, one))

    now, unmeasured = attempt(lambda: measures_of(answers))
    was = {one.name: one for one in attempt(lambda: measures_of(before))[0] or ()}
    return Measured(data, rows, answers, now or [], unmeasured, before, was, uncompared)


def attempt(make: Callable[[], T]) -> tuple[T | None, str]:
    """What is made, or None and the reason why it cannot be made."""
    try:
        return make(), ""
    except NotMeasurable as reason:
        return None, str(reason)


def plots(*makes: Callable[[], Plot]) -> Iterator[Block]:
    """Plots side by side, and sentences for those that cannot be drawn, each reason once."""
    found = [attempt(make) for make in makes]
    yield [plot for plot, _ in found if plot is not None]
    yield from dict.fromkeys(reason for _, reason in found if reason)


def table(title: str, frame: pd.DataFrame, note: str = "", css: str = "") -> Table:
    """The first rows of a frame, headed by its index."""
    if left := len(frame) - LISTED:
        note = f"The first {LISTED}; {left:,} are left out. {note}" if left > 0 else note
    rows = list(frame[:LISTED].itertuples(name=None))
    return Table(title, rows, [str(frame.index.name or ""), *map(str, frame.columns)], note, css)


def quality(found: Measured) -> Iterator[Block]:
    """How good the answers are, as far as that can be told."""
    answers, rows = found.answers, found.rows
    sampled = f", a random sample of {rows.of:,}" if len(rows.frame) < rows.of else ""
    whose = "held-out" if rows.held_out else "training"
    yield f"On {len(rows.frame):,} {whose} rows{sampled}. {rows.remark}"
    if found.unmeasured:
        yield found.unmeasured
    truth = None if found.unmeasured else rows.truth
    if answers.classes is not None:
        yield from _classifier(found, None if truth is None else answers.named(truth))
    elif answers.kind is Kind.REGRESSION and truth is not None:
        predicted, x, y = answers.values.astype(float), "predicted", "actual − predicted"
        actual, errors = truth.astype(float), truth.astype(float) - predicted
        low, high = (number(one) for one in np.quantile(errors, [0.05, 0.95]))
        note = f"Mean {number(errors.mean())}; nine in ten lie between {low} and {high}."
        yield from plots(
            lambda: figures.scatter("Predicted and actual", predicted, actual, x=x, y="actual"),
            lambda: figures.scatter(
                "Residuals over prediction", predicted, errors, x=x, y=y, level=0
            ),
            lambda: figures.histogram("Residuals", [("all", errors)], x=y, mark=0, note=note),
        )
        shares = [0.5, 0.75, 0.9, 0.95, 0.99, 1.0]
        row = ["error at most", *np.quantile(np.abs(errors), shares)]
        yield Table("Absolute error", [row], ["share of rows", *map(percent, shares)])
    else:
        what = pd.DataFrame(answers.values).describe(include="all").T.drop(columns="count")
        what.index = pd.Index(range(1, len(what) + 1), name="output")
        if truth is not None and answers.values.dtype.kind == "f":
            what["R²"] = metrics.r2_score(truth, answers.values, multioutput="raw_values")
        elif truth is not None:
            what["share right"] = (truth == answers.values).mean(axis=0)
        yield table(f"What comes out: {len(what):,} column{'s' * (len(what) > 1)}", what)
    if found.measures and not found.measures_before:
        yield _figures(found)


def _classifier(found: Measured, truth: Array | None) -> Iterator[Block]:
    answers, names, given = found.answers, found.answers.names, found.answers.probabilities
    if truth is None:
        shares = pd.Series(answers.values, name="share").value_counts(normalize=True)
        yield table("Predicted classes", shares.map(percent).rename_axis("class").to_frame())
        yield from plots(lambda: _scores(answers, None))
        return
    yield from plots(
        lambda: _ranking(found, truth, RocCurveDisplay),
        lambda: _ranking(found, truth, PrecisionRecallDisplay),
        lambda: _calibration(answers, truth),
        lambda: _scores(answers, truth),
    )
    tables = [_confusion(truth, answers)]
    if answers.kind is Kind.MULTICLASS:
        columns = metrics.precision_recall_fscore_support(
            truth, answers.values, labels=names, zero_division=0.0
        )
        headings = ["precision", "recall", "F1", "rows"]
        by_class = pd.DataFrame(dict(zip(headings, columns, strict=True)), index=names)
        by_class = by_class.sort_values("rows", ascending=False, kind="stable")
        by_class[headings[:3]] = by_class[headings[:3]].map(figure)
        tables.append(table("By class", by_class.rename_axis("class")))
    elif given is not None and (truth == names[1]).any():
        rows, positive = [], truth == names[1]
        for threshold in np.arange(1, 10) / 10:
            above = given[:, 1] >= threshold
            precision = figure(positive[above].mean()) if above.any() else "–"
            recall = figure(above[positive].mean())
            rows.append([str(threshold), percent(above.mean()), precision, recall])
        headings = ["threshold", f"rows called {cut(names[1])}", "precision", "recall"]
        tables.append(Table("If another threshold were chosen", rows, headings))
    yield tables


def _ranking(found: Measured, truth: Array, display: Any) -> Plot:
    answers, before, names = found.answers, found.before, found.answers.names
    scores = answers.probabilities
    if answers.kind is not Kind.MULTICLASS:
        scores, names = answers.scores, names[1:]
    if scores is None:
        raise NotMeasurable(NO_SCORES)
    columns = zip(names, scores.reshape(len(truth), -1).T, strict=True)
    curves = [(cut(name), truth == name, column) for name, column in columns]
    curves = [one for one in curves if one[1].any() and not one[1].all()]
    if not curves:
        raise NotMeasurable("There is nothing to tell apart: all rows are of one class.")
    if answers.kind is Kind.MULTICLASS:
        curves.sort(key=lambda one: metrics.roc_auc_score(*one[1:]))
        left = len(curves) - len(SERIES)
        note = f"The {len(SERIES)} classes that fare worst; {left} others are not drawn."
        return figures.ranking(display, curves[: len(SERIES)], note=note if left > 0 else "")
    positive, flagged = curves[0][1], answers.values == names[0]
    at = flagged[~positive].mean(), flagged[positive].mean()
    if display is PrecisionRecallDisplay:
        at = at[1], positive[flagged].mean() if flagged.any() else 1.0
    others = None
    if before and before.classes == answers.classes and before.scores is not None:
        others = f"{found.data.production.reference}, in production", positive, before.scores
    return figures.ranking(display, [("this version", *curves[0][1:])], others, at)


def _calibration(answers: Answers, truth: Array) -> Plot:
    given, names = answers.probabilities, answers.names
    if given is None:
        raise NotMeasurable("Without probabilities there is no calibration to look at.")
    if answers.kind is Kind.BINARY:
        return figures.calibration(truth == names[1], given[:, 1], cut(names[1]))
    likeliest = np.array(names, dtype=object)[given.argmax(axis=1)]
    return figures.calibration(truth == likeliest, given.max(axis=1), "right")


def _scores(answers: Answers, truth: Array | None) -> Plot:
    """Scores by true class; for several classes how sure the pipeline is when right and wrong."""
    names, given, scores = answers.names, answers.probabilities, answers.scores
    title, x = "Scores", "score" if given is None else f"probability of {cut(names[1])}"
    options: dict[str, Any] = {"span": None if given is None else (0.0, 1.0)}
    if answers.kind is Kind.MULTICLASS and given is not None:
        title, x, scores = "Confidence", "probability of the likeliest class", given.max(axis=1)
    if scores is None:
        raise NotMeasurable(NO_SCORES)
    groups = [("all", scores)]
    if truth is not None and answers.kind is Kind.MULTICLASS:
        right = answers.values == truth
        groups = [("right", scores[right]), ("wrong", scores[~right])]
    elif truth is not None:
        title, groups = "Scores by true class", [(name, scores[truth == name]) for name in names]
    if answers.kind is Kind.OUTLIERS:
        options |= {"mark": 0.0, "note": "Rows right of 0 are called outliers."}
    return figures.histogram(title, groups, x=x, **options)


def _confusion(truth: Array, answers: Answers) -> Table:
    names = [*answers.names, *sorted(set(truth).difference(answers.names))]
    if len(names) > MATRIX_CLASSES:
        wrong = pd.DataFrame({"true": truth, "said": answers.values})[truth != answers.values]
        pairs = wrong.value_counts()[:LISTED].items()
        rows = [[*pair, rows, percent(rows / (truth == pair[0]).sum())] for pair, rows in pairs]
        headings = ["true class", "predicted", "rows", "share of the true class"]
        note = f"{len(names)} classes are too many for a matrix."
        return Table("Most frequent confusions", rows, headings, note)
    matrix = metrics.confusion_matrix(truth, answers.values, labels=names)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    rows = []
    for true, counts in enumerate(matrix):
        cells = [
            Cell(number(count), percent(share), "right" if true == said else "wrong", share)
            for said, (count, share) in enumerate(zip(counts, shares[true], strict=True))
        ]
        rows.append([names[true], *cells, int(counts.sum())])
    headings = ["true class", *(f"predicted {cut(one)}" for one in names), "rows"]
    note = "Percentages are shares of a true class; the diagonal is right."
    return Table("Confusion matrix", rows, headings, note, "matrix")


def trend(now: Measure, before: Measure) -> tuple[str, str]:
    """The change of a figure, and what is known of it: better, worse, the same, within error."""
    change = now.value - before.value
    text = ("+" if change >= 0 else "") + figure(change)
    if abs(change) < 5e-4 * max(1.0, abs(before.value)):
        return text, "the same"
    if now.interval is None:
        return text, ""
    if now.interval[0] <= before.value <= now.interval[1]:
        return text, "within error"
    return text, "better" if (change > 0) == now.more_is_better else "worse"


def interval(one: Measure) -> str:
    """A figure's 95 % interval."""
    return "–".join(figure(end) for end in one.interval) if one.interval else "–"


def _figures(found: Measured) -> Table:
    """All figures, and those of the version in production if it has any."""
    headings = ["figure", "this version", "95 % interval", "simplest"]
    rows: list[list[Any]] = []
    note = "Simplest: what chance, the most frequent class or the mean would have."
    for one in found.measures:
        base = "–" if one.baseline is None else figure(one.baseline)
        rows.append([one.name, figure(one.value), interval(one), base])
        if was := found.measures_before.get(one.name):
            text, verdict = trend(one, was)
            rows[-1] += [figure(was.value), Cell(text, verdict, verdict)]
    if found.measures_before:
        headings += [str(found.data.production.reference), "difference"]
        note += " Within error: production's figure lies in the 95 % interval of this one's."
    return Table("Figures", rows, headings, note)


def production(found: Measured) -> Iterator[Block]:
    """The new version beside the one in production."""
    now, before, count = found.answers, found.before, len(found.rows.frame)
    if before is None:
        yield found.uncompared
        return
    reference, released = found.data.production.reference, found.data.production.released_at[:10]
    yield (
        f"{reference}, released {released}, scored the same {count:,} rows. If it was trained on some "
        "of them, its figures flatter it."
    )
    same = same_answers(now.values, before.values)
    facts = {"Same answer": f"{same.sum():,} of {count:,} rows ({percent(same.mean())})"}
    if found.measures_before and found.rows.truth is not None and now.classes is not None:
        truth = now.named(found.rows.truth)
        mended = int(((now.values == truth) & (before.values != truth)).sum())
        broken = int(((now.values != truth) & (before.values == truth)).sum())
        facts["Right now, wrong in production"] = f"{mended:,}"
        facts["Wrong now, right in production"] = f"{broken:,}"
        if mended + broken:
            p = f"p = {number(stats.binomtest(mended, mended + broken).pvalue)}"
            facts["By chance alone"] = f"a split as uneven as this has {p} (exact McNemar test)"
    pair = [one.values if one.scores is None else one.scores for one in (now, before)]
    is_comparable = now.classes == before.classes and all(
        one.ndim == 1 and one.dtype.kind in "fiu" and np.isfinite(one).all() for one in pair
    )
    if is_comparable:
        change = np.abs(pair[0] - pair[1])
        facts["Mean absolute difference"] = number(change.mean())
        facts["Largest difference"] = number(change.max())
    row_by_row = Table("Row by row", list(facts.items()), css="facts")
    yield [_figures(found), row_by_row] if found.measures_before else [row_by_row]
    if is_comparable:
        what = "prediction" if now.scores is None else f"score for {cut(now.names[1])}"
        x, y = f"{what}, {reference}", f"{what}, this version"
        yield from plots(lambda: figures.scatter("Both versions", pair[1], pair[0], x=x, y=y))


def important_columns(found: Measured, order: list[str]) -> Iterator[Block]:
    """What it costs when a column is shuffled; puts the names into `order`, by importance."""
    drops, unit = measures.importance(found.data.version, found.rows)
    order.extend(drops.columns)
    shown, quiet = drops.iloc[:, :IMPORTANCES], drops.iloc[:, IMPORTANCES:]
    rows = min(len(found.rows.frame), measures.SHUFFLED_ROWS)
    times = "once" if len(drops) == 1 else f"{len(drops)} times"
    yield (
        f"Each raw column was shuffled {times} over {rows:,} rows, and the pipeline asked again; bars "
        f"show the {unit}, whiskers the span of the repeats. Columns that carry the same information "
        "hide each other."
    )
    means, spans = shown.mean().to_numpy(), (shown.min().to_numpy(), shown.max().to_numpy())
    texts, title = [figure(one) for one in means], "Permutation importance"
    draw = partial(figures.bars, title, list(shown), means, texts=texts, spans=spans, x=unit)
    yield from plots(draw)
    if not quiet.empty:
        largest = figure(quiet.mean().abs().max())
        yield f"{quiet.shape[1]:,} more columns matter less: {largest} at most."
    if left := found.rows.frame.shape[1] - len(order):
        yield f"{left:,} columns were not measured, to keep the report quick."


def column_values(found: Measured, order: list[str]) -> Iterator[Block]:
    """How the values of each column are distributed, those in `order` first."""
    data, frames = found.data, [found.data.X_train]
    lead = f"Blue: share of the {len(data.X_train):,} training rows."
    if data.X_test is not None and found.rows.held_out:
        frames.append(data.X_test)
        lead += (
            " Orange line: the held-out rows. Difference: between the two, from 0 for equal to 1 for "
            "disjoint (Kolmogorov–Smirnov; for categories half the sum of the differences)."
        )
    yield lead
    frames = [one.iloc[measures.sample(len(one), measures.MEASURED_ROWS)] for one in frames]
    schema = {one.name: one for one in data.version.schema.columns} if data.version.schema else {}
    names = [name for name in dict.fromkeys([*order, *schema]) if name in schema]
    shown = [(schema[name], [one[name] for one in frames]) for name in names[:DRAWN_COLUMNS]]
    yield from plots(*(partial(figures.column_values, *one) for one in shown))
    if left := len(names[DRAWN_COLUMNS:]):
        yield f"The {DRAWN_COLUMNS} columns that matter most; {left:,} are left out."


def schema(data: ReportData) -> Iterator[Block]:
    """What records are held to."""
    yield "What a record must look like; taken from the training rows."
    columns, rows = data.version.schema.columns if data.version.schema else (), []
    for one in columns[:LISTED_COLUMNS]:
        values = ", ".join(cut(name, 20) for name in (one.categories or ())[:8])
        if one.categories is not None and len(one.categories) > 8:
            values += f", … {len(one.categories) - 8} more"
        elif one.minimum is not None and one.maximum is not None:
            values = f"{number(one.minimum)} to {number(one.maximum)}"
        presence = "may be missing" if one.nullable else "required"
        rows.append([one.name, one.type.value, one.dtype, presence, values])
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
    for row in data.golden[:GOLDEN_SHOWN]:
        values = [row.record.get(name) for name in names[:GOLDEN_COLUMNS]]
        # Whole numbers may be years or keys: they stand as they are sent.
        values = [str(one) if isinstance(one, int) else one for one in values]
        rows.append([*values, row.value, max(row.probabilities or [np.nan])])
    note = f"The first {len(rows)}, with {len(names[:GOLDEN_COLUMNS])} of {len(names):,} columns."
    headings = [*names[:GOLDEN_COLUMNS], "answer", "largest probability"]
    yield Table("Records and answers", rows, headings, note, "records")


def origin(data: ReportData) -> Iterator[Block]:
    """Where the version comes from."""
    version = {
        "Model": data.version.model,
        "Created": data.created_at,
        "Pipeline": type(data.version.pipeline).__name__,
        "sha256 of pipeline": data.pipeline_sha256,
        "In production before": data.production.reference or "nothing",
        "Git commit": lineage.commit_here(),
    }
    rows: dict[str, Any] = {"Training rows": len(data.X_train), "Columns": data.X_train.shape[1]}
    for name in ("X_train", "y_train", "X_test", "y_test"):
        if (part := getattr(data, name)) is not None:
            rows[f"sha256 of {name}"] = lineage.data_sha256(part) or "not computed"
    machine = {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "System": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Modules that travel": ", ".join(data.sources or ()) or "none",
    }
    if data.by_value:
        names = ", ".join(data.by_value)
        machine["Bytecode that travels"] = f"{names}; runs on this minor version of Python only"
    libraries = dict(sorted(data.libraries.items(), key=lambda one: one[0].lower()))
    for facts in (
        {"Version": version, "Data": rows},
        {"Parameters": data.training, "Figures from the training job": data.metrics},
        {"Environment": machine, "Libraries": libraries},
    ):
        yield [Table(title, list(flat(one)), css="facts") for title, one in facts.items() if one]


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values as one list of names and values."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
