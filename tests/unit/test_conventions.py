"""The habits of the house that a machine can check."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "scoreline_client": ROOT / "client" / "scoreline_client",
    "scoreline_artifacts": ROOT / "artifacts" / "scoreline_artifacts",
    "scoreline_tasks": ROOT / "tasks" / "scoreline_tasks",
    "scoreline_training": ROOT / "training" / "scoreline_training",
}
SOURCES = sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))
TEXTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "Makefile", "Procfile", "constraints.txt", "*.toml")
    for path in ROOT.glob(pattern)
)
READS_ENVIRONMENT = {
    "scoreline_client/settings.py": "reads every setting",
    "scoreline_artifacts/packaging/clean_room.py": "hands the environment to the room, with one thread for BLAS",
    "scoreline_artifacts/store/store.py": "reads where the store is: it may not import the client",
    "scoreline_artifacts/store/signing.py": "reads where the keys are, for the same reason",
    "scoreline_artifacts/store/cache.py": "reads where the cache is, for the same reason",
    "scoreline_tasks/worker/process.py": "sets one thread for BLAS before numpy is first imported",
    "scoreline_tasks/dev/processes.py": "hands the whole environment to child processes",
}


def _name(path: Path) -> str:
    return str(path.relative_to(path.parents[len(path.parts) - 1 - _depth(path)]))


def _depth(path: Path) -> int:
    return next(index for index, part in enumerate(path.parts) if part in PACKAGES)


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_no_key_is_spelled_out_outside_keys(path: Path) -> None:
    assert path.name == "keys.py" or "scoreline:{" not in path.read_text()


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
    assert reading <= set(READS_ENVIRONMENT)


def test_importing_the_client_takes_no_setting() -> None:
    code = "import scoreline_client.cli.main"
    environment = {"SCORELINE_RESULT_TTL_S": "not a number", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == 0


def test_the_readme_fits_on_150_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("path", SOURCES + TEXTS, ids=lambda path: path.name)
def test_nothing_is_left_to_do_in_a_comment(path: Path) -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text())


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_file_names_a_place_on_one_machine(path: Path) -> None:
    assert not re.search(r"/work/|/root/|find-links|index-url", path.read_text())


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    assert not text or ast.get_docstring(ast.parse(text))
