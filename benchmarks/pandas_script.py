"""The baseline for files: a plain script in chunks, `pandas_script.py STORE MODEL SOURCE TARGET`.

Prints the seconds that it worked, without what Python takes to start, import and load the pipeline.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pandas as pd

from scoreline_artifacts import Store
from scoreline_artifacts.loading.artifact import load

CHUNK_ROWS = 100_000


def score(store: str, model: str, source: str, target: str) -> float:
    """Append value and probabilities to every row; gives the seconds that it took."""
    loaded = load(Store(Path(store)), model, 1)
    classes = loaded.classes or []
    begun = time.perf_counter()
    with (
        pd.read_csv(source, chunksize=CHUNK_ROWS) as chunks,
        Path(target).open("w", newline="") as file,
    ):
        for number, chunk in enumerate(chunks):
            probabilities = loaded.pipeline.predict_proba(chunk)
            chunk["prediction"] = [classes[place] for place in probabilities.argmax(axis=1)]
            for place, name in enumerate(classes):
                chunk[f"probability_{name}"] = probabilities[:, place]
            chunk.to_csv(file, index=False, header=number == 0)
    return time.perf_counter() - begun


if __name__ == "__main__":
    print(score(*sys.argv[1:]))
