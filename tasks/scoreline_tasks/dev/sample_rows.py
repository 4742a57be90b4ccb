"""Made-up rows that look like the Pima data: input for the demo and the benchmarks, from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

ROWS_AT_ONCE = 100_000


@dataclass(frozen=True)
class SampleColumn:
    """The range, mean and deviation of a column of the Pima Indians Diabetes data."""

    name: str
    lowest: float
    highest: float
    mean: float
    deviation: float
    decimals: int = 0

    def draw(self, random: np.random.Generator, rows: int) -> npt.NDArray[Any]:
        """(rows,) int64, or float64 where the data have decimals."""
        values = random.normal(self.mean, self.deviation, rows).clip(self.lowest, self.highest)
        rounded = values.round(self.decimals)
        return rounded if self.decimals else rounded.astype("int64")


_COLUMNS = (
    SampleColumn("preg", 0, 17, 3.8, 3.4),
    SampleColumn("plas", 0, 199, 120.9, 32.0),
    SampleColumn("pres", 0, 122, 69.1, 19.4),
    SampleColumn("skin", 0, 99, 20.5, 16.0),
    SampleColumn("test", 0, 846, 79.8, 115.2),
    SampleColumn("mass", 0, 67.1, 32.0, 7.9, decimals=1),
    SampleColumn("pedi", 0.078, 2.42, 0.472, 0.331, decimals=3),
    SampleColumn("age", 21, 81, 33.2, 11.8),
)


def records(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows as callers of the client have them: mappings of column name to value."""
    drawn = _draw(rows, seed)
    columns = {name: values.tolist() for name, values in drawn.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def write_csv(path: Path, rows: int, seed: int = 0) -> None:
    """Write a CSV file with a header; the same rows for the same seed."""
    import pyarrow as pa
    from pyarrow import csv

    options = csv.WriteOptions(include_header=False, quoting_style="none")
    schema = pa.table(_draw(1, seed)).schema
    with path.open("wb") as file, csv.CSVWriter(file, schema, write_options=options) as writer:
        file.write(",".join(schema.names).encode() + b"\n")
        for part, start in enumerate(range(0, rows, ROWS_AT_ONCE)):
            writer.write_table(pa.table(_draw(min(ROWS_AT_ONCE, rows - start), seed + part)))


def _draw(rows: int, seed: int) -> dict[str, npt.NDArray[Any]]:
    import numpy as np

    random = np.random.default_rng(seed)
    return {column.name: column.draw(random, rows) for column in _COLUMNS}
