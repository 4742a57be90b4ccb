"""Generated frames: training rows of every type of column, and rows unlike any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

TRAINING_ROWS = 160
FRESH_ROWS = 5
"""Rows of the same distribution that training has not seen."""

Rng = np.random.Generator
Draw = Callable[[Rng, int], Any]


@dataclass(frozen=True)
class Kind:
    """A type of column: how it is drawn, values that training never has, and values that it refuses."""

    draw: Draw
    unlike: Sequence[Any] = ()
    """Values that the column takes and that training did not have."""
    bad: Mapping[str, Any] | None = None
    """Values that it refuses, by the code of the error."""


def _with_missing(draw: Draw, missing: Any) -> Draw:
    def drawn(rng: Rng, count: int) -> Any:
        series = pd.Series(draw(rng, count))
        series[np.arange(count) % 7 == 3] = missing
        return series

    return drawn


def _picked(values: Sequence[Any], dtype: Any = None) -> Draw:
    """Values in turn, shuffled: each of them comes, however few rows there are."""

    def drawn(rng: Rng, count: int) -> Any:
        order = rng.permutation(np.arange(count) % len(values))
        return pd.Series([values[place] for place in order], dtype=dtype)

    return drawn


def _dates(dtype: str) -> Draw:
    def drawn(rng: Rng, count: int) -> Any:
        seconds = rng.integers(1_600_000_000, 1_700_000_000, count)
        moments = pd.Series(pd.to_datetime(seconds, unit="s"))
        if "," in dtype:
            moments = moments.dt.tz_localize("UTC")
        return moments.astype(dtype)

    return drawn


WORDS = ("red", "green", "blue", "007", "1e3", "nan", "a b", "Ünï", "x,y", 'say "so"')
_TYPE_AND_NULL = {"E_TYPE": "much", "E_NULL": None}
_FLOATS = [0.0, -0.0, 1e6, -1e6, 1e-300, 0.1 + 0.2, 123456789.123456789]

KINDS: dict[str, Kind] = {
    "float": Kind(
        lambda rng, count: rng.normal(size=count),
        _FLOATS,
        {**_TYPE_AND_NULL, "E_NON_FINITE": float("inf")},
    ),
    "float32": Kind(
        lambda rng, count: rng.normal(size=count).astype("float32"),
        np.array([0.0, 1e6, -1e-30, 0.1], "float32").tolist(),
        _TYPE_AND_NULL,
    ),
    "float?": Kind(_with_missing(lambda rng, count: rng.normal(size=count), np.nan), _FLOATS),
    "Float64?": Kind(
        _with_missing(lambda rng, count: pd.array(rng.normal(size=count), "Float64"), pd.NA),
        [1e6, -0.5],
    ),
    "int": Kind(
        lambda rng, count: rng.integers(-20, 20, count),
        [0, 10**6, -(10**12), 2**53 - 1],
        {**_TYPE_AND_NULL, "E_RANGE": 10**30},
    ),
    "int8": Kind(lambda rng, count: rng.integers(-20, 20, count).astype("int8"), [127, -128]),
    "uint16": Kind(lambda rng, count: rng.integers(0, 20, count).astype("uint16"), [65535]),
    "Int64?": Kind(
        _with_missing(lambda rng, count: pd.array(rng.integers(0, 9, count), "Int64"), pd.NA),
        [2**53 + 1, -4],
    ),
    "bool": Kind(lambda rng, count: rng.random(count) < 0.5, [], {"E_TYPE": "maybe"}),
    "boolean?": Kind(
        _with_missing(lambda rng, count: pd.array(rng.random(count) < 0.5, "boolean"), pd.NA)
    ),
    "text": Kind(_picked(WORDS), ["new", "", "Red ", "é" * 300, "1.0", "true"], {"E_NULL": None}),
    "text?": Kind(
        _with_missing(_picked(WORDS, object), None), ["new", "Red ", "None", "line\nbreak"]
    ),
    "string?": Kind(_with_missing(_picked(WORDS, "string"), pd.NA), ["new", "NA"]),
    "empty text": Kind(_picked(["", "full", "half"]), ["new"]),
    "category": Kind(_picked(WORDS, "category"), [], {"E_CATEGORY": "purple", "E_NULL": None}),
    "category of integers": Kind(_picked([1, 20, 300], "category"), [], {"E_CATEGORY": 7}),
    "category of booleans": Kind(_picked([True, False], "category")),
    "category of floats": Kind(_picked([0.5, 1.0, 2.0], "category")),
    "ordered category": Kind(
        lambda rng, count: pd.Categorical(
            np.array(["low", "mid", "high"])[rng.integers(0, 3, count)],
            categories=["low", "mid", "high"],
            ordered=True,
        )
    ),
    "date": Kind(
        _dates("datetime64[ns]"),
        [pd.Timestamp("1931-05-06"), pd.Timestamp("2199-12-31 23:59:59.123456")],
        {"E_TYPE": "soon"},
    ),
    "date in microseconds": Kind(_dates("datetime64[us]"), [pd.Timestamp("1031-05-06")]),
    "date with zone": Kind(
        _dates("datetime64[ns, Europe/Berlin]"),
        [pd.Timestamp("2024-10-27T02:30+01:00").tz_convert("Europe/Berlin")],
    ),
    "date?": Kind(_with_missing(_dates("datetime64[ns]"), pd.NaT), [pd.Timestamp("1931-05-06")]),
    "day": Kind(
        lambda rng, count: (
            pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 999, count), "D")
        ),
        [pd.Timestamp("1931-05-06"), pd.Timestamp("2199-12-31")],
    ),
    "price": Kind(lambda rng, count: rng.integers(0, 10_000, count) / 100, [0.1, 1234567.89]),
    "identifier": Kind(
        # Read as floats, since some are missing: a public file has such a column.
        _with_missing(
            lambda rng, count: rng.integers(10**17, 9 * 10**17, count).astype(float), np.nan
        ),
        [float(123456789012345678)],
    ),
}
"""A question mark: some values are missing in training."""

FRAMES: dict[str, dict[str, str]] = {
    "numbers": {"a": "float", "b": "int", "c": "float"},
    "two numbers": {"a": "float", "b": "float"},
    "numbers with missing": {"a": "float?", "b": "float", "c": "Int64?"},
    "small numbers": {"a": "float32", "b": "int8", "c": "uint16", "d": "bool"},
    "wide float32": {f"f{number}": "float32" for number in range(60)},
    "mixed": {"a": "float", "color": "text", "n": "int", "group": "category", "flag": "bool"},
    "texts": {"a": "float", "t": "text?", "s": "string?", "e": "empty text"},
    "dates": {"a": "float", "day": "date", "us": "date in microseconds", "seen": "date?"},
    "zones": {"a": "int", "at": "date with zone"},
    "categories": {
        "a": "float",
        "i": "category of integers",
        "b": "category of booleans",
        "f": "category of floats",
        "o": "ordered category",
    },
    "nullable": {"a": "Float64?", "b": "Int64?", "c": "boolean?", "s": "string?"},
    "names": {
        "größe, m": "float",
        ' say "so"': "int",
        "=1+1": "float",
        "index": "int",
        "a.1": "float",
        "Unnamed: 0": "int",
    },
    "database": {"a": "float", "day": "day", "price": "price"},
    "identifiers": {"a": "float", "id": "identifier", "n": "int"},
}
"""The columns of each frame, by their kinds."""


def training(columns: Mapping[str, str], rng: Rng, count: int = TRAINING_ROWS) -> pd.DataFrame:
    """Rows to fit on."""
    return pd.DataFrame({name: KINDS[kind].draw(rng, count) for name, kind in columns.items()})


def asked(columns: Mapping[str, str], frame: pd.DataFrame, rng: Rng) -> pd.DataFrame:
    """Rows to ask: some like those of training, and for each column its unlike values; types as in training."""
    fresh = training(columns, rng, max(FRESH_ROWS, 10)).iloc[:FRESH_ROWS]
    parts = [fresh.astype(frame.dtypes)]
    most = max((len(KINDS[kind].unlike) for kind in columns.values()), default=0)
    base = parts[0].iloc[[0] * most].reset_index(drop=True) if most else parts[0].iloc[:0]
    unlike = {}
    for name, kind in columns.items():
        values = list(base[name])
        values[: len(KINDS[kind].unlike)] = KINDS[kind].unlike
        unlike[name] = pd.Series(values).astype(frame[name].dtype)
    parts.append(pd.DataFrame(unlike, columns=list(columns)))
    return pd.concat(parts, ignore_index=True).astype(frame.dtypes)


def bad_values(columns: Mapping[str, str]) -> list[tuple[str, Any, str]]:
    """Values that a record must not have: column, value, and the code of the error."""
    return [
        (name, value, code)
        for name, kind in columns.items()
        for code, value in (KINDS[kind].bad or {}).items()
    ]
