"""What travels with a pipeline, and what is said when something cannot."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PREAMBLE = """
import json, sys
import numpy as np, pandas as pd
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from scoreline_artifacts import ArtifactError
from scoreline_training import publish
X = pd.DataFrame({"a": np.arange(40.0), "b": np.arange(40.0) % 7})
def publish_with(*functions, **options):
    steps = [FunctionTransformer(one) for one in functions]
    pipeline = make_pipeline(*steps, LinearRegression()).fit(X, X["a"])
    try:
        published = publish(pipeline, "m", X, X["a"], **options)
    except ArtifactError as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
    else:
        manifest = published.manifest
        print(json.dumps({"sources": manifest.sources, "files": list(manifest.files),
                          "libraries": manifest.libraries, "imports": manifest.imports,
                          "batchable": manifest.batchable, "by_value": manifest.by_value,
                          "warnings": [f"{one.code}: {one.message}" for one in published.warnings]}))
"""
Run = Callable[[dict[str, str]], dict[str, Any]]


@pytest.fixture
def train(tmp_path: Path) -> Run:
    """Run the `train.py` of a project, given by its files, and return what it says of publishing."""

    def run(files: dict[str, str]) -> dict[str, Any]:
        for name, text in files.items():
            path = tmp_path / "project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            start = PREAMBLE if name == "train.py" else ""
            path.write_text(start + textwrap.dedent(text))
        done = subprocess.run(
            [sys.executable, "train.py"],
            cwd=tmp_path / "project",
            env={
                "SCORELINE_ARTIFACTS": str(tmp_path / "store"),
                "SCORELINE_KEYS": str(tmp_path / "keys"),
                "PATH": "",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return said

    return run


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("os._exit(3)", "the process that loaded it ended with exit code 3"),
        ("os.kill(os.getpid(), 9)", "the process that loaded it ended with signal 9"),
        ("raise SystemExit('no')", "the process that loaded it ended with exit code 1"),
        ("time.sleep(3600)", "made-up rows took longer than 1 s"),
        ("sum(range(10**18))", "made-up rows took longer than 1 s"),
    ],
)
def test_a_process_that_made_up_rows_end_costs_the_plan_and_not_the_version(
    train: Run, tmp_path: Path, end: str, reason: str
) -> None:
    train(
        {
            "guards.py": f"""
                import os, time
                def guard(x):
                    if (x > 1e6).any(axis=None):
                        {end}
                    return x
            """,
            "train.py": """
                import guards
                from sklearn.preprocessing import StandardScaler
                steps = FunctionTransformer(guards.guard), StandardScaler(), LinearRegression()
                fitted = make_pipeline(*steps).fit(X, X["a"])
                version = publish(fitted, "m", X, X["a"], plan_proof_s=0.2).version
                print(json.dumps({"version": version}))
            """,
        }
    )
    proof = json.loads((tmp_path / "store/m/versions/1/plan.json").read_bytes())
    assert proof["reason"] == f"it could not be proved: {reason}"


def test_only_what_is_needed_travels(train: Run) -> None:
    said = train(
        {
            "needed.py": "import below\ndef double(x):\n    return x * below.TWO\n",
            "below.py": "TWO = 2\nif __name__ == '__main__':\n    import secrets_of_mine\n",
            "secrets_of_mine.py": "PASSWORD = 'x'\n",
            "unrelated.py": "",
            "train.py": "import needed, unrelated, secrets_of_mine\npublish_with(needed.double)\n",
        }
    )
    assert said["sources"] == {"below": "sources/below.py", "needed": "sources/needed.py"}
    assert sorted(said["files"])[-2:] == ["sources/below.py", "sources/needed.py"]


def test_data_files_travel_when_they_are_read(train: Run) -> None:
    said = train(
        {
            "feats/__init__.py": "",
            "feats/read.txt": "3",
            "feats/not_read.txt": "secret",
            "feats/add.py": """
                from importlib import resources
                def add(x):
                    return x + int(resources.files("feats").joinpath("read.txt").read_text())
            """,
            "train.py": "from feats.add import add\npublish_with(add)\n",
        }
    )
    assert [name for name in said["files"] if name.endswith(".txt")] == ["sources/feats/read.txt"]


def test_a_module_whose_name_is_made_up_at_run_time_travels_too(train: Run) -> None:
    said = train(
        {
            "choice_a.py": "STEP = 1\n",
            "user.py": """
                import importlib
                def add(x):
                    return x + importlib.import_module("choice_" + "a").STEP
            """,
            "train.py": "import user\npublish_with(user.add)\n",
        }
    )
    assert set(said["sources"]) == {"choice_a", "user"}


def test_what_cannot_be_found_travels_when_it_is_named(train: Run) -> None:
    said = train(
        {
            "rare.py": "STEP = 1\n",
            "words/__init__.py": "",
            "words/rare.txt": "",
            "user.py": """
                import importlib
                def add(x):
                    return x + (importlib.import_module("ra" + "re").STEP if len(x) > 1000 else 0)
            """,
            "train.py": "import user\npublish_with(user.add, code=['rare', 'words:rare.txt'])\n",
        }
    )
    assert set(said["sources"]) == {"rare", "user"}
    assert "sources/words/rare.txt" in said["files"]


def test_an_installed_package_travels_when_it_is_named(train: Run) -> None:
    use = "import sortedcontainers\ndef same(x):\n    sortedcontainers.SortedList()\n    return x\n"
    project = {"user.py": use, "train.py": "import user\npublish_with(user.same)\n"}
    assert "sortedcontainers" in train(project)["imports"]
    project["train.py"] = "import user\npublish_with(user.same, code=['sortedcontainers'])\n"
    said = train(project)
    assert "sortedcontainers" in said["sources"]
    assert "sortedcontainers" not in said["imports"]


def test_a_package_with_a_builds_egg_info_beside_it_travels(train: Run) -> None:
    said = train(
        {
            "mine/__init__.py": "def double(x):\n    return x * 2\n",
            "mine.egg-info/PKG-INFO": "Metadata-Version: 2.1\nName: mine\nVersion: 1\n",
            "mine.egg-info/top_level.txt": "mine\n",
            "train.py": "import mine\npublish_with(mine.double)\n",
        }
    )
    assert set(said["sources"]) == {"mine"}


def test_a_script_publishes_from_a_process_that_it_has_spawned(train: Run) -> None:
    said = train(
        {
            "train.py": """
                import multiprocessing
                def double(x):
                    return x * 2
                def work():
                    publish_with(double)
                if __name__ == "__main__":
                    child = multiprocessing.get_context("spawn").Process(target=work)
                    child.start()
                    child.join()
            """
        }
    )
    assert said["by_value"] == ["__mp_main__.double"]


def test_distributions_that_the_pickle_refers_to_are_recorded(train: Run) -> None:
    said = train({"train.py": "from scipy.special import expit\npublish_with(expit, np.log1p)\n"})
    assert {"python", "scikit-learn", "scipy", "numpy", "pandas", "dill"} <= set(said["libraries"])
    assert said["sources"] == {}


def test_functions_by_value_are_named(train: Run) -> None:
    said = train({"train.py": "publish_with(lambda x: x + 1)\n"})
    assert said["by_value"] == ["__main__.<lambda>"]


def test_a_program_that_a_step_runs_is_warned_of(train: Run) -> None:
    said = train(
        {
            "user.py": """
                import subprocess, sys
                def same(x):
                    subprocess.run([sys.executable, "-c", ""], check=True)
                    return x
            """,
            "train.py": "import user\npublish_with(user.same)\n",
        }
    )
    (warning,) = said["warnings"]
    assert warning.startswith("W_PROCESSES: line user.py:4 starts a process of its own")


REFUSED: dict[str, tuple[dict[str, str], list[str]]] = {
    "a module of memory alone": (
        {
            "train.py": """
                import types
                made = types.ModuleType("made_here")
                exec("def same(x):\\n    return x\\n", made.__dict__)
                sys.modules["made_here"] = made
                publish_with(made.same)
            """
        },
        ["no module 'made_here'", "steps[0][1].func", "made_here.same", "memory only"],
    ),
    "a file beside a module": (
        {
            "user.py": """
                from pathlib import Path
                def add(x):
                    return x + int(Path(__file__).with_name("step.txt").read_text())
            """,
            "step.txt": "1",
            "train.py": "import user\npublish_with(user.add)\n",
        },
        ["user.py:4 opens the file", "step.txt", "importlib.resources"],
    ),
    "a variable that was changed after the import": (
        {
            "user.py": "STEP = 1\ndef add(x):\n    return x + STEP\n",
            "train.py": "import user\nuser.STEP = 99\npublish_with(user.add)\n",
        },
        ["row 0 gave", "changed after the import"],
    ),
    "an exception": (
        {
            "user.py": """
                import os
                def same(x):
                    if os.getcwd().endswith("empty"):
                        raise ValueError("only at home")
                    return x
            """,
            "train.py": "import user\npublish_with(user.same)\n",
        },
        ["ValueError at user.py:5", "only at home"],
    ),
    "processes of its own": (
        {
            "user.py": """
                from concurrent.futures import ProcessPoolExecutor
                def same(x):
                    with ProcessPoolExecutor(1) as pool:
                        pool.submit(abs, -1).result()
                    return x
            """,
            "train.py": "import user\npublish_with(user.same)\n",
        },
        ["AssertionError at user.py:5", "Use threads, or joblib"],
    ),
    "an end of the process": (
        {
            "user.py": """
                import os
                if os.getcwd().endswith("empty"):
                    os._exit(7)
                def same(x):
                    return x
            """,
            "train.py": "import user\npublish_with(user.same)\n",
        },
        ["ended with exit code 7"],
    ),
    "a module of machine code": (
        {
            "train.py": """
                import shutil, _struct
                shutil.copy(_struct.__file__, _struct.__file__.rpartition("/")[2])
                import importlib.machinery, importlib.util
                import pathlib
                name = pathlib.Path("fast" + importlib.machinery.EXTENSION_SUFFIXES[0])
                name.write_bytes(b"")
                sys.modules["fast"] = fast = type(sys)("fast")
                fast.__spec__ = importlib.util.spec_from_file_location("fast", name.resolve())
                exec("def same(x):\\n    return x\\n", fast.__dict__)
                publish_with(fast.same)
            """
        },
        ["module 'fast'", "no Python source"],
    ),
    "something named in vain": (
        {"train.py": "publish_with(np.log1p, code=['nothing'])\n"},
        ["code= names the module 'nothing'"],
    ),
    "too much": (
        {
            "big.py": "DATA = '" + "x" * (17 * 1024 * 1024) + "'\ndef same(x):\n    return x\n",
            "train.py": "import big\npublish_with(big.same)\n",
        },
        ["at most 16,777,216 travel", "big.py"],
    ),
}


@pytest.mark.parametrize(("files", "words"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_says_what_where_and_what_to_do(
    train: Run, files: dict[str, str], words: list[str], tmp_path: Path
) -> None:
    error = train(files)["error"]
    assert error.startswith("DoesNotTravel")
    assert [word for word in words if word not in error] == []
    assert not list(tmp_path.glob("store/*/versions/*"))
