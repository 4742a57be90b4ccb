"""What publish() can know, it says: it refuses, takes along, or warns, with the advice that helps."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scoreline_artifacts import Store, UnsuitableData
from scoreline_artifacts.dependencies import ModuleOrigins
from scoreline_artifacts.errors import DoesNotTravel
from scoreline_artifacts.loading.artifact import load
from scoreline_artifacts.packaging.clean_room import CleanRoomFailure, Proof
from scoreline_artifacts.packaging.sources import may_travel_unasked
from scoreline_training import PublishedVersion, publish
from scoreline_training.cautions import Caution, find_cautions
from scoreline_training.diagnosis import diagnose

FRAME = pd.DataFrame({"x": np.linspace(-3, 3, 60), "zone": ["a", "b"] * 29 + ["a", "rare"]})
Write = Callable[[dict[str, str]], None]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write files of a project that this process can import, until the end of the test."""
    monkeypatch.syspath_prepend(tmp_path / "project")
    before = set(sys.modules)

    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            path = tmp_path / "project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        importlib.invalidate_caches()

    yield write
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def store(tmp_path: Path, cheap_publishing: None) -> Store:
    return Store(tmp_path / "store")


def _publish(
    store: Store, step: Any, frame: pd.DataFrame = FRAME, **options: Any
) -> PublishedVersion:
    pipeline = make_pipeline(FunctionTransformer(step), LinearRegression())
    fitted = pipeline.fit(frame, frame["x"])
    return publish(fitted, "m", frame, store=store, **options)


# Random answers, and the clock


@pytest.mark.parametrize("strategy", ["stratified", "uniform"])
def test_an_answer_that_is_random_is_refused(store: Store, strategy: str) -> None:
    guessing = DummyClassifier(strategy=strategy).fit(FRAME, FRAME["zone"])
    with pytest.raises(UnsuitableData, match=r"asked twice .* it is random.* random_state"):
        publish(guessing, "m", FRAME, store=store)
    assert store.models() == []


def test_an_answer_that_depends_on_the_fraction_of_a_second_is_refused(store: Store) -> None:
    class Clock:
        def predict(self, frame: pd.DataFrame) -> Any:
            return np.full(len(frame), pd.Timestamp.now().value / 1e9 % 1)

    with pytest.raises(UnsuitableData, match="depends on the time"):
        publish(Clock(), "m", FRAME, store=store)


CLOCKS = {
    "datetime": "from datetime import datetime\ndef at():\n    return datetime.now().hour\n",
    "date": "import datetime\ndef at():\n    return datetime.date.today().year\n",
    "pandas": "import pandas as pd\ndef at(x):\n    return pd.Timestamp.utcnow() - x\n",
    "time": "import time\nclass A:\n    def at(self):\n        return time.strftime('%Y')\n",
}


@pytest.mark.parametrize("source", CLOCKS.values(), ids=CLOCKS)
def test_code_that_reads_the_clock_is_warned_of(source: str) -> None:
    line = source.count("\n")
    (warning,) = find_cautions({"sources/ages.py": source.encode()}, {}, Proof())
    assert warning.code is Caution.CLOCK
    assert f"line ages.py:{line} calls" in warning.message
    assert "in a column" in warning.message


def test_a_lambda_that_reads_the_clock_is_warned_of(store: Store) -> None:
    published = _publish(store, lambda frame: frame[["x"]] + 0 * pd.Timestamp.now().year)
    assert [warning.code for warning in published.warnings] == [Caution.CLOCK]


@pytest.mark.parametrize(
    "source",
    [
        "import time\ndef f():\n    return time.perf_counter()\n",
        "def f(frame):\n    return frame.time, frame['now']\n",
        "TODAY = 'today'\n",
    ],
)
def test_what_only_looks_like_the_clock_is_not_warned_of(source: str) -> None:
    assert find_cautions({"sources/ages.py": source.encode()}, {}, Proof()) == []


# Modules that were edited

EDITED = {
    "a function": ("def add(x):\n    return x + 1\n", "def add(x):\n    return x + 2\n", "add()"),
    "a method": (
        "class A:\n    def add(self, x):\n        return x + 1\n",
        "class A:\n    def add(self, x):\n        return x + 2\n",
        "A.add()",
    ),
    "a constant": ("STEP = 1\n", "STEP = 20\n", "a constant"),
    "its syntax": ("STEP = 1\n", "STEP = (\n", "its text"),
}


@pytest.mark.parametrize(("before", "after", "what"), EDITED.values(), ids=EDITED)
def test_a_module_that_was_edited_after_its_import_is_refused(
    store: Store,
    project: Write,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    after: str,
    what: str,
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # as users have it
    same = "\ndef same(x):\n    return x[['x']]\n"
    project({"edited_steps.py": before + same})
    module = importlib.import_module("edited_steps")
    project({"edited_steps.py": "# so much for that\n" + after + same})
    with pytest.raises(DoesNotTravel) as caught:
        _publish(store, module.same)
    assert "was edited after it was imported" in str(caught.value)
    assert what in str(caught.value)
    assert store.models() == []


def test_a_module_that_was_edited_and_imported_again_travels(store: Store, project: Write) -> None:
    project({"edited_steps.py": "def same(x):\n    return x[['x']]\n"})
    module = importlib.import_module("edited_steps")
    project({"edited_steps.py": "# nothing new\n\ndef same(x):\n    return x[['x']]\n"})
    assert _publish(store, module.same).travels == ["edited_steps.py"]
    project({"edited_steps.py": "def same(x):\n    return x[['x']] * 2\n"})
    assert _publish(store, importlib.reload(module).same).travels == ["edited_steps.py"]


# Data files

TABLES = """
    from importlib import resources

    def rate(zone):
        table = resources.files("tables") / "rates" / f"{zone}.txt"
        return float(table.read_text())

    def rated(frame):
        return frame[["x"]].assign(rate=frame["zone"].map(rate))
"""
LISTED = """
    from importlib import resources

    RATES = {
        file.name.removesuffix(".txt"): float(file.read_text())
        for file in resources.files("tables").joinpath("rates").iterdir()
        if file.name.endswith(".txt")
    }

    def rated(frame):
        return frame[["x"]].assign(rate=frame["zone"].map(RATES))
"""
RATES = {f"tables/rates/{zone}.txt": "1.5" for zone in ("a", "b", "rare")}


def test_a_data_file_that_no_training_row_opens_is_warned_of(store: Store, project: Write) -> None:
    project(
        {
            "tables/__init__.py": "",
            "tables/steps.py": """
                from importlib.resources import files

                def table(frame):
                    '''Read common.txt, and'''
                    if (frame["x"] > 1000).any():
                        return float(files("tables").joinpath("rare/high.txt").read_text())
                    return float(files("tables").joinpath("common.txt").read_text())

                def add(frame):
                    return frame[["x"]] * table(frame)
            """,
            "tables/common.txt": "1.5",
            "tables/rare/high.txt": "2.5",
            "tables/rare/other.txt": "2.5",
        }
    )
    step = importlib.import_module("tables.steps").add
    published = _publish(store, step)
    (warning,) = published.warnings
    assert warning.code is Caution.DATA_FILE
    assert warning.message.startswith("line tables/steps.py:7 names 'rare/high.txt'")
    assert "code=['tables:rare/high.txt']" in warning.message
    assert _publish(store, step, code=["tables:rare/high.txt"]).warnings == ()


def test_a_data_file_that_only_a_rare_record_opens_travels(store: Store, project: Write) -> None:
    project({"tables/__init__.py": TABLES, **RATES})
    published = _publish(store, importlib.import_module("tables").rated)
    assert published.travels == ["tables/__init__.py", *RATES]
    assert load(store, "m", 1).score(FRAME.iloc[[-1]]).values == pytest.approx([3.0])


def test_of_a_folder_that_is_listed_only_what_is_opened_travels(
    store: Store, project: Write, tmp_path: Path
) -> None:
    folder = tmp_path / "project" / "tables"
    project(
        {
            "tables/__init__.py": LISTED,
            **RATES,
            "tables/.env": "DB_PASSWORD=hunter2",
            "tables/deploy.pem": "-----BEGIN PRIVATE KEY-----",
            "tables/rates/notes.md": "not opened",
            "tables/rates/id_rsa": "key",
            "elsewhere.txt": "7",
        }
    )
    (folder / "rates" / "linked.txt").symlink_to(tmp_path / "project" / "elsewhere.txt")
    published = _publish(store, importlib.import_module("tables").rated)
    assert published.travels == ["tables/__init__.py", *RATES]


@pytest.mark.parametrize("name", [".env", "deploy.pem", "linked.txt"])
def test_a_hidden_file_a_key_or_a_link_does_not_travel_because_code_opens_it(
    store: Store, project: Write, tmp_path: Path, name: str
) -> None:
    source = f"""
        from importlib import resources
        def same(frame):
            resources.files("opening").joinpath({name!r}).read_bytes()
            return frame[["x"]]
    """
    project({"opening/__init__.py": source, "opening/.env": "", "opening/deploy.pem": "", "x": ""})
    (tmp_path / "project" / "opening" / "linked.txt").symlink_to(tmp_path / "project" / "x")
    step = importlib.import_module("opening").same
    with pytest.raises(DoesNotTravel, match=f"{name}.* is not there"):
        _publish(store, step)
    if name != "linked.txt":
        published = _publish(store, step, code=[f"opening:{name}"])
        assert f"opening/{name}" in published.travels


@pytest.mark.parametrize(
    "path",
    [
        *(
            ".env",
            ".git/config",
            "tables/.hidden/rates.csv",
            "deploy.pem",
            "DEPLOY.PEM",
            "server.key",
        ),
        *(
            "store.p12",
            "store.pfx",
            "store.jks",
            "app.keystore",
            "putty.ppk",
            "all.kdbx",
            "htpasswd",
        ),
        *("id_rsa", "id_ed25519.pub", "aws_credentials", "my-secret.txt", "secrets/prod.json"),
    ],
)
def test_what_is_hidden_or_named_like_a_key_stays_at_home(path: str) -> None:
    assert not may_travel_unasked(f"sources/churn/{path}")


@pytest.mark.parametrize("path", ["rates.csv", "keys.csv", "id/rates.csv", "tokens.json", "a.b/c"])
def test_other_data_travel(path: str) -> None:
    assert may_travel_unasked(f"sources/churn/{path}")


def test_names_of_files_that_stay_at_home_are_no_part_of_an_answer(
    store: Store, project: Write
) -> None:
    source = """
        from importlib import resources
        def counted(frame):
            # Python's own folder of bytecode is no data, and there or not.
            found = [one.name for one in resources.files("counting").iterdir()]
            names = [name for name in found if name != "__pycache__"]
            return frame[["x"]] * len(names)
    """
    project({"counting/__init__.py": source, "counting/a.txt": "", "counting/b.txt": ""})
    with pytest.raises(DoesNotTravel, match="code="):
        _publish(store, importlib.import_module("counting").counted)


def test_a_line_that_looks_like_a_secret_is_warned_of() -> None:
    source = b"import os\nAPI_TOKEN = 'tok_live_very_secret'\nNAME = os.environ.get('NAME')\n"
    (warning,) = find_cautions({"sources/settings.py": source}, {}, Proof())
    assert (warning.code, "settings.py:2" in warning.message) == (Caution.SECRET, True)


# The project as a distribution


def test_a_project_that_asks_for_its_own_version_gets_it(
    store: Store, project: Write, tmp_path: Path
) -> None:
    source = """
        import importlib.metadata
        from importlib.metadata import PackageNotFoundError, version
        VERSION = version("churn-model")
        def same(frame):
            assert VERSION == importlib.metadata.version("churn_model") == "3.1"
            assert importlib.metadata.metadata("Churn.Model")["Summary"] == "Who leaves"
            assert version("numpy")
            try:
                version("nobody-has-this")
            except PackageNotFoundError:
                return frame[["x"]]
    """
    metadata = "Metadata-Version: 2.1\nName: churn-model\nVersion: 3.1\nSummary: Who leaves\n"
    project({"churn_of.py": source, "churn_model.egg-info/PKG-INFO": metadata})
    published = _publish(store, importlib.import_module("churn_of").same)
    assert published.travels == ["churn_model.dist-info/METADATA", "churn_of.py"]
    (tmp_path / "project" / "churn_model.egg-info" / "PKG-INFO").unlink()
    load(store, "m", 1).score(FRAME)


# Processes, caches


def test_a_step_that_starts_processes_is_warned_of() -> None:
    (warning,) = find_cautions({}, {}, Proof(processes=["line pooled.py:7"]))
    assert warning.code is Caution.PROCESSES
    assert "line pooled.py:7 starts a process" in warning.message
    assert "must be on every worker" in warning.message


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        (
            "cannot cache function 'f': no locator available for file 'm@1/sources/f.py'",
            "cache=True",
        ),
        ("Can't pickle <function f>: import of module 'm@1:f' failed", "Use threads"),
    ],
)
def test_what_numba_and_process_pools_raise_comes_with_advice(message: str, advice: str) -> None:
    failure = CleanRoomFailure(kind="RuntimeError", message=message, location="f.py:3")
    said = diagnose(failure, None, ModuleOrigins())
    assert message in said
    assert advice in said
