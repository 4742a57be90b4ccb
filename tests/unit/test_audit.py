"""What `make audit` makes of advisories by version, of pages of projects, and of neither."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ABSENT = {"skip_reason": "Dependency not found on PyPI and could not be audited"}


def audited(
    tmp_path: Path, told: list[dict[str, Any]], pages: dict[str, Any]
) -> tuple[int, list[str]]:
    """The exit code and the last two lines, for packages that are all installed as 1.0."""
    packages = tmp_path / "site-packages"
    for each in told:
        folder = packages / f"{each['name'].replace('-', '_')}-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Name: {each['name'].replace('-', '.')}\nVersion: 1.0\n")
    for name, page in pages.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "json").write_text(json.dumps(page))
    command = tmp_path / "pip-audit"
    command.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps({'dependencies': told})}\nEND\n")
    command.chmod(0o700)
    done = subprocess.run(
        [sys.executable, "-m", "tests.audit", command, packages, "--pages", f"file://{tmp_path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def page(version: str, *advisories: str) -> dict[str, Any]:
    return {"info": {"version": version}, "vulnerabilities": [{"id": each} for each in advisories]}


def test_what_is_known_of_neither_way_is_named(tmp_path: Path) -> None:
    told = [{"name": "known", "vulns": []}, *({"name": name} | ABSENT for name in ("a-b", "c"))]
    code, lines = audited(tmp_path, told, {"a-b": page("1.0"), "c": page("1.1")})
    assert code == 1
    assert lines[0].startswith("1 packages audited by their versions, 1 as the newest")
    assert lines[1] == "0 vulnerable; nothing is known of c 1.0"


def test_advisories_of_both_ways_are_shown(tmp_path: Path) -> None:
    told = [{"name": "old", "vulns": [{"id": "PYSEC-1"}]}, {"name": "new"} | ABSENT]
    code, lines = audited(tmp_path, told, {"new": page("1.0", "GHSA-2")})
    assert code == 1
    assert lines[:2] == ["new 1.0: GHSA-2", "old 1.0: PYSEC-1"]


def test_nothing_known_of_all_is_a_good_end(tmp_path: Path) -> None:
    told = [{"name": "known", "vulns": []}, {"name": "new"} | ABSENT]
    assert audited(tmp_path, told, {"new": page("1.0")})[0] == 0
