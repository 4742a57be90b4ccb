"""The files with hashes name what constraints.txt pins, and all that is needed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILD = [*PROJECT["build-system"]["requires"], "editables"]
LOCKS = {
    "requirements.lock": [*BUILD, "scoreline[worker,gateway,frames,files,s3]"],
    "requirements-dev.lock": [*BUILD, "scoreline[all]", *PROJECT["dependency-groups"]["dev"]],
}
ADVICE = "run `make lock`"


@cache
def _pins(name: str) -> dict[str, Requirement]:
    """The requirements of a file by their names, without hashes."""
    lines = (ROOT / name).read_text().replace("\\\n", " ").splitlines()
    pins = [Requirement(line.partition("--hash")[0]) for line in lines if line and line[0] != "#"]
    return {canonicalize_name(pin.name): pin for pin in pins}


def _needed(wanted: list[str]) -> set[str]:
    """The distributions that requirements bring here, by what is installed."""
    own = {"scoreline": PROJECT["project"]}
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()

    def requirements(name: str, extra: str) -> Iterator[str]:
        if name in own:
            yield from own[name]["dependencies"]
            yield from own[name]["optional-dependencies"].get(extra, [])
        elif name not in ("hatchling", "editables"):  # which are not installed here
            yield from metadata.requires(name) or []

    def follow(text: str, extra: str) -> None:
        one = Requirement(text)
        if one.marker is not None and not one.marker.evaluate({"extra": extra}):
            return
        name = canonicalize_name(one.name)
        found.add(name)
        for wanted_extra in one.extras | {""}:
            if (name, wanted_extra) not in seen:
                seen.add((name, wanted_extra))
                for other in requirements(name, wanted_extra):
                    follow(other, wanted_extra)

    for text in wanted:
        follow(text, "")
    return found - {"scoreline"}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_what_the_constraints_pin(name: str) -> None:
    pinned = _pins("constraints.txt")
    for package, pin in _pins(name).items():
        if package in pinned:
            assert pin.specifier == pinned[package].specifier, f"{package}: {ADVICE}"
        else:  # other systems or Pythons than the one that made constraints.txt need it
            assert pin.marker is not None, f"{package} is not in constraints.txt"
            assert not pin.marker.evaluate(), f"{package} is not in constraints.txt"


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_all_that_is_needed_here(name: str) -> None:
    assert _needed(LOCKS[name]) - set(_pins(name)) == set(), ADVICE


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_hashes_and_names_no_place(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "//" not in text
    listed = "".join(line for line in text.splitlines(keepends=True) if line[0] != "#")
    for one in re.split(r"\n(?=\S)", listed.strip()):
        assert re.fullmatch(r"\S+==\S+( ; .+?)?( \\\n    --hash=sha256:[0-9a-f]{64})+", one), one
