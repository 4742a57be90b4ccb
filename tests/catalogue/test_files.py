"""What arrives as a file, and what it comes to: exit code, output, error report.

Each case is named by its number in the catalogue of bad input that the project keeps; those about
the values of a row are in the tests of the worker's side.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from scoreline_client.errors import FileRefused, ScorelineError
from scoreline_client.files.reader import FileSizes
from tests.support.bulk import names_in, run

HEADER = "id,a"
ADDED = "prediction,probability_no,probability_yes,error"
YES, NO = "yes,0.25,0.75,", "no,0.25,0.75,"
REPORT = "row,line,column,value,code,message"
BIG = 1 << 20


@dataclass(frozen=True)
class Case:
    """A file, and what becomes of it."""

    number: str
    data: bytes
    code: int
    output: list[str] | None = None
    """Lines of the output, or their beginnings where they end in `…`; None: there is none."""
    report: list[str] = field(default_factory=list)
    """Lines of the error report without its header, in the same way."""
    says: str = ""
    """What the message of a refused file has in it."""
    options: dict[str, Any] = field(default_factory=dict)
    name: str = "in.csv"


def _good(header: str, *lines: str) -> list[str]:
    return [f"{header},{ADDED}", *lines]


CASES = [
    Case("1", b"id,b\n1,2\n", 2, says="E_MISSING_COLUMN column missing: 'a'"),
    Case("1 nearest", b"id,A\n1,2\n", 2, says="did you mean 'A'?"),
    Case("2", b"id,a,b\n1,9,x\n", 0, _good("id,a,b", f"1,9,x,{YES}")),
    Case(
        "2 strict", b"id,a,b\n1,9,x\n", 2,
        says="E_EXTRA_COLUMN columns that threshold@4 does not know (strict): 'id', 'b'",
        options={"strict": True},
    ),
    Case("3", b"a,id,a\n1,2,3\n", 2, says="E_DUPLICATE_COLUMN duplicate column 'a' (columns 1 and 3)"),
    Case("4", b"a,id\n9,1\n", 0, _good("a,id", f"9,1,{YES}")),
    Case("5", b"id, A \n1,2\n", 2, says="did you mean ' A '?"),
    Case("6", b"1,9\n2,1\n", 2, says="E_HEADER a header was expected on the first line, got numbers"),
    Case("9", b"id,a,\n1,9,\n2,1,\n", 0, _good("id,a,", f"1,9,,{YES}", f"2,1,,{NO}")),
    Case("12", b"", 2, says="E_EMPTY the file is empty"),
    Case("13", b"\n\r\n\n", 2, says="E_EMPTY the file is empty"),
    Case("14", b"id,a\n", 0, _good(HEADER)),
    Case("14 no line end", b"id,a", 0, _good(HEADER)),
    Case(
        "15", b"id,a\n\n1,9\n\n\n2,x\n", 1,
        _good(HEADER, f"1,9,{YES}", "2,x,,,,E_TYPE: …"),
        ["2,6,a,'x',E_TYPE,…"],
    ),
    Case("16", b"id;a\n1;9\n", 0, [f"id;a;{ADDED.replace(',', ';')}", "1;9;yes;0.25;0.75;"]),
    Case("16 tab", b"id\ta\n1\t9\n", 0, [f"id\ta\t{ADDED.replace(',', chr(9))}", "1\t9\tyes\t0.25\t0.75\t"]),
    Case(
        "16 told otherwise", b"id;a\n1;9\n", 2, options={"delimiter": ","},
        says="separated by a semicolon, it seems, and not by a comma: give --delimiter ';'",
    ),
    Case("17", b"id,a\n1,\"2,5\"\n", 1, _good(HEADER, '1,"2,5",,,,"E_TYPE: …'), ["1,2,a,\"'2,5'\",E_TYPE,…"]),
    Case(
        "17 told", b"id;a\n1;9,5\n", 0, [f"id;a;{ADDED.replace(',', ';')}", "1;9,5;yes;0,25;0,75;"],
        options={"decimal": ","},
    ),
    Case("19", b"# by hand\nid,a\n1,9\n", 2, says="E_HEADER the first line looks like a comment"),
    Case(
        "19 told", b"# \"by hand\nid,a\n1,9\n# it's \"odd\n2,1\n", 0,
        _good(HEADER, f"1,9,{YES}", f"2,1,{NO}"), options={"comment": "#"},
    ),
    Case("20", b"\xef\xbb\xbfid,a\n1,9\n", 0, _good("\ufeffid,a", f"1,9,{YES}")),
    Case(
        "21", "id,a\n1,9\n".encode("utf-16"), 2,
        says="E_ENCODING the file is UTF-16 (little-endian), not UTF-8: give --encoding utf-16",
    ),
    Case(
        "21 told", "id,a\n1,9\n".encode("utf-16"), 0, _good(HEADER, f"1,9,{YES}"),
        options={"encoding": "utf-16"},
    ),
    Case(
        "22", b"id,a\n\xe4,9\nb,9\n", 1,
        _good(HEADER, "\udce4,9,,,,\"E_ENCODING: …", f"b,9,{YES}"), ["1,2,…"],
    ),
    Case("22 told", b"id,a\n\xe4,9\n", 0, _good(HEADER, f"\udce4,9,{YES}"), options={"encoding": "latin-1"}),
    Case("23", b"id,a\r\n1,9\n2,1\r\n", 0, _good(HEADER, f"1,9,{YES}", f"2,1,{NO}")),
    Case("24", b"id,a\r1,9\r2,1\r", 0, _good(HEADER, f"1,9,{YES}", f"2,1,{NO}")),
    Case(
        "25", b'id,a\n"1\n1",9\n2,x\n', 1,
        _good(HEADER, '"1', f'1",9,{YES}', "2,x,,,,E_TYPE: …"), ["2,4,a,'x',E_TYPE,…"],
    ),
    Case("26", b'id,a\n1,9\n2,"9\n3,9\n', 2, says='E_QUOTE the quote (") that opens a field on line 3'),
    Case(
        "26 long", b'id,a\n1,"9' + b"\n2,9" * (BIG // 2) + b"\n", 2,
        says="that opens a field on line 2 is not closed before 1,048,576 bytes",
    ),
    Case("29", gzip.compress(b"id,a\n" + b"1,9\n" * 99)[:-9], 2, says="the gzip data ends in the middle"),
    Case("29 zstd", zstd.compress(b"id,a\n" + b"1,9\n" * 99)[:-5], 2, says="the zstd data ends in the"),
    Case("29 damaged", gzip.compress(b"id,a\n1,9\n")[:-8] + b"x" * 8, 2, says="the gzip data is damaged"),
    Case("30", gzip.compress(b"id,a\n1,9\n"), 0, _good(HEADER, f"1,9,{YES}")),
    Case("30 zstd", zstd.compress(b"id,a\n1,9\n"), 0, _good(HEADER, f"1,9,{YES}")),
    Case("30 zip", b"PK\x03\x04" + b"x" * 50, 2, says="the file is a zip archive"),
    Case("33 columns", b"a," + b",".join(b"c%d" % n for n in range(100_000)) + b"\n", 2, says="columns; 20,000 are the most"),
    Case("33 header", b"x" * (2 * BIG), 2, says="the header is longer than 1,048,576 bytes"),
    Case("33 line", b"id,a\n1,9\n" + b"x" * (2 * BIG), 2, says="row 2 (line 3) is longer than 1,048,576 bytes"),
]  # fmt: skip


def _matches(lines: list[str], expected: list[str]) -> bool:
    return len(lines) == len(expected) and all(
        line.startswith(text[:-1]) if text.endswith("…") else line == text
        for line, text in zip(lines, expected, strict=True)
    )


def _lines(path: Path) -> list[str]:
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.number)
def test_a_file_comes_to_what_the_catalogue_says(case: Case, tmp_path: Path) -> None:
    source, target = tmp_path / case.name, tmp_path / "out.csv"
    source.write_bytes(case.data)
    try:
        summary = run(source, target, **case.options)
    except ScorelineError as error:
        code = error.exit_status
        assert case.says in f"{getattr(error, 'code', '')} {getattr(error, 'message', '')}"  # noqa: PT017 - some cases raise and others do not
        assert names_in(tmp_path) == ["in.csv"]
    else:
        code = 1 if summary.rejected else 0
        assert case.output is not None
        assert _matches(_lines(target), case.output), _lines(target)
        report = tmp_path / "out.csv.errors.csv"
        assert report.exists() == bool(case.report)
        found = _lines(report) if case.report else []
        assert _matches(found, [REPORT, *case.report] if case.report else []), found
    assert code == case.code
    assert source.read_bytes() == case.data


def test_31_a_bomb_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.csv.gz"
    source.write_bytes(gzip.compress(b"id,a\n" + b"1,9\n" * (4 << 20)))
    with pytest.raises(FileRefused, match="more than 200 times as many") as found:
        run(source, tmp_path / "out.csv", sizes=FileSizes(unwatched_bytes=1 << 20))
    assert found.value.code == "E_TOO_LARGE"


def test_59_formulas_stay_what_they_are_unless_a_spreadsheet_is_to_open_them(
    tmp_path: Path,
) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,a\n=cmd(),9\n-3,1\n@x,9\n")
    run(source, tmp_path / "out.csv")
    run(source, tmp_path / "safe.csv", excel_safe=True)
    assert [line.split(",")[0] for line in _lines(tmp_path / "out.csv")[1:]] == [
        "=cmd()",
        "-3",
        "@x",
    ]
    assert [line.split(",")[0] for line in _lines(tmp_path / "safe.csv")[1:]] == [
        "'=cmd()",
        "-3",
        "'@x",
    ]


def _link(source: Path, target: Path) -> Path:
    target.symlink_to(source)
    return target


def _hard_link(source: Path, target: Path) -> Path:
    target.hardlink_to(source)
    return target


@pytest.mark.parametrize("place", [lambda source, _: source, _link, _hard_link])
def test_60_an_output_that_is_the_input_is_refused(
    tmp_path: Path, place: Callable[[Path, Path], Path]
) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,a\n1,9\n")
    with pytest.raises(FileRefused, match="input and output are the same file"):
        run(source, place(source, tmp_path / "out.csv"))
    assert source.read_text() == "id,a\n1,9\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_60_a_directory_without_permission_is_refused(tmp_path: Path) -> None:
    source, folder = tmp_path / "in.csv", tmp_path / "closed"
    source.write_text("id,a\n1,9\n")
    folder.mkdir(mode=0o500)
    with pytest.raises(FileRefused, match="no permission to write"):
        run(source, folder / "out.csv")


def test_60_an_output_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,a\n1,9\n")
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(FileRefused, match="it is a directory"):
        run(source, tmp_path / "out.csv")


def _grow(source: Path) -> None:
    with source.open("a") as file:
        file.write("3,1\n")


def _replace(source: Path) -> None:
    other = source.with_name("other.csv")
    other.write_bytes(source.read_bytes())
    other.replace(source)


@pytest.mark.parametrize("change", [_grow, _replace])
def test_61_an_input_that_changes_while_it_is_read_is_noticed(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("id,a\n1,9\n2,1\n")
    with pytest.raises(FileRefused, match="changed or replaced while it was read") as found:
        run(source, target, progress=lambda _: change(source))
    assert found.value.code == "E_INPUT_CHANGED"
    assert not target.exists()
