"""What a version's modules set when they are executed holds while that version is scored, and nowhere else."""

from __future__ import annotations

import csv
import decimal
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO, TextIOWrapper
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn

from scoreline_artifacts.loading.namespace import Namespace
from scoreline_artifacts.loading.process_settings import ProcessSettings, exclusively
from scoreline_tasks.system import run_in_fork

SETTINGS: list[tuple[str, str, Callable[[], Any], Any]] = [
    (
        "sklearn",
        "import sklearn; sklearn.set_config(transform_output='pandas')",
        lambda: sklearn.get_config()["transform_output"],
        "pandas",
    ),
    (
        "pandas",
        "import pandas as pd; pd.set_option('display.max_colwidth', 7)",
        lambda: pd.get_option("display.max_colwidth"),
        7,
    ),
    (
        "warnings",
        "import warnings; warnings.filterwarnings('error', message='of a kind')",
        lambda: any(one[1] and one[1].pattern == "of a kind" for one in warnings.filters),
        True,
    ),
    (
        "decimal",
        "import decimal; decimal.getcontext().prec = 5",
        lambda: decimal.getcontext().prec,
        5,
    ),
    (
        "errstate",
        "import numpy as np; np.seterr(divide='raise')",
        lambda: np.geterr()["divide"],
        "raise",
    ),
    (
        "printoptions",
        "import numpy as np; np.set_printoptions(precision=2)",
        lambda: np.get_printoptions()["precision"],
        2,
    ),
    ("recursion", "import sys; sys.setrecursionlimit(5000)", sys.getrecursionlimit, 5000),
    ("csv", "import csv; csv.field_size_limit(10)", csv.field_size_limit, 10),
    (
        "logging",
        "import logging; logging.disable(logging.INFO)",
        lambda: logging.root.manager.disable,
        logging.INFO,
    ),
    (
        "variable",
        "import os; os.environ['OF_A_TEST'] = 'here'",
        lambda: os.environ.get("OF_A_TEST"),
        "here",
    ),
]


def _namespace(**modules: str) -> Namespace:
    files = {f"sources/{name}.py": text.encode() for name, text in modules.items()}
    return Namespace("m@1", {name: f"sources/{name}.py" for name in modules}, files)


@pytest.mark.parametrize(
    ("code", "read", "inside"), [one[1:] for one in SETTINGS], ids=[one[0] for one in SETTINGS]
)
def test_a_setting_holds_while_the_version_is_scored_in_whatever_thread(
    code: str, read: Callable[[], Any], inside: Any
) -> None:
    outside = read()
    assert outside != inside
    namespace = _namespace(setup=code)
    namespace.import_module("setup")
    assert read() == outside
    seen: list[Any] = []

    def score() -> None:
        with namespace.settings.in_force():
            seen.append(read())
        seen.append(read())

    score()
    thread = threading.Thread(target=score)
    thread.start()
    thread.join()
    assert seen == [inside, outside, inside, outside]


def test_a_stream_is_reconfigured_only_while_the_version_is_scored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = TextIOWrapper(BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    namespace = _namespace(setup="import sys; sys.stdout.reconfigure(encoding='utf-8')")
    namespace.import_module("setup")
    assert stream.encoding == "ascii"
    with namespace.settings.in_force():
        assert stream.encoding == "utf-8"
    assert stream.encoding == "ascii"


@pytest.mark.parametrize("errors", ["strict", "backslashreplace"])
def test_a_stream_treats_errors_as_the_version_has_set_it(
    monkeypatch: pytest.MonkeyPatch, errors: str
) -> None:
    stream = TextIOWrapper(BytesIO(), encoding="utf-8", errors=errors)
    monkeypatch.setattr(sys, "stdout", stream)
    source = "import sys; sys.stdout.reconfigure(encoding='ascii', errors='backslashreplace')"
    namespace = _namespace(setup=source)
    namespace.import_module("setup")
    assert (stream.encoding, stream.errors) == ("utf-8", errors)
    with namespace.settings.in_force():
        assert (stream.encoding, stream.errors) == ("ascii", "backslashreplace")
    assert (stream.encoding, stream.errors) == ("utf-8", errors)


def test_a_module_sees_what_another_one_of_its_version_has_set() -> None:
    namespace = _namespace(
        setup="import decimal; decimal.getcontext().prec = 5",
        table="import setup, decimal; THIRD = str(1 / decimal.Decimal(3))",
    )
    assert namespace.import_module("table").THIRD == "0.33333"
    with namespace.settings.in_force():
        assert decimal.getcontext().prec == 5


def test_a_module_that_is_imported_while_the_version_is_scored_sets_what_it_sets_from_then_on() -> (
    None
):
    namespace = _namespace(setup="import decimal; decimal.getcontext().prec = 5")
    outside = decimal.getcontext().prec
    with namespace.settings.in_force():
        namespace.import_module("setup")
        assert decimal.getcontext().prec == 5
    assert decimal.getcontext().prec == outside
    with namespace.settings.in_force():
        assert decimal.getcontext().prec == 5
    assert decimal.getcontext().prec == outside


def test_what_an_installed_library_sets_is_of_every_version_that_imports_it(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_defaults.py").write_text("import decimal; decimal.getcontext().prec = 7")
    monkeypatch.syspath_prepend(tmp_path)
    outside = decimal.getcontext().prec
    first, second, other = (
        _namespace(features="import acme_defaults"),
        _namespace(features="import acme_defaults"),
        _namespace(features="import decimal"),
    )
    found = []
    for namespace in (first, second, other):
        namespace.import_module("features")
        assert decimal.getcontext().prec == outside
    for namespace in (first, second, other):
        with namespace.settings.in_force():
            found.append(decimal.getcontext().prec)
    sys.modules.pop("acme_defaults")
    assert found == [7, 7, outside]


def test_what_a_failed_score_leaves_is_undone() -> None:
    settings = ProcessSettings()
    outside = decimal.getcontext().prec
    with settings.recorded():
        decimal.getcontext().prec = 5
    with pytest.raises(ValueError, match="no"), settings.in_force():
        raise ValueError("no")
    assert decimal.getcontext().prec == outside


def test_versions_without_settings_are_scored_together_and_others_alone() -> None:
    plain, special = ProcessSettings(), ProcessSettings()
    with special.recorded():
        os.environ["OF_A_TEST"] = "here"
    together = threading.Barrier(2, timeout=10)
    inside: list[str] = []

    def score_plain() -> None:
        with plain.in_force():
            together.wait()  # both are inside at once
            inside.append(str(os.environ.get("OF_A_TEST")))
            together.wait()

    threads = [threading.Thread(target=score_plain) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = threading.Event()

    def score_special() -> None:
        with special.in_force():
            inside.append(str(os.environ.get("OF_A_TEST")))
        done.set()

    with plain.in_force():
        thread = threading.Thread(target=score_special)
        thread.start()
        assert not done.wait(0.05)
        assert "OF_A_TEST" not in os.environ
    thread.join()
    assert inside == ["None", "None", "here"]


def test_a_thread_that_keeps_the_others_out_may_score_itself() -> None:
    with exclusively(), ProcessSettings().in_force():
        pass


def test_a_fork_does_not_keep_what_another_thread_is_about_to_undo() -> None:
    """Such as a child that is forked while a version is loaded: it serves others, and nobody there undoes it."""
    changed, go_on = threading.Event(), threading.Event()

    def execute() -> None:
        with ProcessSettings().recorded():
            pd.set_option("display.max_colwidth", 7)
            changed.set()
            go_on.wait()

    width = pd.get_option("display.max_colwidth")
    thread = threading.Thread(target=execute)
    thread.start()
    changed.wait()
    try:
        assert run_in_fork(lambda: pd.get_option("display.max_colwidth"), 20) == width
        assert pd.get_option("display.max_colwidth") == 7
    finally:
        go_on.set()
        thread.join()
    assert pd.get_option("display.max_colwidth") == width


def _load_beside(settings: ProcessSettings, work: Callable[[], Any]) -> None:
    """Load a version that changes nothing, while another thread does some work."""
    with settings.recorded():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()


@pytest.fixture
def _as_before() -> Iterator[None]:
    filters, width = list(warnings.filters), pd.get_option("display.max_colwidth")
    yield
    warnings.filters[:] = filters  # type: ignore[index]
    pd.set_option("display.max_colwidth", width)


@pytest.mark.usefixtures("_as_before")
def test_what_is_in_force_beside_a_load_is_not_taken_for_the_versions_own() -> None:
    """A library ignores warnings for the length of a call, and another version is being scored."""
    outside = tuple(warnings.filters)
    for change in (
        lambda: warnings.simplefilter("ignore"),
        lambda: pd.set_option("display.max_colwidth", 7),
    ):
        settings = ProcessSettings(expected=[])
        _load_beside(settings, change)
        assert settings.names == []
    # What the other thread undoes when it is done stays undone.
    warnings.filters[:] = outside  # type: ignore[index]
    with settings.in_force():
        pass
    assert tuple(warnings.filters) == outside


@pytest.mark.usefixtures("_as_before")
def test_what_a_trial_has_named_is_recorded_and_undone() -> None:
    before = pd.get_option("display.max_colwidth")
    settings = ProcessSettings(expected=["pandas: display.max_colwidth"])
    with settings.recorded():
        pd.set_option("display.max_colwidth", 7)
    assert (settings.names, settings.is_of_process) == (["pandas: display.max_colwidth"], True)
    assert pd.get_option("display.max_colwidth") == before
    with settings.in_force():
        assert pd.get_option("display.max_colwidth") == 7


def test_what_only_a_thread_sees_holds_nobody_up() -> None:
    settings = ProcessSettings()
    with settings.recorded():
        sklearn.set_config(transform_output="pandas")
        np.seterr(divide="raise")
        decimal.getcontext().prec = 5
    assert settings.names
    assert not settings.is_of_process
