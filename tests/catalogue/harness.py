"""A model of visits to a doctor, asked by file and by JSON through all of the client and the worker."""

from __future__ import annotations

import asyncio
import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson
import pandas as pd

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.files.run import ScoreSummary, score_file
from scoreline_client.options import BulkOptions
from scoreline_client.protocol.messages import Answer, Request
from scoreline_client.settings import ClientSettings
from scoreline_client.transport.dispatcher import Transport
from tests.support.bulk import StubTransport
from tests.support.models import Classifier
from tests.support.scoring import answer_to

TRAINING = pd.DataFrame(
    {
        "age": [20, 90] * 3,
        "bmi": [18.5, 40.0] * 3,
        "sex": ["F", "M"] * 3,
        "smokes": [True, False] * 3,
        "weight": [50.0, 70.0, None] * 2,
        "plan": pd.Categorical(["gold", "basic"] * 3),
        "seen": pd.to_datetime(["2024-01-01", "2024-12-31"] * 3),
    }
)
GOOD = {
    "age": 30,
    "bmi": 22.5,
    "sex": "F",
    "smokes": True,
    "weight": 60.5,
    "plan": "gold",
    "seen": "2024-05-01",
}
HEADER = "id,age,bmi,sex,smokes,weight,plan,seen"
ROW = "007,30,22.5,F,true,60.5,gold,2024-05-01"


class ConstantClassifier(Classifier):
    """Says yes, with probabilities that depend on nothing."""


def ask(request: Request, pipeline: object) -> Answer:
    """What a worker answers to a request."""
    loaded = LoadedVersion.of(pipeline, "visits", 1, Schema.infer(TRAINING))
    return answer_to(request, loaded, max_records=1000)


@dataclass(frozen=True)
class Scored:
    """What became of a file."""

    summary: ScoreSummary
    output: bytes
    report: list[dict[str, str]]
    """Its errors.csv."""

    @property
    def rows(self) -> list[list[str]]:
        """The output's rows without the header."""
        text = self.output.decode("utf-8", "surrogateescape")
        return list(csv.reader(io.StringIO(text, newline="")))[1:]

    @property
    def errors(self) -> list[str]:
        """The last field of each row."""
        return [row[-1] for row in self.rows]

    @property
    def exit_code(self) -> int:
        return 1 if self.summary.rejected else 0


class ScoringHarness:
    """Scores files in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def score(
        self,
        rows: str | bytes,
        *,
        header: str = HEADER,
        pipeline: object | None = None,
        name: str = "in.csv",
        **options: Any,
    ) -> Scored:
        """Score a file with these rows."""
        source, target = self._folder / name, self._folder / f"out.{name}"
        data = rows.encode() if isinstance(rows, str) else rows
        source.write_bytes((header.encode() + b"\n" if header else b"") + data)
        model = pipeline or ConstantClassifier()
        transport = StubTransport(lambda request: ask(request, model))
        summary = asyncio.run(
            score_file(
                cast("Transport", transport),
                ClientSettings(state=str(self._folder)),
                "visits",
                str(source),
                str(target),
                options=BulkOptions(**options),
            )
        )
        report = Path(f"{target}.errors.csv")
        told = report.read_text() if report.exists() else ""
        errors = list(csv.DictReader(io.StringIO(told, newline="")))
        return Scored(summary, target.read_bytes(), errors)


def row(**changes: str) -> str:
    """The good row with other fields."""
    fields = dict(zip(HEADER.split(","), ROW.split(","), strict=True)) | changes
    return ",".join(fields.values())


def post(body: Any, *, pipeline: object | None = None, options: bytes = b"") -> Answer:
    """The answer to a request of JSON."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    request = Request(id="1" * 32, model="visits", body=data, options=options)
    return ask(request, pipeline or ConstantClassifier())
