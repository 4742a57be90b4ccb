"""Files without columns that the model can do without are scored, and say so; their columns count as known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.errors import FileRefused
from scoreline_client.protocol.messages import Answer, Request
from tests.support.bulk import StubTransport, run
from tests.support.models import Classifier
from tests.support.scoring import answer_to

TRAINING = pd.DataFrame({"a": [1.5, 7.5], "income": [10.0, 20.0], "note": ["x", "y"]})
SCHEMA = Schema.infer(TRAINING, optional=["income"]).with_unused(["note"])
LOADED = LoadedVersion.of(
    Classifier(lambda frame: frame["a"] + frame["income"].fillna(0) > 5), "m", 1, SCHEMA
)
WHOLE = pd.DataFrame({"a": [1.0, 9.0, 1.0], "income": [1.0, 1.0, 50.0], "note": [1, 2, 3]})
ANSWERS = ["no", "yes", "yes"]


def _answer(request: Request) -> Answer:
    return answer_to(request, LOADED)


def _written(path: Path, frame: pd.DataFrame) -> Path:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    return path


def _read(path: Path) -> pd.DataFrame:
    if path.suffix == ".csv":
        return pd.read_csv(path)
    return pd.read_json(path, lines=True) if path.suffix == ".jsonl" else pd.read_parquet(path)


def _score(
    tmp_path: Path, suffix: str, frame: pd.DataFrame, **options: Any
) -> tuple[Any, list[str]]:
    source, target = _written(tmp_path / f"in{suffix}", frame), tmp_path / f"out{suffix}"
    summary = run(source, target, transport=StubTransport(_answer), **options)
    assert summary.rejected == 0
    return summary, _read(target)["prediction"].tolist()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_what_is_there_is_used_and_what_is_left_out_is_missing(tmp_path: Path, suffix: str) -> None:
    assert _score(tmp_path, suffix, WHOLE)[1] == ANSWERS
    without = WHOLE.drop(columns=["income", "note"])
    assert _score(tmp_path, suffix, without, restart=True)[1] == ["no", "yes", "no"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_summary_names_what_is_left_out(tmp_path: Path, suffix: str) -> None:
    summary, _ = _score(tmp_path, suffix, WHOLE[["a", "note"]])
    assert "not in the file, which the model can do without: 'income'" in summary.notes


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_column_that_may_be_left_out_is_known_to_the_model(tmp_path: Path, suffix: str) -> None:
    assert _score(tmp_path, suffix, WHOLE, strict=True)[1] == ANSWERS


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_column_that_is_demanded_is_missed(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(FileRefused, match="column missing: 'a'"):
        _score(tmp_path, suffix, WHOLE[["income", "note"]])
