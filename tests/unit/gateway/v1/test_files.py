"""Files up and down, and what is kept of them."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pandas as pd
import pytest

from scoreline_client import JobStatus, NoAnswer
from scoreline_client.testing import FakeScoreline
from scoreline_gateway import body
from scoreline_gateway.app import Gateway
from scoreline_gateway.v1 import files
from scoreline_gateway.v1.asking import in_query
from scoreline_gateway.v1.files import FileRuns
from scoreline_gateway.v1.jobs import JobState
from scoreline_gateway.v1.spool import Spool
from tests.support.asgi import Reply, call, gateway
from tests.support.http_models import PIMA_ROW

HEADER = ",".join(PIMA_ROW)
ROW = ",".join(map(str, PIMA_ROW.values()))
CSV = f"{HEADER}\n{ROW}\n{ROW.replace('148', 'high')}\n".encode()
ASYNC = {"Prefer": "respond-async"}
WAIT = {"Prefer": "wait=20"}


@pytest.fixture
async def app(scoreline: FakeScoreline, tmp_path: Path) -> Any:
    """A gateway with a spool of its own."""
    async with gateway(scoreline, gateway_files=str(tmp_path / "files")) as running:
        yield running


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """The same spool, as another process has it."""
    return Spool(tmp_path / "files", most_bytes=1 << 30, kept_s=3600)


def names_in(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


async def send(app: Gateway, data: Any = CSV, query: str = "", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await call(app, "PUT", "/v1/models/pima/score", data, headers=named, query=query)


async def test_a_file_comes_back_scored(app: Gateway) -> None:
    reply = await send(app)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    header, good, bad = reply.body.decode().splitlines()
    assert header.startswith(f"{HEADER},prediction,")
    assert good.startswith(f"{ROW},1,")
    assert "E_TYPE" in bad
    assert (reply.headers["scoreline-version"], reply.headers["scoreline-rejected"]) == ("3", "1")


def as_parquet() -> bytes:
    data = io.BytesIO()
    pd.DataFrame([PIMA_ROW]).to_parquet(data)
    return data.getvalue()


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("application/x-ndjson", orjson.dumps(PIMA_ROW) + b"\n"),
        ("", orjson.dumps(PIMA_ROW) + b"\n"),
        ("application/vnd.apache.parquet", as_parquet()),
        ("application/octet-stream", as_parquet()),
        ("text/csv", gzip.compress(CSV)),
    ],
    ids=["json lines", "json lines, not named", "parquet", "parquet, not named", "gzip"],
)
async def test_formats_are_named_or_recognised(
    app: Gateway, content_type: str, data: bytes
) -> None:
    reply = await send(app, data, Content_Type=content_type)
    assert reply.status == 200, reply.body
    assert b"prediction" in reply.body


WORDS = {"town": "Zürich", "since": "2019-05-01", "smokes": "true", "weight": "70.5", "visits": "1"}


@pytest.mark.parametrize(
    ("query", "mark", "content_type", "expected"),
    [
        ("encoding=cp1252", ",", "", "text/csv; charset=windows-1252"),
        ("encoding=latin-1", ",", "", "text/csv; charset=iso-8859-1"),
        ("encoding=utf-16", ",", "", "text/csv; charset=utf-8"),
        ("delimiter=%3B", ";", "", "text/csv; charset=utf-8"),
        ("", "\t", "", "text/tab-separated-values; charset=utf-8"),
        ("", ",", "text/tab-separated-values", "text/csv; charset=utf-8"),
        ("output_format=parquet", ",", "", "application/vnd.apache.parquet"),
    ],
)
async def test_a_result_says_what_it_is(
    app: Gateway, query: str, mark: str, content_type: str, expected: str
) -> None:
    """For a file that is waited for, and for a job's result alike."""
    encoding = query.partition("encoding=")[2] or "utf-8"
    rows = map(mark.join, (WORDS, WORDS.values()))
    body = "\n".join([*rows, ""]).encode(encoding)
    path, headers = "/v1/models/visits/score", {"Content-Type": content_type}
    reply = await call(app, "PUT", path, body, headers=headers, query=query)
    assert (reply.status, reply.headers["content-type"]) == (200, expected), reply.body
    again = await call(app, "GET", reply.headers["content-location"])
    assert (again.headers["content-type"], again.body) == (expected, reply.body)
    if "charset" in expected:
        assert "Zürich" in reply.body.decode(expected.partition("charset=")[2])
    else:
        assert reply.body.startswith(b"PAR1")


async def test_a_table_of_another_format_has_the_content_type_of_that(app: Gateway) -> None:
    lines = await send(app, orjson.dumps(PIMA_ROW) + b"\n")
    assert lines.headers["content-type"] == "application/x-ndjson"
    table = await send(app, as_parquet(), "output_format=csv&delimiter=%09")
    assert table.headers["content-type"] == "text/tab-separated-values; charset=utf-8"


async def test_the_query_may_name_the_format_of_the_body(app: Gateway) -> None:
    lines = orjson.dumps(PIMA_ROW) + b"\n"
    reply = await send(app, lines, "input_format=jsonl", Content_Type="text/csv")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/x-ndjson")


async def test_a_packed_body_is_unpacked_and_a_result_packed(app: Gateway) -> None:
    plain = await send(app)
    reply = await send(app, gzip.compress(CSV), "compression=gzip", Content_Encoding="gzip")
    assert reply.headers["content-encoding"] == "gzip"
    assert gzip.decompress(reply.body) == plain.body


async def test_options_stand_in_the_query(app: Gateway) -> None:
    query = "delimiter=%3B&only_predictions=true&outputs=prediction&outputs=error&rename=error=why"
    reply = await send(app, CSV.replace(b",", b";"), query)
    assert reply.body.splitlines()[:2] == [b"prediction;why", b"1;"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("rename=income", "rename in the query is 'income'; expected OLD=NEW"),
        ("rename=age=years&rename==x", "rename in the query is '=x'; expected OLD=NEW"),
        ("rename=age=", "rename in the query is 'age='; expected OLD=NEW"),
        ("id=", "id in the query is ''; expected a column's name"),
        ("date_format=%25q", "date_format in the query is '%q'; expected codes such as"),
        ("max_errors=few", "max_errors in the query is 'few'; expected a number of rows, or a"),
        ("decimal=x", "decimal in the query is 'x'; expected '.' or ','"),
        ("delimiter=ab", "delimiter in the query is 'ab'; expected one ASCII character"),
        ("coerce=perhaps", "coerce in the query is 'perhaps'; expected true or false"),
        ("unseen=reject", "unseen in the query is 'reject'; expected ignore, warn or error"),
        ("input_format=xml", "input_format in the query is 'xml'; expected one of csv, jsonl"),
        ("encoding=morse", "encoding in the query is 'morse'; expected an encoding"),
        ("decimal=,&delimiter=,", "decimal in the query is ','; expected another character"),
        (
            "output_format=parquet&compression=gzip",
            "compression in the query is 'gzip'; expected none",
        ),
        ("keep=a&only_predictions=true", "keep and only_predictions in the query exclude"),
    ],
)
async def test_a_value_that_is_not_permitted_is_told_with_those_that_are(
    app: Gateway, query: str, told: str
) -> None:
    reply = await send(app, CSV, query)
    assert (reply.status, reply.json["code"]) == (400, "E_BAD_REQUEST")
    assert reply.json["detail"].startswith(told)


async def test_options_are_read_as_the_command_line_reads_them(app: Gateway) -> None:
    without = await send(app, CSV, "keep=&outputs=prediction")
    assert without.body.splitlines()[:2] == [b"prediction", b"1"]
    tabs = await send(app, CSV.replace(b",", b"\t"), "delimiter=tab&keep=age")
    assert tabs.body.startswith(b"age\tprediction")
    # Another text for a missing value leaves the empty field one.
    options = files.file_options([("nulls", "NA"), ("nulls", "-")])
    assert options.nulls == ("", "NA", "-")


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("resume=true", {}, 400),
        ("strict=perhaps", {}, 400),
        ("keep=a&drop=b", {}, 400),
        ("compression=bzip2", {}, 400),
        ("", {"Content_Type": "text/html"}, 415),
        ("", {"Content_Encoding": "br"}, 415),
        ("max_errors=0", {}, 422),
        ("encoding=latin-1", {"Content_Type": "application/vnd.apache.parquet"}, 400),
    ],
)
async def test_what_cannot_be_scored_is_refused_and_leaves_no_upload(
    app: Gateway, spool: Spool, query: str, headers: dict[str, str], status: int
) -> None:
    reply = await send(app, CSV, query, **headers)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    assert str(spool.folder) not in reply.body.decode()
    assert not any(name.startswith("arriving") for name in names_in(spool.folder))


async def test_a_file_with_too_many_errors_is_refused_in_the_words_of_its_query(
    app: Gateway,
) -> None:
    reply = await send(app, CSV, "max_errors=0")
    assert reply.json["code"] == "E_TOO_MANY_ERRORS"
    assert "`max_errors` in the query" in reply.json["detail"]
    assert "--resume" not in reply.json["detail"]


async def test_a_file_of_other_columns_is_refused_with_the_column(app: Gateway) -> None:
    reply = await send(app, b"preg,plas\n1,2\n")
    assert (reply.status, reply.json["code"]) == (422, "E_MISSING_COLUMN")
    assert reply.json["column"]


async def test_a_file_may_be_a_job(app: Gateway) -> None:
    reply = await send(app, **ASYNC)
    assert reply.status == 202
    where = reply.headers["location"]
    done = await call(app, "GET", where, headers=WAIT)
    assert (done.json["status"], done.json["rows"], done.json["rejected"]) == ("done", 2, 1)
    events = await call(app, "GET", f"{where}/events")
    assert b"event: end" in events.body
    report = await call(app, "GET", f"{where}/errors")
    assert b"E_TYPE" in report.body
    result = await call(app, "GET", f"{where}/result")
    assert result.headers["etag"] == f'"{reply.json["id"]}"'


async def test_a_job_tells_what_was_doubtful_about_its_file(app: Gateway) -> None:
    row = ";".join(map(str, (PIMA_ROW | {"mass": "1.234", "age": 200}).values()))
    bad = row.replace("148", "high")
    reply = await send(app, f"{HEADER.replace(',', ';')}\n{row}\n{row}\n{bad}\n".encode())
    assert (reply.headers["scoreline-warnings"], reply.headers["scoreline-notes"]) == ("2", "2")
    where = reply.headers["content-location"].removesuffix("/result")
    done = (await call(app, "GET", where)).json
    assert done["rejected_by_code"] == {"E_TYPE": 1}
    assert done["warnings"] == [{"code": "W_OUT_OF_RANGE", "column": "age", "count": 2}]
    assert done["notes"][0] == "columns are separated by a semicolon"
    assert done["notes"][1].startswith("mass: could be 1234 (`?decimal=,&thousands=.`): 1.234")
    assert done["links"]["errors"] == f"{where}/errors"


@pytest.mark.parametrize(
    ("told", "over_http"),
    [
        ("give --delimiter ';'", "give `?delimiter=%3B`"),
        ("give --delimiter '\\t'", "give `?delimiter=tab`"),
        ("name it: --encoding latin-1, for instance", "name it: `?encoding=latin-1`, for instance"),
        ("Read so with --rename 'B M=mass' --rename A=b", "Read so with `?rename=B%20M=mass&rename=A=b`"),
        ("(--rename a=…) or leave it out (--drop a)", "(`?rename=a=…`) or leave it out (`?drop=a`)"),
        ("--null NA if it stands", "`?nulls=NA` if it stands"),
        ("(--decimal , --thousands .): 1.2", "(`?decimal=,&thousands=.`): 1.2"),
        ("or --coerce, or (--date-format)", "or `?coerce=true`, or (`?date_format`)"),
        ("--keeper --resume", "--keeper --resume"),
    ],
)  # fmt: skip
def test_what_the_client_says_of_flags_is_said_of_the_query(told: str, over_http: str) -> None:
    assert in_query(told) == over_http


async def test_a_file_of_another_delimiter_is_refused_with_the_parameter(app: Gateway) -> None:
    reply = await send(app, CSV.replace(b",", b";"), "delimiter=,")
    assert (reply.status, reply.json["code"]) == (422, "E_MISSING_COLUMN")
    assert reply.json["detail"].endswith("give `?delimiter=%3B`")


async def test_a_download_goes_on_where_it_was_interrupted(app: Gateway) -> None:
    where = (await send(app, **ASYNC)).headers["location"]
    whole = await call(app, "GET", f"{where}/result", headers=WAIT)
    again = {"Range": "bytes=10-", "If-Range": whole.headers["etag"]}
    rest = await call(app, "GET", f"{where}/result", headers=again)
    assert (rest.status, rest.body) == (206, whole.body[10:])
    other = await call(app, "GET", f"{where}/result", headers=again | {"If-Range": '"other"'})
    assert (other.status, other.body) == (200, whole.body)
    beyond = await call(app, "GET", f"{where}/result", headers={"Range": "bytes=99999999-"})
    assert (beyond.status, beyond.headers["content-type"]) == (416, "application/problem+json")
    assert beyond.headers["content-range"] == f"bytes */{len(whole.body)}"
    assert beyond.json["code"] == "E_NO_SUCH_PART"
    for wrong in ("lines=1-2", "bytes=5-2", "bytes"):
        refused = await call(app, "GET", f"{where}/result", headers={"Range": wrong})
        assert (refused.status, refused.json["code"]) == (400, "E_BAD_REQUEST")


async def test_a_key_stands_for_one_file(app: Gateway, spool: Spool) -> None:
    first, again = [await send(app, Idempotency_Key='"file"') for _ in range(2)]
    assert (first.status, again.body) == (200, first.body)
    assert len(spool.jobs()) == 1
    other = await send(app, CSV + CSV, Idempotency_Key='"file"')
    assert (other.status, other.json["code"]) == (422, "E_KEY_REUSED")


async def test_two_uploads_under_a_key_at_a_time_are_one_job(app: Gateway, spool: Spool) -> None:
    replies = await asyncio.gather(*(send(app, Idempotency_Key='"both"') for _ in range(5)))
    assert [each.status for each in replies] == [200] * 5
    assert len(spool.jobs()) == 1


async def test_a_job_is_removed_with_its_files(app: Gateway, spool: Spool) -> None:
    where = (await send(app, **ASYNC)).headers["location"]
    await call(app, "GET", where, headers=WAIT)
    assert (await call(app, "DELETE", where)).json["status"] == "done"
    assert (await call(app, "GET", where)).status == 404
    assert names_in(spool.folder) == []


@pytest.mark.parametrize("is_begun", [True, False], ids=["running", "queued"])
async def test_a_file_that_was_cancelled_stays_so(
    app: Gateway, spool: Spool, monkeypatch: pytest.MonkeyPatch, is_begun: bool
) -> None:
    begun = asyncio.Event()

    async def never(*_: object, **__: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(files, "LOOK_S", 0.01)
    monkeypatch.setattr(app.client, "score_file", never)
    if not is_begun:
        monkeypatch.setattr(FileRuns, "begin", lambda *_: begun.set())
    where = (await send(app, Idempotency_Key='"stays"', **ASYNC)).headers["location"]
    await begun.wait()
    ended = await call(app, "DELETE", where)
    assert (ended.status, ended.json["status"]) == (200, "cancelled")
    await asyncio.gather(*app.state["files"]._tasks.values())
    for method in ("GET", "DELETE"):
        again = (await call(app, method, where)).json
        assert (again["status"], again["error"]["code"]) == ("cancelled", "E_CANCELLED")
    result = await call(app, "GET", f"{where}/result")
    assert (result.status, result.json["code"]) == (409, "E_CANCELLED")
    asked_again = await send(app, Idempotency_Key='"stays"')
    assert (asked_again.status, asked_again.json["code"]) == (409, "E_CANCELLED")
    spool.sweep()
    (job,) = spool.jobs()
    kept = {"cancelled", "job.json", "state.json", "lock"}
    assert set(names_in(job.folder)) <= kept


async def test_a_caller_who_leaves_takes_the_file_along_unless_it_has_a_key(
    app: Gateway, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = asyncio.Event()
    monkeypatch.setattr(FileRuns, "begin", lambda *_: accepted.set())
    with_key = {"Idempotency-Key": '"k"'}
    for headers, left in (({}, 0), (with_key, 1)):
        gone = asyncio.Event()
        path = "/v1/models/pima/score"
        asked = asyncio.create_task(call(app, "PUT", path, CSV, headers=headers, gone=gone))
        await accepted.wait()
        accepted.clear()
        gone.set()
        assert (await asked).status == 0
        assert len(spool.jobs()) == left


async def test_an_upload_that_stops_is_refused_and_removed(
    scoreline: FakeScoreline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "DISCARD_S", 0.0)
    folder = tmp_path / "files"
    async with gateway(scoreline, gateway_files=str(folder), gateway_body_s=0.1) as app:
        reply = await call(app, "PUT", "/v1/models/pima/score", CSV, is_stuck=True)
    assert (reply.status, reply.json["code"]) == (408, "E_SLOW_BODY")
    assert names_in(folder) == []


async def test_what_a_killed_gateway_has_left_is_gone_on_with(
    scoreline: FakeScoreline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"gateway_files": str(tmp_path / "files")}
    with monkeypatch.context() as killed:
        killed.setattr(FileRuns, "begin", lambda *_: None)
        async with gateway(scoreline, **settings) as app:
            where = (await send(app, **ASYNC)).headers["location"]
    async with gateway(scoreline, **settings) as app:
        done = await call(app, "GET", where, headers=WAIT)
        assert done.json["status"] == "done"


async def test_the_same_file_is_not_scored_by_two_processes(
    app: Gateway, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: FileRuns = app.state["files"]
    with monkeypatch.context() as nobody:
        nobody.setattr(FileRuns, "begin", lambda *_: None)
        where = (await send(app, **ASYNC)).headers["location"]
    (job,) = spool.jobs()
    with job.held() as is_mine:
        assert is_mine
        runs.begin(job)
        await asyncio.gather(*runs._tasks.values())
        assert (await call(app, "GET", where)).json["status"] == "queued"


async def test_a_file_that_the_disk_has_no_room_for_is_refused(
    app: Gateway, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spool, "has_room", lambda _: False)
    reply = await send(app)
    assert (reply.status, reply.json["code"]) == (507, "E_DISK_FULL")
    assert names_in(spool.folder) == []


async def test_a_result_that_the_disk_has_no_room_for_ends_its_job(
    app: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(files, "LOOK_S", 0.01)
    monkeypatch.setattr(app.client, "score_file", never)
    where = (await send(app, **ASYNC)).headers["location"]
    monkeypatch.setattr(Spool, "has_room", lambda _: False)
    failed = await call(app, "GET", where, headers=WAIT)
    assert (failed.json["status"], failed.json["error"]["code"]) == ("failed", "E_DISK_FULL")
    assert (await call(app, "GET", f"{where}/result")).status == 507


async def test_a_file_waits_for_a_service_that_is_gone(
    app: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_file, tries = app.client.score_file, []

    async def gone_at_first(*arguments: Any, **options: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise NoAnswer("id", 60.0, "no worker serves")
        return await score_file(*arguments, **options)

    monkeypatch.setattr(files, "RETRY_S", 0.0)
    monkeypatch.setattr(app.client, "score_file", gone_at_first)
    assert (await send(app)).status == 200
    assert len(tries) == 2


def job_in(spool: Spool, name: str, size: int, ended_at: float) -> Path:
    """A job that is done, with a result of some bytes."""
    folder = spool.folder / name
    folder.mkdir(parents=True)
    (folder / "job.json").write_bytes(b"{}")
    (folder / "output.csv").write_bytes(b"x" * size)
    state = JobState(id=name, status=JobStatus.DONE, model="pima", created_at="")
    (folder / "state.json").write_bytes(msgspec.json.encode(state))
    os.utime(folder / "state.json", (ended_at, ended_at))
    return folder


def test_the_oldest_results_make_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most_bytes=2500, kept_s=3600)
    folders = [job_in(spool, f"{n:032}", 1000, ended_at=n) for n in (2, 1, 3)]
    assert spool.has_room()
    assert [folder.exists() for folder in folders] == [True, False, True]
    (tmp_path / "arriving-x").mkdir()
    (tmp_path / "arriving-x" / "input").write_bytes(b"x" * 5000)
    assert not spool.has_room()


def test_what_is_old_is_removed_and_what_was_left_half_done(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most_bytes=1 << 30, kept_s=3600)
    now = time.time()
    job_in(spool, "1" * 32, 10, ended_at=now - 3700)
    job_in(spool, "2" * 32, 10, ended_at=now)
    for name, age_s in (("leaving-a", 0), ("arriving-new", 0), ("arriving-old", 90)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
        os.utime(tmp_path / name, (now - age_s, now - age_s))
    held = spool.arriving()
    with held.held():
        os.utime(held.folder, (now - 90, now - 90))
        spool.sweep()
    assert names_in(tmp_path) == sorted(["2" * 32, "arriving-new", held.id])
