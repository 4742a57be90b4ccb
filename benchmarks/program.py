"""The `scoreline score` program, in a process of its own as a user runs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.stage import MODEL, Stage
from scoreline_tasks.dev.local_worker import scoreline
from scoreline_tasks.dev.processes import stop

Summary = dict[str, Any]


@contextmanager
def scoring(
    stage: Stage, source: Path, target: Path, model: str = MODEL
) -> Iterator[Callable[[], Summary]]:
    """A file that is being scored inside the block; what is given waits for the summary."""
    command = [*scoreline("score", model), str(source), str(target), "--json", "--quiet"]
    with subprocess.Popen(
        command,
        env=stage.whole_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    ) as child:

        def wait() -> Summary:
            output, errors = child.communicate()
            if child.returncode != 0:
                said = (output + errors).decode()
                raise AssertionError(f"scoring ended with {child.returncode}: {said}")
            summary: Summary = json.loads(output.splitlines()[-1])
            return summary

        try:
            yield wait
        finally:
            stop(child)


def score(stage: Stage, source: Path, target: Path, model: str = MODEL) -> Summary:
    """Score a file to its end."""
    with scoring(stage, source, target, model) as wait:
        return wait()
