"""Fits, publishes and asks the suite's pipelines, as training projects do, and writes down what they answer.

    python -m tests.parity.trainer OUT PROCESSES CASE [CASE ...]

The cases of a group share a process, but for those whose modules change settings of the whole process. The
processes are forked from this one, which has imported libraries only. All are published as users publish them, most
of them without a training report.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
import warnings
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path

from scoreline_artifacts import ArtifactError, Store
from scoreline_artifacts.store.signing import KeyRing
from scoreline_training import publish
from tests.parity.cases import Case, cases
from tests.parity.truth import Truth, ask
from tests.support.publishing import no_report

PROJECT = Path(__file__).parent / "project"


def main(out: Path, processes: int, names: list[str]) -> None:
    """Train the cases, so many processes at a time; OUT gets a store for each group and a pickle for each case."""
    chosen = [case for case in cases() if case.name in names]
    shared: dict[str, list[Case]] = defaultdict(list)
    for case in chosen:
        shared[case.name if case.alone else case.group].append(case)
    # A project is what lies beside its script; the suite itself is no part of it.
    sys.path[:] = [str(PROJECT), *(entry for entry in sys.path if Path(entry or ".") != Path.cwd())]
    os.chdir(PROJECT)
    waiting, running = list(shared.values()), 0
    while waiting or running:
        if waiting and running < processes:
            _start(waiting.pop(0), out)
            running += 1
        else:
            os.wait()
            running -= 1


def _start(group: list[Case], out: Path) -> None:
    sys.stdout.flush()
    if os.fork():
        return
    try:
        # What estimators warn of while they are fitted on noise is not what is looked at here.
        warnings.simplefilter("ignore")
        for case in group:
            truth = Truth(name=case.name, group=case.group)
            try:
                _train(case, truth, out)
            # Whatever it is, it is this case's row in the table.
            except BaseException as error:  # noqa: BLE001
                traceback.print_exc()
                truth.crashed = f"{type(error).__name__}: {error}"
            (out / f"{case.name}.pickle").write_bytes(pickle.dumps(truth))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Never back into the parent's loop.
        os._exit(0)


def _train(case: Case, truth: Truth, out: Path) -> None:
    fitted = case.make()
    store = Store(out / "stores" / case.group, KeyRing(out / "keys"))
    started = time.perf_counter()
    try:
        with nullcontext() if case.with_report else no_report():
            published = publish(
                fitted.pipeline, case.name, fitted.frame, fitted.labels, store=store, promote=False
            )
    except ArtifactError as error:
        truth.refused = f"{type(error).__name__}: {error}"
        ask(fitted.pipeline, fitted.frame, fitted.frame.iloc[::4], truth)
        return
    finally:
        truth.seconds = time.perf_counter() - started
    truth.version, truth.batchable = published.version, published.manifest.batchable
    truth.unneeded, truth.as_stored = case.unneeded, dict(case.as_stored)
    unused = {column.name for column in published.manifest.schema.columns if column.unused}
    # A value of a column that changes no answer is no error, whatever it is.
    truth.bad = [(name, value, "" if name in unused else code) for name, value, code in fitted.bad]
    frame = fitted.frame
    truth.with_empty_text = [name for name in frame if (frame[name].astype(object) == "").any()]
    ask(fitted.pipeline, fitted.frame, fitted.rows, truth)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
