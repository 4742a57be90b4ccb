"""The models beside Pima's that the benchmarks need, and rows for them."""

from __future__ import annotations

import csv
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from benchmarks.stage import MODEL, Stage
from scoreline_artifacts.store import releases
from scoreline_training import publish

WIDE, TEXT, COLUMNS, BOOSTED, SLEEPING = "wide", "text", "columns", "boosted", "sleeping"
NUMBERS, KINDS = ["income", "age", "debt", "months"], ["region", "product"]
WIDE_COLUMNS = 200
TRAINED_ROWS = 2_000
WORDS, WORDS_A_ROW = 20_000, 20
SLEEP_S = 0.020


class Sleeping:
    """A pipeline that needs no processor: every call takes 20 ms, whatever its number of rows."""

    def predict(self, frame: pd.DataFrame) -> Any:
        """Zero for every row of (rows, columns)."""
        time.sleep(SLEEP_S)
        return np.zeros(len(frame))


def publish_wide(stage: Stage) -> None:
    """A scaler and a logistic regression on 200 columns of numbers."""
    frame = wide_rows(TRAINED_ROWS, seed=0)
    labels = (frame.iloc[:, :5].sum(axis=1) > 0).astype(int)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, labels)
    publish(pipeline, WIDE, frame, labels, store=stage.store, promote=True)


def publish_text(stage: Stage) -> None:
    """TF-IDF of a column of text, a number, and a logistic regression on both."""
    frame = text_rows(TRAINED_ROWS, seed=0)
    columns = ColumnTransformer(
        [("text", TfidfVectorizer(), "text"), ("stars", StandardScaler(), ["stars"])]
    )
    labels = (frame["stars"] + frame["text"].str.len() % 3 > 4).astype(int)
    pipeline = make_pipeline(columns, LogisticRegression()).fit(frame, labels)
    publish(pipeline, TEXT, frame, labels, store=stage.store, promote=True)


def publish_columns(stage: Stage) -> None:
    """Numbers that may be missing, filled in and scaled, categories one-hot, and a logistic regression."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    kinds = OneHotEncoder(handle_unknown="ignore")
    _publish_mixed(
        stage,
        COLUMNS,
        make_pipeline(
            ColumnTransformer([("numbers", numbers, NUMBERS), ("kinds", kinds, KINDS)]),
            LogisticRegression(max_iter=1000),
        ),
    )


def publish_boosted(stage: Stage) -> None:
    """The same columns, categories as ordinals, and a hundred boosted trees."""
    kinds = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    _publish_mixed(
        stage,
        BOOSTED,
        make_pipeline(
            ColumnTransformer([("kinds", kinds, KINDS)], remainder="passthrough"),
            HistGradientBoostingClassifier(random_state=0),
        ),
    )


def _publish_mixed(stage: Stage, model: str, pipeline: Any) -> None:
    frame = mixed_rows(TRAINED_ROWS, seed=0)
    labels = (frame["debt"] / frame["income"] + (frame["region"] == "north") > 0.5).astype(int)
    publish(pipeline.fit(frame, labels), model, frame, labels, store=stage.store, promote=True)


def publish_sleeping(stage: Stage) -> None:
    """The pipeline that sleeps, for records with one column x."""
    frame = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
    publish(Sleeping(), SLEEPING, frame, store=stage.store, promote=True)


def publish_copies(stage: Stage, count: int) -> tuple[str, ...]:
    """The Pima model under other names, each a version of its own; gives the names."""
    store = stage.store
    manifest = store.manifest(MODEL, 1)
    files = dict(store.read_all(manifest))
    names = tuple(f"{MODEL}-{number}" for number in range(count))
    for name in names:
        store.publish(replace(manifest, model=name), files)
        releases.promote(store, name, 1)
    return names


def wide_rows(rows: int, seed: int) -> pd.DataFrame:
    """(rows, 200) numbers with four decimals."""
    random = np.random.default_rng(seed)
    names = [f"c{place:03}" for place in range(WIDE_COLUMNS)]
    return pd.DataFrame(random.normal(size=(rows, WIDE_COLUMNS)).round(4), columns=names)


def text_rows(rows: int, seed: int) -> pd.DataFrame:
    """Some twenty words in each row, rare ones among them, with commas, quotes and line ends."""
    random = np.random.default_rng(seed)
    drawn = np.minimum(random.zipf(1.3, (rows, WORDS_A_ROW)), WORDS)
    words = np.array([f"w{number:x}" for number in range(WORDS + 1)])[drawn]
    ends = np.array([", and then", ' "so they say"', ".\nNext"])[random.integers(0, 3, rows)]
    text = [f"{' '.join(row)}{end}" for row, end in zip(words.tolist(), ends.tolist(), strict=True)]
    return pd.DataFrame({"id": np.arange(rows), "stars": random.integers(1, 6, rows), "text": text})


def mixed_rows(rows: int, seed: int) -> pd.DataFrame:
    """(rows, 6) numbers, a tenth of `months` missing, and categories."""
    random = np.random.default_rng(seed)
    months = random.integers(0, 360, rows).astype(float)
    months[random.random(rows) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "income": random.lognormal(10, 0.5, rows).round(2),
            "age": random.integers(18, 90, rows),
            "debt": random.lognormal(9, 1, rows).round(2),
            "months": months,
            "region": random.choice(["north", "south", "east", "west"], rows),
            "product": random.choice([f"product {letter}" for letter in "abcdefghij"], rows),
        }
    )


def write_rows(path: Path, frame: pd.DataFrame) -> None:
    """A CSV file in which text is quoted."""
    frame.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC)
