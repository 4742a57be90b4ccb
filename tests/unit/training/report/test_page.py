"""The training report as a page: what it says of each kind of pipeline, and that it is safe to open."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.ensemble import IsolationForest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from scoreline_artifacts import Schema, Store, UnsuitableData
from scoreline_artifacts.golden import GoldenRow
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.manifest import REPORT
from scoreline_training import publish
from scoreline_training.report import Incumbent, ReportData, page, render
from scoreline_training.report.comparison import ask_here

GENERATOR = np.random.default_rng(0)
FRAME = pd.DataFrame({"x": GENERATOR.normal(size=120), "n": np.arange(120)})
LABELS = np.where(FRAME["x"] + GENERATOR.normal(scale=0.7, size=120) > 0, "high", "low")
EVIL = "<script>alert('\"')</script>"
VOID = {"meta", "path", "img", "br"}


def _data(
    pipeline: Any, frame: pd.DataFrame = FRAME, labels: Any = LABELS, **others: Any
) -> ReportData:
    version = LoadedVersion.of(pipeline, "sides", schema=Schema.infer(frame))
    return ReportData(
        version=version,
        created_at="2025-06-01T10:15:00+00:00",
        X_train=frame,
        y_train=labels,
        **others,
    )


def _classifier(frame: pd.DataFrame = FRAME, labels: Any = LABELS, **options: Any) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cg", **options)).fit(
        frame, labels
    )


def _read(html: str) -> str:
    """The page without its style sheet, and without tags: what a reader sees."""
    assert "could not be drawn" not in html
    body = re.sub(r"<style>.*?</style>", "", html, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def _text(data: ReportData) -> str:
    return _read(render(data).html.decode())


class Constant:
    """A pipeline that answers the same for every row."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, frame: pd.DataFrame) -> Any:
        return np.full(len(frame), self.answer)


class Failing:
    """A pipeline that scores no row with a negative x."""

    def predict(self, frame: pd.DataFrame) -> Any:
        if (frame["x"] < 0).any():
            raise ValueError("a negative x")
        return frame["x"].to_numpy()


class _Balance(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: Counter[str] = Counter()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        self.ids.update(value or "" for name, value in attrs if name == "id")
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


# What everybody can rely on


@pytest.fixture(scope="module")
def everything() -> ReportData:
    """A report's data with all that may be left out."""
    before = LoadedVersion.of(_classifier(C=0.01), "sides", schema=Schema.infer(FRAME))
    return _data(
        _classifier(),
        X_test=FRAME.iloc[:50],
        y_test=LABELS[:50],
        metrics={"auc": 0.9, "deep": {"er": [1, 2]}},
        training={"C": 1.0},
        libraries={"python": "3.12", "numpy": "2.0"},
        golden=[GoldenRow({"x": 0.5, "n": 1}, "high", [0.75, 0.25])],
        production=Incumbent(
            reference="sides@3",
            released_at="2025-05-01T00:00:00",
            ask=partial(ask_here, before, "sides@3"),
        ),
        pipeline_sha256="ab" * 32,
        sources=["features"],
        by_value=["__main__.enlarge"],
    )


@pytest.fixture(scope="module")
def html(everything: ReportData) -> str:
    """The page of it."""
    return render(everything).html.decode()


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(html: str) -> None:
    parsed = _Balance(html)
    assert parsed.open == []
    assert all(link.startswith("#") for link in parsed.links)
    assert not re.search(r"<script|https?:|@import|url\((?!#)|javascript:|<image|data:", html)


def test_an_id_occurs_once_and_every_reference_has_one(html: str) -> None:
    parsed = _Balance(html)
    assert set(parsed.ids.values()) == {1}
    references = {link[1:] for link in parsed.links} | set(re.findall(r"url\(#(\w+)\)", html))
    assert references <= set(parsed.ids)
    assert len([link for link in parsed.links if link.startswith("#part-")]) == 7


def test_every_plot_says_in_words_what_it_shows(html: str) -> None:
    plots = re.findall(r'<svg class="plot".*?</svg>', html, re.S)
    assert len(plots) == 4
    for plot in plots:
        tree = ElementTree.fromstring(plot)
        assert tree.get("role") == "img"
        assert len(tree.get("aria-label") or "") > 10


def test_plots_have_the_pages_colours_and_font_in_light_and_dark(html: str) -> None:
    used = set()
    for plot in re.findall(r'<svg class="plot".*?</svg>', html, re.S):
        assert not re.search(r"#\w{6}\b(?=[^\"<]*\")|font-family|rgb\(", plot)
        used |= set(re.findall(r"var\(--([\w-]+)\)", plot))
    assert {"series-1", "series-2", "soft", "rule"} <= used
    light, dark = re.findall(r":root \{(.*?)\n *\}", html, re.S)[:2]
    for name in used:
        assert f"--{name}:" in light
        assert f"--{name}:" in dark
    assert ".plot text { font-size: 11px; fill: var(--soft); }" in html


def test_the_same_data_give_the_same_bytes_whenever_they_are_drawn(
    everything: ReportData, html: str
) -> None:
    later = render(replace(everything, created_at="2026-01-01T00:00:00+00:00")).html.decode()
    back = later.replace("2026-01-01T00:00:00", "2025-06-01T10:15:00")
    assert back.replace("2026-01-01 00:00:00", "2025-06-01 10:15:00") == html


def test_a_binary_classifier_has_curves_a_matrix_and_thresholds(html: str) -> None:
    text = _read(html)
    for said in ("ROC AUC", "Precision–recall", "Calibration", "Scores by true class"):
        assert said in text
    for said in ("Confusion matrix", "If another threshold were chosen", "drop of ROC AUC"):
        assert said in text
    assert "where predict() stands" in text
    assert "Measured on the rows it was trained on" not in text


def test_the_version_in_production_is_set_beside_the_new_one(html: str) -> None:
    text = _read(html)
    assert re.search(r"sides@3, in production \(AUC = 0\.\d\d\)", text)
    assert re.search(r"Same answer \d+ of 50 rows", text)
    assert re.search(r"ROC AUC 0\.\d{3} 0\.\d{3}–[01]\.\d{3} 0\.500 0\.\d{3} [+-]0\.\d{3}", text)


def test_lineage_environment_and_golden_rows_are_told(html: str) -> None:
    text = _read(html)
    for said in ("sha256 of pipeline " + "ab" * 32, "numpy 2.0", "deep.er [1, 2]", "C 1"):
        assert said in text
    assert "In production before sides@3" in text
    assert "Modules that travel features" in text
    assert "__main__.enlarge; runs on this minor version of Python only" in text
    assert re.search(r"answer largest probability 0.5 1 high 0.75", text)


def test_names_and_values_that_are_markup_are_only_text() -> None:
    frame = pd.DataFrame(
        {
            EVIL: pd.Categorical([EVIL, "b"] * 40),
            "text": [EVIL + str(number % 50) for number in range(80)],
            "few": ["<b>1</b>", "<img src=x onerror=alert(1)>"] * 40,
            'a" onload="x': [1.0, 2.0] * 40,
        }
    )
    labels = [EVIL, "<i>other</i>"] * 40
    pipeline = make_pipeline(OneHotEncoder(), LogisticRegression(solver="liblinear")).fit(
        frame, labels
    )
    data = _data(
        pipeline,
        frame,
        labels,
        metrics={EVIL: EVIL},
        training={EVIL: {EVIL: [EVIL]}},
        libraries={EVIL: EVIL},
        golden=[GoldenRow({EVIL: EVIL, "few": "<b>"}, EVIL, [0.5, 0.5])],
        production=Incumbent(why_not=EVIL),
        sources=[EVIL],
    )
    html = render(data).html.decode()
    assert "could not be drawn" not in html
    assert not re.search(r"<script|<b>|<i>|<img", html)
    assert html.count("&lt;script&gt;") > 10
    assert _Balance(html).open == []


def test_formulas_line_breaks_and_control_characters_are_only_text() -> None:
    frame = pd.DataFrame({"$x^2$ $\\frac{": ["a\nb", "\x00\x1b[31m"] * 20, "y": [1.0, 2.0] * 20})
    text = _text(_data(Constant(1.0), frame, None))
    assert "$x^2$ $\\frac{" in text
    assert "a b" in text
    assert "\x1b" not in text


def test_text_that_has_no_utf_8_does_not_stop_the_page() -> None:
    frame = pd.DataFrame({"x": ["\ud800", "b"] * 20}, dtype=object)
    data = _data(Constant(1.0), frame, None, training={"odd": "\udfff"})
    assert b"could not be drawn" not in render(data).html


def test_many_rows_and_columns_make_no_large_page() -> None:
    values = np.random.default_rng(0).normal(size=(60_000, 60))
    frame = pd.DataFrame(values, columns=[f"column_{number}" for number in range(60)])
    target = values[:, 0] * 3 + values[:, 1]
    pipeline = LinearRegression().fit(frame.iloc[:100], target[:100])
    html = render(_data(pipeline, frame, target)).html.decode()
    assert len(html) < 500_000
    text = _read(html)
    assert "On 20,000 training rows, a random sample of 60,000" in text
    assert "24 are left out" in text
    assert "more columns matter less" in text


def test_jinja_and_matplotlib_are_only_loaded_by_those_who_draw() -> None:
    code = (
        "import sys, scoreline_training, scoreline_training.report; "
        "sys.exit(bool({'jinja2', 'matplotlib.figure'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_matplotlib_there_are_tables_and_a_word_about_plots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = _text(_data(_classifier()))
    assert "Plots need matplotlib: pip install 'scoreline[training]'." in text.replace("&#39;", "'")
    assert "Confusion matrix" in text


def test_without_jinja_a_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert b"could not be drawn: ModuleNotFoundError" in render(_data(_classifier())).html


# Kinds of pipelines


def test_a_classifier_without_probabilities_is_ranked_by_its_scores() -> None:
    text = _text(_data(LinearSVC().fit(FRAME, LABELS)))
    assert "ROC AUC" in text
    assert "Calibration" not in text
    assert "Measured on the rows it was trained on" in text


def test_a_multi_class_classifier_has_a_line_and_a_row_for_each_class() -> None:
    iris = load_iris(as_frame=True)
    names = iris.target.map(dict(enumerate(iris.target_names)))
    text = _text(_data(_classifier(iris.data, names, max_iter=500), iris.data, names))
    for name in iris.target_names:
        assert re.search(rf"{name} \(AUC = \d.\d\d\)", text)
        assert f"predicted {name}" in text
    assert "largest probability" in text
    assert "class precision recall F1 rows" in text


def test_the_rarest_of_many_classes_share_a_row_of_the_matrix() -> None:
    frame = pd.DataFrame({"x": np.arange(200.0)})
    labels = [f"class {number // 10}" for number in range(200)]
    text = _text(_data(KNeighborsClassifier(25).fit(frame, labels), frame, labels))
    matrix = text.partition("Confusion matrix")[2].partition("Percentages")[0]
    assert matrix.count("predicted") == 13
    assert re.search(r"all others( \d+ \d+\.\d%){13} 80$", matrix.strip())
    assert "The 6 most frequent of 20 classes." in text


def test_a_regressor_has_residuals() -> None:
    target = FRAME["x"] * 3 + GENERATOR.normal(size=120)
    text = _text(_data(LinearRegression().fit(FRAME, target), labels=target))
    for said in ("regressor", "R²", "Residuals", "Predicted and actual", "Absolute error"):
        assert said in text


@pytest.mark.parametrize(
    ("pipeline", "labels", "described"),
    [
        (LinearRegression(), FRAME[["n", "x"]] * 0.5, "Answers, column 2 up to"),
        (KNeighborsClassifier(), np.column_stack([LABELS, LABELS]), "Answers, column 2 low"),
        (IsolationForest(n_estimators=10, random_state=0, contamination=0.1), LABELS, "-1 10.0%"),
        (StandardScaler(), LABELS, "Answers, column 2 up to"),
    ],
    ids=["several numbers", "several classes", "outliers", "transformer"],
)
def test_answers_of_another_kind_are_described_and_not_judged(
    pipeline: Any, labels: Any, described: str
) -> None:
    text = _text(_data(pipeline.fit(FRAME, labels), labels=labels))
    assert "are described, not judged" in text
    assert described in text
    assert "mean change, in standard deviations" in text or "share of answers that change" in text
    assert "Measured on the rows it was trained on" not in text


def test_a_pipeline_whose_answers_depend_on_company_is_marked() -> None:
    data = _data(Constant(1.0), FRAME.iloc[:3], None)
    assert "answers of this pipeline depend on the rows" in _text(
        replace(data, version=replace(data.version, batchable=False))
    )


def test_columns_of_every_type_are_shuffled_and_drawn() -> None:
    rows = 90
    frame = pd.DataFrame(
        {
            "self": ["good day", "bad night", "so so"] * 30,
            "country": ["DE", None, "FR"] * 30,
            "plan": pd.Categorical(["free", "pro", "pro"] * 30),
            "paid": [True, False, True] * 30,
            "seen": pd.date_range("2024-01-01", periods=rows, tz="Europe/Berlin"),
            "amount": [1.5, np.nan, np.inf] * 30,
            "visits": pd.array([1, None, 3] * 30, dtype="Int64"),
            "nothing": pd.Series([None] * rows, dtype="float64"),
            "always": 7,
        },
        index=[0] * rows,
    )
    labels = ["yes", "no", "yes"] * 30
    parts = make_column_transformer((CountVectorizer(), "self"), (OneHotEncoder(), ["plan"]))
    text = _text(
        _data(
            make_pipeline(parts, LogisticRegression(solver="liblinear")).fit(frame, labels),
            frame,
            labels,
        )
    )
    assert "category · 2 different" in text
    assert "string · 33.3% missing · 2 different" in text
    assert re.search(r"2024-0\d-\d\d to 2024-0\d-\d\d .* datetime", text)
    assert "100.0% missing · 0 different" in text
    assert "integer · 1 different" in text


# Labels that do not fit


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (None, "No labels were given"),
        ([0, 1] * 60, "are not classes of the pipeline"),
        ([None] * 120, "No row has a label"),
        (["high"] * 120, "There is nothing to tell apart"),
        ([["high", "low"]] * 120, "Labels are (120, 2)"),
        ([["high"]] * 120, "There is nothing to tell apart"),
        ([["high"], ["high", "low"]] * 60, "The labels do not fit the rows"),
    ],
    ids=["none", "encoded", "all missing", "one class", "two columns", "one column", "ragged"],
)
def test_labels_that_cannot_be_used_are_told_in_a_sentence(labels: Any, said: str) -> None:
    text = _text(_data(_classifier(), labels=labels))
    assert said in text
    assert "Importance of columns" in text


def test_missing_labels_are_left_out_and_new_ones_count_as_wrong() -> None:
    labels = LABELS.astype(object)
    labels[:5], labels[5:9] = None, "unheard of"
    text = _text(_data(_classifier(), X_test=FRAME, y_test=labels))
    assert "On 115 held-out rows. 5 rows have no label and are left out." in text
    assert "predicted unheard of" in text


def test_labels_that_are_no_numbers_have_no_distance_from_a_regressor() -> None:
    target = [f"number {number}" for number in range(120)]
    text = _text(_data(LinearRegression().fit(FRAME, FRAME["x"]), labels=target))
    assert "no distance is defined" in text


def test_one_row_is_enough_for_a_report() -> None:
    text = _text(_data(_classifier(), X_test=FRAME.iloc[:1], y_test=LABELS[:1]))
    assert "It takes two rows" in text


def test_no_held_out_row_is_as_good_as_none_given() -> None:
    text = _text(_data(_classifier(), X_test=FRAME.iloc[:0], y_test=[]))
    assert "Measured on the rows it was trained on" in text


# Failures


def test_rows_that_the_pipeline_cannot_score_leave_the_rest_of_the_report() -> None:
    frame = FRAME[FRAME["x"] > 0]
    html = render(
        _data(Failing(), frame, frame["x"], X_test=FRAME, y_test=FRAME["x"])
    ).html.decode()
    assert "cannot be measured on the held-out rows: ValueError: a negative x" in html
    assert "sha256 of X_train" in html


@pytest.mark.parametrize("labels", [None, FRAME["x"]], ids=["no labels", "labels"])
def test_answers_that_are_no_numbers_are_told(labels: Any) -> None:
    class Odd:
        def predict(self, frame: pd.DataFrame) -> Any:
            return np.where(frame["x"] > 0, np.nan, np.inf)

    text = _text(_data(Odd(), labels=labels))
    assert "how far they move cannot be measured" in text
    assert labels is None or "Some labels or answers are not finite" in text


def test_probabilities_that_are_no_numbers_are_told() -> None:
    class Odd(Constant):
        classes_ = np.array(["high", "low"])

        def predict_proba(self, frame: pd.DataFrame) -> Any:
            return np.full((len(frame), 2), np.nan)

    assert "Some probabilities are not finite." in _text(_data(Odd("high")))


@pytest.mark.parametrize("place", range(7))
def test_a_section_that_fails_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: int
) -> None:
    broken = [*page.sections.SECTIONS]
    title, _, needs_answers = broken[place]
    broken[place] = title, lambda _: 1 / 0, needs_answers
    monkeypatch.setattr(page.sections, "SECTIONS", broken)
    with caplog.at_level(logging.WARNING):
        html = render(_data(Constant(1.0), FRAME.iloc[:3], [1.0, 2.0, 3.0])).html.decode()
    assert html.count("This could not be drawn: ZeroDivisionError") == 1
    assert html.count("<section ") == 7
    assert repr(title) in caplog.text


def test_a_bug_in_the_report_stops_no_publishing(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(page, "_page", lambda _: 1 / 0)
    published = publish(_classifier(), "sides", FRAME, LABELS)
    assert "could not be drawn: ZeroDivisionError" in published.report.read_text()
    assert "the training report of sides cannot be drawn" in caplog.text


# Publishing


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store; no Redis answers."""
    monkeypatch.setenv("SCORELINE_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("SCORELINE_ARTIFACTS", str(tmp_path))
    return Store(tmp_path)


def test_the_report_is_an_artifact_file_and_compares_with_what_was_promoted(store: Store) -> None:
    first = publish(_classifier(C=0.001), "sides", FRAME, LABELS, promote=True)
    assert first.report == first.path / REPORT
    assert store.read(first.manifest, REPORT) == first.report.read_bytes()
    assert "Nothing has been released as sides@production yet" in first.report.read_text()
    second = publish(_classifier(), "sides", FRAME, LABELS, X_test=FRAME, y_test=LABELS)
    html = second.report.read_text()
    assert "sides@1, in production" in html
    assert "Right now, wrong in production" in html
    # How well a pipeline does on what it was fitted on says little.
    assert first.manifest.metrics == {}
    assert second.manifest.metrics["Accuracy"] == pytest.approx(0.75, abs=0.2)
    own = {"accuracy": 0.9}
    third = publish(_classifier(), "sides", FRAME, LABELS, X_test=FRAME, y_test=LABELS, metrics=own)
    assert third.manifest.metrics == own


@pytest.mark.parametrize(
    ("held_out", "said"),
    [
        ({"y_test": LABELS}, "give X_test as well"),
        ({"X_test": FRAME[["x"]]}, "with the columns of X_train"),
        ({"X_test": FRAME.to_numpy()}, "with the columns of X_train"),
        ({"X_test": FRAME, "y_test": LABELS[:3]}, "y_test has 3 labels for the 120 rows of X_test"),
    ],
    ids=["labels alone", "other columns", "an array", "too few labels"],
)
def test_held_out_rows_that_do_not_fit_are_refused(
    store: Store, held_out: dict[str, Any], said: str
) -> None:
    with pytest.raises(UnsuitableData, match=said):
        publish(_classifier(), "sides", FRAME, LABELS, **held_out)
    assert store.models() == []
