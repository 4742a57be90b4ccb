"""Inputs and outputs may be anywhere, and compressed."""

from __future__ import annotations

import encodings.aliases
import errno
import gzip
import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.files.run import BulkProgress
from scoreline_client.files.source import Source, facts_of, open_source
from tests.support.bulk import CSV, SMALL, names_in, run

OUT = "id,a,prediction,probability_no,probability_yes,error"


def _lines(data: bytes) -> list[str]:
    return data.decode().splitlines()


def test_a_url_is_read_and_written(memory: Any, tmp_path: Path) -> None:
    memory.pipe_file("/bucket/in.csv", CSV.encode())
    summary = run("memory://bucket/in.csv", "memory://bucket/out.csv", state=tmp_path)
    assert summary.rows == 2
    assert _lines(memory.cat_file("/bucket/out.csv"))[:2] == [OUT, "1,9,yes,0.25,0.75,"]
    assert _lines(memory.cat_file("/bucket/out.csv.errors.csv"))[1].startswith("2,3,a,")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_url_of_parquet_is_read_out_of_order(memory: Any, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with memory.open("/bucket/in.parquet", "wb") as file:
        pq.write_table(pa.table({"a": [9.0, 1.0]}), file)
    run("memory://bucket/in.parquet", "memory://bucket/out.parquet", state=tmp_path)
    with memory.open("/bucket/out.parquet", "rb") as file:
        assert pq.read_table(file).column("prediction").to_pylist() == ["yes", "no"]


def test_a_run_into_a_url_is_resumed(memory: Any, tmp_path: Path) -> None:
    memory.pipe_file("/bucket/in.csv", b"id,a\n" + b"1,9\n" * 5000)

    class _Killed(Exception):
        pass

    def kill(now: Any) -> None:
        if now.rows > 2000:
            raise _Killed

    urls = ("memory://bucket/in.csv", "memory://bucket/out.csv")
    with pytest.raises(_Killed):
        run(*urls, state=tmp_path, progress=kill, sizes=SMALL)
    assert not memory.exists("/bucket/out.csv")
    assert (
        run(*urls, state=tmp_path, sizes=SMALL, resume=True)
        .notes[-1]
        .startswith("resumed behind row 2,")
    )
    assert len(_lines(memory.cat_file("/bucket/out.csv"))) == 5001


def test_a_url_that_changed_since_is_not_resumed(memory: Any, tmp_path: Path) -> None:
    memory.pipe_file("/bucket/in.csv", CSV.encode())
    urls = ("memory://bucket/in.csv", "memory://bucket/out.csv")
    with pytest.raises(FileRefused, match="changed or replaced while"):
        run(
            *urls,
            state=tmp_path,
            progress=lambda _: memory.pipe_file("/bucket/in.csv", b"id,a\n3,1\n"),
        )
    with pytest.raises(FileRefused, match="the input is not the same as then"):
        run(*urls, state=tmp_path, resume=True)


def test_a_kind_of_url_that_nobody_knows_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="klingon"):
        run(source, "klingon://bucket/out.csv", state=tmp_path)


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_an_output_is_compressed_as_its_name_says(source: Path, ending: str) -> None:
    run(source, source.with_name("plain.csv"))
    target = source.with_name("out.csv" + ending)
    run(source, target)
    unpack = gzip.decompress if ending == ".gz" else zstd.decompress
    assert unpack(target.read_bytes()) == source.with_name("plain.csv").read_bytes()


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress])
def test_members_of_a_compressed_input_follow_each_other(tmp_path: Path, compress: Any) -> None:
    source = tmp_path / "in"
    source.write_bytes(compress(b"id,a\n1,9\n2,") + compress(b"1\n"))
    assert run(source, tmp_path / "out.csv").rows == 2


def test_standard_input_and_output_stand_in_a_pipe(
    source: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    class _Input:
        buffer = io.BytesIO(gzip.compress(CSV.encode()))

    monkeypatch.setattr(sys, "stdin", _Input())
    run("-", "-")
    assert _lines(capfdbinary.readouterr().out)[:2] == [OUT, "1,9,yes,0.25,0.75,"]
    assert names_in(source.parent) == ["in.csv"]


def test_standard_input_cannot_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class _Input:
        def __init__(self) -> None:
            self.buffer = io.BytesIO(CSV.encode())

    def stop(now: BulkProgress) -> None:
        if now.rows:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", _Input())
    with pytest.raises(KeyboardInterrupt):
        run("-", tmp_path / "out.csv", progress=stop)
    monkeypatch.setattr(sys, "stdin", _Input())
    with pytest.raises(FileRefused, match="cannot be read twice"):
        run("-", tmp_path / "out.csv", resume=True)
    assert (tmp_path / "out.csv.part").exists()
    # Where nothing is unfinished, --resume begins, whatever the input.
    monkeypatch.setattr(sys, "stdin", _Input())
    assert run("-", tmp_path / "other.csv", resume=True).rows == 2


def test_standard_output_cannot_be_resumed(source: Path) -> None:
    with pytest.raises(FileRefused, match="name an output file"):
        run(source, "-", resume=True)


NO_TEXT = {
    "base64_codec",
    "bz2_codec",
    "hex_codec",
    "mbcs",
    "quopri_codec",
    "rot_13",
    "uu_codec",
    "zlib_codec",
}
ENCODINGS = {*encodings.aliases.aliases.values(), "utf_8_sig", "idna", "punycode"} - NO_TEXT


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_bytes_that_are_not_of_their_encoding_are_refused_in_every_encoding(
    tmp_path: Path, encoding: str
) -> None:
    source = tmp_path / "in.csv"
    for data in (b"a\n1\n", bytes(range(256)), b"\xff\xd8" * 3, b"+2AA-", b"\x00\xd8\x00\x00"):
        source.write_bytes(data)
        with open_source(str(source)).file as file:
            opened = Source(source.name, file)
            opened.decode(encoding)
            try:
                opened.read(1000).decode()
            except FileRefused as error:
                assert error.code == Code.ENCODING  # noqa: PT017 - most are none
                assert encoding in str(error)  # noqa: PT017


def test_text_in_utf_16_becomes_utf_8(tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes("größe,a\n1ß,9\n".encode("utf-16"))
    summary = run(source, target, encoding="utf-16")
    assert target.read_text().splitlines()[1] == "1ß,9,yes,0.25,0.75,"
    assert "the output is UTF-8 (the input is utf-16)" in summary.notes


def test_text_that_is_not_in_the_encoding_that_was_named_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes("id,a\n1,9\n".encode("utf-16-le") + b"x")
    with pytest.raises(FileRefused, match="the text is not utf-16-le: truncated data"):
        run(source, tmp_path / "out.csv", encoding="utf-16-le")


def test_a_report_of_an_earlier_run_does_not_stay(source: Path) -> None:
    target = source.with_name("out.csv")
    run(source, target)
    assert "out.csv.errors.csv" in names_in(source.parent)
    source.write_text("id,a\n1,9\n")
    run(source, target)
    assert names_in(source.parent) == ["in.csv", "out.csv"]


def test_an_input_that_fails_half_way_is_refused() -> None:
    class Failing(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            if self.tell():
                raise OSError(errno.EIO, "Input/output error")
            return super().readinto(buffer)

    file = io.BufferedReader(Failing(b"id,a\n1,9\n2,1\n"))  # type: ignore[arg-type]
    source = Source("in.csv", file, size=15, facts={})
    with pytest.raises(FileRefused, match=r"in\.csv: it cannot be read: Input/output error"):
        source.read(100)


def test_what_cannot_be_read_twice_has_no_facts(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert facts_of(str(tmp_path / "pipe")) is None
    assert facts_of("-") is None
    assert facts_of(str(tmp_path / "none.csv")) is None


def test_blocks_end_at_the_same_places_wherever_reading_begins(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(bytes(range(200)) * 5)

    def ends(begin: int) -> list[int]:
        source = open_source(str(tmp_path / "in.csv"))
        source.go_to(begin, at=0)
        places = [begin]
        for block in source.blocks(begin, lambda: 64, origin=10):
            places.append(places[-1] + len(block))
        source.close()
        return places[1:]

    whole = ends(10)
    assert whole == [*range(74, 1000, 64), 1000]
    # A run that is resumed begins where the rows of a block ended, a little before the block's end.
    assert ends(70) == ends(74) == whole[1:]
    assert ends(202) == whole[3:]


def test_a_directory_is_told_with_what_to_give_instead(tmp_path: Path) -> None:
    (tmp_path / "visits").mkdir()
    with pytest.raises(FileRefused, match="it is a directory; name a file in it"):
        run(f"{tmp_path}/visits/", tmp_path / "out.csv")


@pytest.mark.parametrize(
    "start",
    [
        b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml",
        b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet",
        b"\xd0\xcf\x11\xe0" + bytes(60),
    ],
    ids=["xlsx", "ods", "xls"],
)
def test_a_spreadsheets_own_file_is_refused_with_what_to_do(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "in.csv").write_bytes(start)
    with pytest.raises(FileRefused, match="save the sheet as CSV UTF-8, or read it with pandas"):
        open_source(str(tmp_path / "in.csv"))
