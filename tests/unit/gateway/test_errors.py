"""Errors as HTTP tells them: each code stands on the page, with the status that it has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import scoreline_gateway
from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused, RecordRejected, refusal
from scoreline_gateway.errors import HttpCode, problem_of

ROOT = Path(__file__).resolve().parents[3]


def statuses() -> dict[str, set[int]]:
    """By code, the statuses that docs/http.md lists."""
    page = (ROOT / "docs/http.md").read_text().partition("\n### Errors\n")[2].partition("\n## ")[0]
    found: dict[str, set[int]] = {}
    for codes, numbers in re.findall(r"^\| (`E_.*?`) \| ([0-9, ]+) \|", page, re.MULTILINE):
        for code in re.findall(r"E_[A-Z_]+", codes):
            found[code] = set(map(int, numbers.split(", ")))
    return found


def test_the_page_has_every_code_and_no_other() -> None:
    assert statuses().keys() == {*map(str, Code), *map(str, HttpCode)}


def test_what_the_gateway_refuses_has_the_status_of_the_page() -> None:
    refused = re.compile(
        r"(?:HttpRefused\(|HttpProblem\(\s*status=)(\d+), (?:code=)?HttpCode\.(\w+)"
    )
    folder, found = Path(scoreline_gateway.__file__).parent, set()
    for path in folder.rglob("*.py"):
        found |= {(int(number), name) for number, name in refused.findall(path.read_text())}
    assert {name for _, name in found} == set(HttpCode.__members__)
    listed = statuses()
    assert all(number in listed[HttpCode[name]] for number, name in found)


@pytest.mark.parametrize("code", sorted(set(Code) - {Code.UNKNOWN_MODEL}))
def test_what_a_worker_or_a_file_refuses_has_a_status_of_the_page(code: Code) -> None:
    errors = (RecordRejected(code, ""), refusal(code, ""), FileRefused(code, "in.csv", ""))
    told = {problem_of(error, rejected_status=422).status for error in errors}
    assert statuses()[code] <= told
