"""Reasons in tables: short in a row, in full once below."""

from __future__ import annotations

from scoreline_client.cli.reasons import Reasons

KEY = "71e96f27" + "0" * 24


def _untrusted(place: str, key: str = KEY) -> str:
    return f"UntrustedArtifact: {place}: the key that signed it is not trusted here (key {key}). Trust it."


def test_rows_that_differ_in_their_place_have_one_reason() -> None:
    reasons = Reasons()
    rows = [reasons.short(_untrusted(f"/srv/store/m/{number}")) for number in (1, 2)]
    assert rows == ["not trusted (key 71e96f27)"] * 2
    (line,) = reasons.lines()
    assert line.startswith("not trusted (key 71e96f27): /srv/store/m/1: the key that signed it")


def test_a_reason_that_fits_stands_in_its_row_alone() -> None:
    reasons = Reasons()
    assert [reasons.short(text) for text in ("", "no file")] == ["", "no file"]
    assert list(reasons.lines()) == []


def test_other_reasons_have_other_labels() -> None:
    reasons = Reasons()
    golden = "GoldenMismatch: m@3 fails its golden rows: row 3 gave {!r} here and 4 in training."
    rows = {reasons.short(golden.format(value)) for value in (1, 2)}
    assert len(rows) == 2
    assert all(row.startswith("m@3 fails its golden rows") for row in rows)
    assert len(list(reasons.lines())) == 2
