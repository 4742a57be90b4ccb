"""Texts in a plan: the same matrices as scikit-learn's vectorisers give, to the last bit, and so the same answers."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import (
    CountVectorizer,
    TfidfTransformer,
    TfidfVectorizer,
)
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from scoreline_artifacts.packaging.plan_proof import as_requested
from scoreline_artifacts.plan import ScoringPlan, read_plan, texts
from scoreline_artifacts.plan.nodes import Unplanned
from scoreline_artifacts.plan.texts import MANY_TEXTS, WordCounts
from scoreline_artifacts.schema import Schema
from scoreline_artifacts.validation import CheckedRows

pytestmark = pytest.mark.filterwarnings("ignore")

COUNT = 2 * MANY_TEXTS
WORDS = (
    "red", "Blue", "GREEN", "x", "a", "naïve", "Straße", "ÉLAN", "don't", "under_score", "3", "42", "1.5", "e-mail",
    "ΣΊΣΥΦΟΣ", "日本語", "١٢٣", "𝒳𝒴", "the", "and", "İstanbul", "ﬁne",
)  # fmt: skip
GAPS = (" ", ", ", "\n", "\t", "\0", "\x1f", "\x85", "\u2028", " - ", '"', "\xa0")
ODD = ["", " ", "x", "\0", "\xff", "a b c", "red" * 50, "É", "_", "\ufeffred", "red\r\nblue"]


def _texts(count: int, seed: int, *, is_ascii: bool) -> list[str]:
    random = np.random.default_rng(seed)
    words, gaps = (
        [each for each in some if not is_ascii or each.isascii()] for some in (WORDS, GAPS)
    )
    drawn = [
        "".join(random.choice(words) + random.choice(gaps) for _ in range(random.integers(1, 9)))
        for _ in range(count)
    ]
    odd = [each for each in ODD if not is_ascii or each.isascii()]
    return [*odd, *drawn][:count]


@cache
def _frame(*, is_ascii: bool = False, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"stars": random.integers(1, 6, COUNT), "text": _texts(COUNT, seed, is_ascii=is_ascii)}
    )
    return frame.assign(kind=random.choice(["a", "b", "c"], COUNT))


LABELS = np.arange(COUNT) % 3 == 0
VECTORIZERS: dict[str, CountVectorizer] = {
    "counts": CountVectorizer(),
    "binary": CountVectorizer(binary=True),
    "cased": CountVectorizer(lowercase=False),
    "short words": CountVectorizer(token_pattern=r"(?u)\b\w+\b"),
    "another pattern": CountVectorizer(token_pattern=r"(?u)[a-z]+"),
    "a group": CountVectorizer(token_pattern=r"(?u)\b(\w)\w+\b"),
    "stop words": CountVectorizer(stop_words="english"),
    "own stop words": CountVectorizer(stop_words=["red", "Blue"], lowercase=False),
    "accents": CountVectorizer(strip_accents="unicode"),
    "ascii accents": CountVectorizer(strip_accents="ascii"),
    "pairs": CountVectorizer(ngram_range=(1, 2)),
    "characters": CountVectorizer(analyzer="char", ngram_range=(2, 3)),
    "characters of words": CountVectorizer(analyzer="char_wb", ngram_range=(1, 3)),
    "own vocabulary": CountVectorizer(vocabulary=["x", "red", "BLUE", "1.5", "the", "naïve"]),
    "stop words in the vocabulary": CountVectorizer(vocabulary=["red", "the"], stop_words="english"),
    "few": CountVectorizer(max_features=3, min_df=2),
    "shorts": CountVectorizer(dtype=np.int16),
    "tf-idf": TfidfVectorizer(),
    "tf-idf, sublinear": TfidfVectorizer(sublinear_tf=True, norm="l1"),
    "tf-idf, no weights": TfidfVectorizer(use_idf=False, norm=None, ngram_range=(1, 2)),
    "tf-idf, smooth": TfidfVectorizer(smooth_idf=False, binary=True, stop_words="english"),
}  # fmt: skip


def _plan(pipeline: Any, frame: pd.DataFrame) -> ScoringPlan:
    plan = read_plan(pipeline, Schema.infer(frame).columns)
    assert isinstance(plan, ScoringPlan), plan
    return plan


def _check_same(
    pipeline: Any, frame: pd.DataFrame, *frames: pd.DataFrame, opaque: int = 0
) -> ScoringPlan:
    """The plan answers as the pipeline, for rows alone, for some and for many."""
    plan = _plan(pipeline, frame)
    assert len(plan.opaque) == opaque, plan.opaque
    for some in (frame, *frames):
        for rows in (some[:1], some[3:40], some):
            given = rows.reset_index(drop=True)
            for method in ("predict", "predict_proba"):
                if hasattr(pipeline, method):
                    answer = getattr(plan, method)(as_requested(given))
                    expected = getattr(pipeline, method)(given)
                    assert answer.dtype == expected.dtype
                    if expected.dtype == bool:
                        np.testing.assert_array_equal(answer, expected)
                    np.testing.assert_allclose(answer, expected, rtol=1e-12)
    return plan


@pytest.mark.parametrize("has_arrow", [True, False])
@pytest.mark.parametrize("name", VECTORIZERS)
def test_a_vectorizer_gives_the_same_matrix(
    name: str, has_arrow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "_has_arrow", lambda: has_arrow)
    vectorizer = VECTORIZERS[name]
    trained = _frame()
    pipeline = make_pipeline(
        ColumnTransformer([("text", vectorizer, "text")]), LogisticRegression()
    ).fit(trained, LABELS)
    fitted = pipeline[0].named_transformers_["text"]
    plan = _plan(pipeline, trained)
    for frame in (trained, _frame(seed=1), _frame(is_ascii=True), _frame(is_ascii=True, seed=2)):
        for rows in (frame[:1], frame[5:9], frame):
            values: list[Any] = [CheckedRows.of(rows.reset_index(drop=True))]
            for node in plan.nodes:
                values.append(node.run(values))
            expected = fitted.transform(rows["text"])
            assert values[-1].dtype == expected.dtype
            assert type(values[-1]) is type(expected)
            for part in ("indptr", "indices", "data"):
                np.testing.assert_array_equal(getattr(values[-1], part), getattr(expected, part))


@given(st.lists(st.text(max_size=30), min_size=1, max_size=6), st.booleans())
def test_any_text_is_counted_as_by_scikit_learn(some: list[str], is_ascii: bool) -> None:
    if is_ascii:
        some = [text.encode("ascii", "ignore").decode() for text in some]
    documents = [*some, *(text.upper() for text in some), "a word"]
    vectorizer = CountVectorizer(token_pattern=r"(?u)\b\w+\b").fit(documents)
    frame = pd.DataFrame({"text": pd.Series(documents, dtype=object)})
    pipeline = Pipeline(
        [("columns", ColumnTransformer([("text", vectorizer, "text")])), ("end", Ridge())]
    ).fit(frame, np.arange(len(frame)))
    (node,) = [each for each in _plan(pipeline, frame).nodes if isinstance(each, WordCounts)]
    for rows in (documents, documents * MANY_TEXTS):
        counts = node.run([rows, np.array(rows, object)[:, None]])
        assert (counts != vectorizer.transform(rows)).nnz == 0


PIPELINES: dict[str, Any] = {
    "beside numbers and categories": make_pipeline(
        ColumnTransformer(
            [
                ("text", TfidfVectorizer(), "text"),
                ("stars", StandardScaler(), ["stars"]),
                ("kind", OneHotEncoder(), ["kind"]),
            ]
        ),
        LogisticRegression(),
    ),
    "weighed": make_pipeline(
        ColumnTransformer(
            [("text", TfidfVectorizer(), "text"), ("stars", "passthrough", ["stars"])],
            transformer_weights={"text": 0.3},
        ),
        LinearSVC(),
    ),
    "counts, then weights": make_pipeline(
        ColumnTransformer([("text", make_pipeline(CountVectorizer(), TfidfTransformer()), "text")]),
        SGDClassifier(loss="log_loss"),
    ),
    "selected": make_pipeline(
        ColumnTransformer([("text", CountVectorizer(), "text")]), SelectKBest(chi2, k=10),
        LogisticRegression(),
    ),
    "two in a union": make_pipeline(
        ColumnTransformer(
            [("text", make_union(TfidfVectorizer(), CountVectorizer(analyzer="char")), "text")]
        ),
        Ridge(),
    ),
    "dense": make_pipeline(
        ColumnTransformer(
            [("text", CountVectorizer(), "text"), ("stars", StandardScaler(), ["stars"])],
            sparse_threshold=0,
        ),
        LogisticRegression(),
    ),
    "latent": make_pipeline(
        ColumnTransformer([("text", make_pipeline(TfidfVectorizer(), TruncatedSVD(5)), "text")]),
        LogisticRegression(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_of_texts_dissolves_and_answers_the_same(name: str) -> None:
    trained = _frame()
    pipeline = PIPELINES[name].fit(trained, LABELS)
    _check_same(pipeline, trained, _frame(seed=1), _frame(is_ascii=True, seed=2))


def _only_text(frame: pd.DataFrame) -> Any:
    return frame["text"]


CALLED: dict[str, tuple[Any, int]] = {
    "an estimator of another kind": (
        make_pipeline(ColumnTransformer([("text", TfidfVectorizer(), "text")]), MultinomialNB()), 1,
    ),
    "a tree": (
        make_pipeline(ColumnTransformer([("text", CountVectorizer(), "text")]), DecisionTreeClassifier()), 1,
    ),
    "a tokenizer of somebody's own": (
        make_pipeline(
            ColumnTransformer([("text", TfidfVectorizer(tokenizer=str.split, token_pattern=None), "text")]),
            LogisticRegression(),
        ), 1,
    ),
    "a function that selects": (
        make_pipeline(FunctionTransformer(_only_text), TfidfVectorizer(), LogisticRegression()), 1,
    ),
    "a scaler of a sparse matrix": (
        make_pipeline(
            ColumnTransformer([("text", CountVectorizer(), "text")]), StandardScaler(with_mean=False),
            LogisticRegression(),
        ), 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLED)
def test_what_is_not_known_is_called_beside_texts(name: str) -> None:
    trained = _frame()
    pipeline, opaque = CALLED[name]
    _check_same(pipeline.fit(trained, LABELS), trained, _frame(seed=1), opaque=opaque)


@pytest.mark.parametrize("text", [None, np.nan, 3, b"bytes"])
def test_what_is_no_text_is_left_to_the_pipeline(text: Any) -> None:
    pipeline = PIPELINES["counts, then weights"].fit(_frame(), LABELS)
    (node,) = [each for each in _plan(pipeline, _frame()).nodes if isinstance(each, WordCounts)]
    with pytest.raises(Unplanned):
        node.run([[1, 2], np.array([["red"], [text]], object)])


def test_a_patched_vectorizer_is_called() -> None:
    vectorizer = CountVectorizer()
    vectorizer.build_tokenizer = lambda: str.split
    pipeline = make_pipeline(
        ColumnTransformer([("text", vectorizer, "text")]), LogisticRegression()
    ).fit(_frame(), LABELS)
    patched = pipeline[0].named_transformers_["text"]
    patched.build_tokenizer = lambda: str.split
    plan = read_plan(pipeline, Schema.infer(_frame()).columns)
    assert isinstance(plan, ScoringPlan)
    assert len(plan.opaque) == 1
