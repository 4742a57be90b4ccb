"""Whatever the pipeline, the record and the way in: the answer is what training's own predict gives.

A small part of the suite; `make parity` runs all of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.parity.cases import SMALL, cases
from tests.parity.frames import FRAMES
from tests.parity.ways import WAYS

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One run for all tests, in a process of its own: some pipelines change settings of theirs."""
    target = tmp_path_factory.mktemp("parity") / "verdicts.json"
    options = ["--small", "--workers", "here", "--json", str(target)]
    run = subprocess.run(
        [sys.executable, "-m", "tests.parity", *options],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert target.exists(), run.stderr
    found: list[dict[str, Any]] = json.loads(target.read_text())
    return found


@pytest.mark.parametrize("name", SMALL)
def test_every_way_in_answers_as_training(verdicts: list[dict[str, Any]], name: str) -> None:
    own = [one for one in verdicts if one["case"] == name]
    assert {one["way"] for one in own} == {"publish", *WAYS}
    assert [(one["way"], one["worker"], one["notes"]) for one in own if one["wrong"]] == []
    assert all(one["equal"] + one["rejected"] == one["rows"] for one in own)


def test_the_whole_suite_has_pipelines_by_the_hundred_and_every_kind_of_frame() -> None:
    """Guards the suite itself: parity of nothing would be parity, too."""
    names = [case.name for case in cases()]
    assert len(set(names)) == len(names) > 500
    for frame in FRAMES:
        assert any(frame.replace(" ", "-") in name for name in names)
    assert {case.name for case in cases()} >= set(SMALL)
