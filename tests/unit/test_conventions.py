"""The habits of the house that a machine can check."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests import environments

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "scoreline_client": ROOT / "client" / "scoreline_client",
    "scoreline_artifacts": ROOT / "artifacts" / "scoreline_artifacts",
    "scoreline_tasks": ROOT / "tasks" / "scoreline_tasks",
    "scoreline_training": ROOT / "training" / "scoreline_training",
    "scoreline_gateway": ROOT / "gateway" / "scoreline_gateway",
}
SOURCES = sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))
TEXTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "Makefile", "Procfile", "constraints.txt", "*.toml")
    for path in ROOT.glob(pattern)
)
READS_ENVIRONMENT = {
    "scoreline_client/settings.py": "reads every setting",
    "scoreline_artifacts/loading/process_settings.py": "undoes what a version's modules set when they are executed",
    "scoreline_artifacts/packaging/clean_room.py": "hands the environment to the room, with one thread for BLAS",
    "scoreline_tasks/worker/process.py": "sets one thread for BLAS before numpy is first imported",
    "scoreline_tasks/dev/processes.py": "hands the whole environment to child processes",
}
CELERY_FILES = 2
"""How many files of the worker may know Celery and its libraries: the app with its watchdog, the pool."""
LONGEST_FUNCTION = 60
"""Lines of code, without docstring, comments and blank lines; only one fate after the other is so long."""
SINGLE_USE_PERCENT = 7.0
"""Private functions that one place calls, in percent of all functions; lower it whenever it can be."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _functions(path: Path) -> list[Function]:
    return [node for node in ast.walk(_tree(path)) if isinstance(node, Function)]


def _name(path: Path) -> str:
    return str(path.relative_to(path.parents[len(path.parts) - 1 - _depth(path)]))


def _depth(path: Path) -> int:
    return next(index for index, part in enumerate(path.parts) if part in PACKAGES)


def test_no_key_is_spelled_out_outside_keys() -> None:
    spelling = [_name(path) for path in SOURCES if "scoreline:{" in path.read_text()]
    assert spelling == ["scoreline_client/protocol/keys.py"]


def test_no_lua_script_spells_out_a_key() -> None:
    scripts = [path for folder in PACKAGES.values() for path in folder.rglob("*.lua")]
    assert [path.name for path in scripts if "scoreline:{" in path.read_text()] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_lists_what_it_re_exports_in_order_and_completely(package: str) -> None:
    tree = ast.parse((PACKAGES[package] / "__init__.py").read_text())
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
        if not (alias.asname or alias.name).startswith("_")
    }
    listed = getattr(importlib.import_module(package), "__all__", [])
    assert listed == sorted(listed)
    assert imported <= set(listed)
    assert all(hasattr(importlib.import_module(package), name) for name in listed)


def test_the_environment_is_read_in_few_places_only() -> None:
    reading = {
        _name(path)
        for path in SOURCES
        if re.search(r"\bos\.(environ|getenv|putenv)\b|import environ\b", path.read_text())
    }
    assert reading == set(READS_ENVIRONMENT)


def test_importing_the_client_takes_no_setting() -> None:
    code = "import scoreline_client.cli.main"
    environment = {"SCORELINE_RESULT_TTL_S": "not a number", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == 0


def test_the_program_imports_what_its_command_needs() -> None:
    code = (
        "import sys; from scoreline_client.cli.main import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: print(sorted({'asyncio', 'msgspec', 'redis', 'rich'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_each_name_of_the_client_is_where_it_says() -> None:
    code = (
        "import scoreline_client as package\n"
        "assert package.errors.NoAnswer is package.NoAnswer\n"
        "assert not hasattr(package, 'nothing')\n"
        "assert package.__all__ == sorted(package._FROM)\n"
        "from scoreline_client import *\n"
        "assert Client is package.Client"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_readme_fits_on_150_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_nothing_is_left_to_do_in_a_comment() -> None:
    left = re.compile(r"\b(TODO|FIXME|XXX)\b")
    assert [str(path) for path in SOURCES + TEXTS if left.search(path.read_text())] == []


def test_no_file_names_a_place_on_one_machine() -> None:
    place = re.compile(r"/work/|/root/|find-links|index-url")
    assert [str(path) for path in TEXTS if place.search(path.read_text())] == []


def test_a_module_says_what_it_is_for() -> None:
    silent = [path for path in SOURCES if path.read_text() and not ast.get_docstring(_tree(path))]
    assert [_name(path) for path in silent] == []


def test_a_function_can_be_read_at_a_glance() -> None:
    too_long = {}
    for path in SOURCES:
        lines = path.read_text().splitlines()
        for function in _functions(path):
            docstring = function.body[0] if ast.get_docstring(function) else None
            start = (docstring.end_lineno or 0) if docstring else function.lineno
            body = (line.strip() for line in lines[start : function.end_lineno])
            length = sum(bool(line) and not line.startswith("#") for line in body)
            if length > LONGEST_FUNCTION:
                too_long[f"{_name(path)}: {function.name}"] = length
    assert too_long == {}


def test_few_private_functions_have_one_caller() -> None:
    functions = [function.name for path in SOURCES for function in _functions(path)]
    words = Counter(re.findall(r"\w+", "\n".join(path.read_text() for path in SOURCES)))
    private = {name for name in functions if name.startswith("_") and not name.startswith("__")}
    single = sorted(name for name in private if words[name] <= 2)
    assert 100 * len(single) / len(functions) <= SINGLE_USE_PERCENT, single


def test_no_two_classes_have_the_same_name() -> None:
    names = Counter(
        node.name
        for path in SOURCES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_celery_stays_at_the_rim() -> None:
    knowing = [
        _name(path)
        for path in SOURCES
        if re.search(r"^\s*(from|import) (celery|kombu|billiard)\b", path.read_text(), re.MULTILINE)
    ]
    assert len(knowing) <= CELERY_FILES, knowing


def test_the_tree_in_the_architecture_shows_every_module() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    tree = page[page.index("```text") : page.index("```", page.index("```text") + 3)]
    shown = [line.split(maxsplit=1) for line in tree.splitlines()[1:] if line]
    expected = []
    for path in SOURCES:
        if path.name == "__init__.py":
            # A package's own line; a source root is shown with its folder.
            name = "/".join(path.parts[-3:-1]) if path.parent.name in PACKAGES else path.parent.name
            name += "/"
        else:
            name = path.name
        docstring = ast.get_docstring(_tree(path)) or ""
        sentence = docstring.partition("\n\n")[0].replace("\n", " ").rstrip(".")
        expected.append([name, sentence] if sentence else [name])
    modules = [line for line in shown if not line[0].endswith(".lua")]
    assert sorted(modules) == sorted(expected)


def test_make_test_newest_has_an_environment_for_each_extra() -> None:
    named = {one.name for one in environments.newest(["3.13"], [])}
    assert {f"extra-{extra}" for extra in environments.EXTRAS} < named
    assert "python-3.13" in named
