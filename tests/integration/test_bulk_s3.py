"""Files in a bucket, in and out."""

from __future__ import annotations

import gzip
from pathlib import Path

import fsspec
import pytest

from scoreline_client.errors import FileRefused
from scoreline_client.files.run import BulkProgress
from scoreline_client.files.sink import outputs_for
from tests.support.bulk import SMALL, run

CSV = b"id,a\n1,9\n2,x\n" + b"3,1\n" * 4000


def _put(url: str, data: bytes) -> None:
    with fsspec.open(url, "wb") as file:
        file.write(data)


def _get(url: str) -> bytes:
    with fsspec.open(url, "rb") as file:
        return bytes(file.read())


class _Killed(Exception):
    """Stands for the end of the process."""


def test_a_file_of_a_bucket_is_scored_into_a_bucket(s3_url: str, tmp_path: Path) -> None:
    source, target = f"{s3_url}/in.csv.gz", f"{s3_url}/out.csv"
    _put(source, gzip.compress(CSV))
    summary = run(source, target, state=tmp_path)
    assert (summary.rows, summary.rejected) == (4002, 1)
    lines = _get(target).decode().splitlines()
    assert (len(lines), lines[1]) == (4003, "1,9,yes,0.25,0.75,")
    assert _get(f"{target}.errors.csv").decode().splitlines()[1].startswith("2,3,a,")


def test_a_run_between_buckets_is_resumed_unless_the_object_changed(
    s3_url: str, tmp_path: Path
) -> None:
    source, target = f"{s3_url}/resumed.csv", f"{s3_url}/resumed-out.csv"
    _put(source, CSV)

    def kill(now: BulkProgress) -> None:
        if now.rows > 1000:
            raise _Killed

    with pytest.raises(_Killed):
        run(source, target, state=tmp_path, progress=kill, sizes=SMALL)
    _put(source, CSV + b"4,1\n")
    with pytest.raises(FileRefused, match="ETag was"):
        run(source, target, state=tmp_path, resume=True)
    run(source, target, state=tmp_path, restart=True)
    assert len(_get(target).splitlines()) == 4004


def test_a_pattern_in_a_bucket_is_expanded(s3_url: str) -> None:
    for name in ("b", "a"):
        _put(f"{s3_url}/many/{name}.csv", CSV)
    pairs = outputs_for([f"{s3_url}/many/*.csv"], f"{s3_url}/scored/")
    assert [target for _, target in pairs] == [f"{s3_url}/scored/{name}.csv" for name in "ab"]


def test_an_object_that_is_not_there_is_refused(s3_url: str, tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="cannot be read"):
        run(f"{s3_url}/none.csv", f"{s3_url}/out.csv", state=tmp_path)
