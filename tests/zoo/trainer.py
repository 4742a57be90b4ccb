"""Runs training projects as `python train.py` would, and writes down what training itself answers.

    python trainer.py OUT PROCESSES WITH_REPORT PROJECT [PROJECT ...]

Each project folder is copied, run in a process of its own that has never seen another project, and its
copy is deleted. The processes are forked from this one, which has imported installed libraries only:
that is all that they have in common, and saves a minute of imports.
"""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

# What nearly every project or its publishing imports, imported once.
import matplotlib.backends.backend_svg
import matplotlib.figure
import matplotlib.style  # noqa: F401
import numpy as np
import pandas as pd
import sklearn.calibration
import sklearn.compose
import sklearn.ensemble
import sklearn.inspection
import sklearn.metrics
import sklearn.pipeline  # noqa: F401

import scoreline_training.publishing
import scoreline_training.report.page
from scoreline_artifacts.dependencies import ModuleOrigins
from scoreline_artifacts.packaging import clean_room

ROWS = 40
"""Raw rows whose answers are compared."""
SCRIPT, NOTEBOOK = "train.py", "notebook.py"


@dataclass
class Trained:
    """What is known of a project once its process has ended."""

    project: str
    error: str | None = None
    """The last line of what it raised."""
    missing: str | None = None
    """A library that is not installed here."""
    model: str = ""
    version: int = 0
    publish_s: float = 0.0
    size_bytes: int = 0
    batchable: bool = True
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Raw rows as training has them."""
    records: list[dict[str, Any]] = field(default_factory=list)
    """The same rows as a caller sends them."""
    values: Any = None
    """What predict, or transform, answers for them in training."""
    probabilities: Any = None
    has_classes: bool = False
    """Whether the probabilities are about one list of classes."""
    local_modules: list[str] = field(default_factory=list)


def main(out: Path, processes: int, with_report: bool, projects: list[Path]) -> None:
    """Run projects, so many at a time; OUT gets one pickle for each."""
    if not with_report:
        drawn = SimpleNamespace(html=b"<p>none</p>", figures={})
        scoreline_training.publishing._report = lambda *_, **__: drawn  # type: ignore[assignment,return-value]
    # It asks for what is installed.
    ModuleOrigins().distribution_of("sklearn")
    free = [clean_room._Room.take() for _ in range(processes)]
    used: dict[int, clean_room._Room] = {}
    waiting = list(projects)
    while waiting or used:
        if waiting and free:
            room = free.pop()
            used[_start(waiting.pop(0), out, room)] = room
        else:
            room = used.pop(os.wait()[0])
            # A project whose visit took too long has ended it.
            free.append(room if room._process.poll() is None else clean_room._Room.take())


def _start(project: Path, out: Path, room: clean_room._Room) -> int:
    """Run a project in a fork, whose clean room is one that earlier projects had: its visits are forks anyway.

    Starting a room for each project would take as long again as everything else. A project that
    publishes with a room of its own is in `test_zoo.py`.
    """
    sys.stdout.flush()
    if child := os.fork():
        return child
    room.owner = os.getpid()
    clean_room._idle[:] = [room]
    try:
        _train(project, out)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        # Never back into the parent's loop; whatever went wrong is in the project's log.
        os._exit(0)


def _train(project: Path, out: Path) -> None:
    log = os.open(out / f"{project.name}.log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    place = out / "projects" / project.name
    shutil.copytree(project, place, ignore=shutil.ignore_patterns("__pycache__"))
    trained = Trained(project=project.name)
    try:
        _run(place, trained)
    # Whatever a project raises is this project's row in the table.
    except BaseException as error:  # noqa: BLE001
        traceback.print_exc()
        trained.error = f"{type(error).__name__}: {error}"
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        # Not installed, rather than a module of the project that was not found.
        trained.missing = absent if absent in OPTIONAL and find_spec(absent) is None else None
    finally:
        _end_helpers()
        shutil.rmtree(place)
    (out / f"{project.name}.pickle").write_bytes(pickle.dumps(vars(trained)))


def _end_helpers() -> None:
    """End what joblib started for n_jobs=2: it would wait for more work for minutes."""
    loky = sys.modules.get("joblib.externals.loky.reusable_executor")
    if loky is not None and loky._executor is not None:
        loky._executor.shutdown(wait=True, kill_workers=True)


OPTIONAL = ("lightgbm", "sklearn_pandas", "xgboost")
"""Libraries that a project of the zoo may need and an environment may lack."""


def _run(place: Path, trained: Trained) -> None:
    os.chdir(place)
    scoreline_training.publish = _recording(scoreline_training.publish, trained)
    if (place / NOTEBOOK).exists():
        _run_notebook(place)
    else:
        _run_script(place / SCRIPT)
    if not trained.model:
        raise AssertionError("the project published nothing")
    trained.local_modules = sorted(_local_modules(place))


def _run_script(script: Path) -> None:
    """As `python train.py` does: the folder first on the path, the script as __main__."""
    sys.path[0] = str(script.parent)
    sys.argv = [str(script)]
    main_module = _new_main()
    main_module.__dict__["__file__"] = str(script)
    exec(compile(script.read_text(), str(script), "exec"), main_module.__dict__)


def _run_notebook(place: Path) -> None:
    """As a notebook does: no file, the working directory on the path, one piece of code per cell."""
    sys.path[0] = ""
    sys.argv = ["ipykernel_launcher.py"]
    main_module = _new_main()
    main_module.__dict__["_"] = None
    for number, cell in enumerate((place / NOTEBOOK).read_text().split("# %%")[1:]):
        code = compile("#" + cell, f"/tmp/ipykernel_{os.getpid()}/{number}.py", "exec")
        exec(code, main_module.__dict__)


def _new_main() -> ModuleType:
    module = ModuleType("__main__")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    return module


def _local_modules(place: Path) -> Iterable[str]:
    for name, module in sys.modules.items():
        where = [getattr(module, "__file__", None), *list(getattr(module, "__path__", []))]
        if name != "__main__" and any(str(one).startswith(str(place)) for one in where if one):
            yield name


def _recording(publish: Callable[..., Any], trained: Trained) -> Callable[..., Any]:
    def recording(
        pipeline: Any, name: str, X_train: pd.DataFrame, *labels: Any, **options: Any
    ) -> Any:
        started = time.perf_counter()
        published = publish(pipeline, name, X_train, *labels, **options)
        trained.publish_s = time.perf_counter() - started
        trained.model, trained.version = published.name, published.version
        trained.batchable = published.manifest.batchable
        trained.size_bytes = sum(
            one.stat().st_size for one in published.path.rglob("*") if one.is_file()
        )
        _record(pipeline, X_train, trained)
        return published

    return recording


def _record(pipeline: Any, frame: pd.DataFrame, trained: Trained) -> None:
    """Note raw rows and training's own answers, without any of Scoreline's code."""
    places = np.linspace(0, len(frame) - 1, min(ROWS, len(frame))).astype(int)
    rows = frame.iloc[places].reset_index(drop=True)
    # One column after the other in memory, as a frame of records has them: sums over the same numbers
    # that lie otherwise may differ in the last bit.
    trained.rows = pd.DataFrame({name: rows[name] for name in rows})
    trained.records = [
        {name: _plain(value) for name, value in row.items()}
        for row in trained.rows.to_dict("records")
    ]
    ask = pipeline.predict if hasattr(pipeline, "predict") else pipeline.transform
    trained.values = _answers(ask, trained)
    if hasattr(pipeline, "predict_proba"):
        trained.probabilities = _answers(pipeline.predict_proba, trained)
        trained.has_classes = isinstance(getattr(pipeline, "classes_", None), np.ndarray)


def _answers(ask: Callable[[pd.DataFrame], Any], trained: Trained) -> Any:
    if trained.batchable:
        return _array(ask(trained.rows))
    alone = [trained.rows.iloc[[row]].reset_index(drop=True) for row in range(len(trained.rows))]
    return np.concatenate([_array(ask(one)) for one in alone])


def _array(answer: Any) -> Any:
    if isinstance(answer, list):  # one array for each output
        return [_array(one) for one in answer]
    return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)


def _plain(value: Any) -> Any:
    """A value as a JSON caller sends it."""
    if value is pd.NA or value is pd.NaT or value != value:
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return value.item() if isinstance(value, np.generic) else value


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1", [*map(Path, sys.argv[4:])])
