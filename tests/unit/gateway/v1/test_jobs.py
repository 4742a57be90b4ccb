"""Jobs over HTTP, and keys under which nothing is scored twice."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from scoreline_client import AsyncClient, ClientSettings, UnknownModel
from scoreline_client.fleet import ServedModel
from scoreline_client.protocol.keys import Keys
from scoreline_client.testing import FakeScoreline
from scoreline_gateway import GatewaySettings, build_app
from scoreline_gateway.app import Gateway
from scoreline_gateway.fleet import Fleet
from scoreline_gateway.v1 import jobs
from tests.support.asgi import Reply, call, gateway
from tests.support.http_models import PIMA_ROW, report_as_worker

JSON = {"Content-Type": "application/json"}
WAIT = {"Prefer": "wait=20"}


async def submit(app: Gateway, body: Any = PIMA_ROW, path: str = "/jobs", **headers: str) -> Reply:
    named = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    return await call(app, "POST", f"/v1/models/pima{path}", body, headers=named)


def scored(scoreline: FakeScoreline) -> int:
    """How many results the server has."""
    return len(scoreline._redis.keys(Keys("default").result("*")))


async def test_a_job_is_accepted_followed_and_fetched(app: Gateway) -> None:
    reply = await submit(app, [PIMA_ROW, {}])
    assert (reply.status, reply.headers["retry-after"]) == (202, "1")
    where = reply.headers["location"]
    assert where == f"/v1/jobs/{reply.json['id']}"
    done = await call(app, "GET", where, headers=WAIT)
    assert (done.status, done.json["status"], done.json["model"]) == (200, "done", "pima")
    assert done.headers["preference-applied"] == "wait=20"
    result = await call(app, "GET", done.json["links"]["result"])
    good, bad = result.json["predictions"]
    assert (good["value"], bad["error"]["code"]) == (1, "E_MISSING_COLUMN")


async def test_the_result_of_one_record_is_that_of_a_prediction(app: Gateway) -> None:
    where = (await submit(app)).headers["location"]
    assert (await call(app, "GET", f"{where}/result", headers=WAIT)).json["value"] == 1
    where = (await submit(app, {})).headers["location"]
    refused = await call(app, "GET", f"{where}/result", headers=WAIT)
    assert (refused.status, refused.json["code"]) == (422, "E_MISSING_COLUMN")


async def test_a_prediction_may_be_asked_as_a_job(app: Gateway) -> None:
    reply = await submit(app, path=":predict", Prefer="respond-async")
    assert (reply.status, reply.headers["preference-applied"]) == (202, "respond-async")


async def test_a_job_that_failed_says_why(app: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody_to_ask(*_: object) -> None:
        pass

    monkeypatch.setattr(Fleet, "check_known", nobody_to_ask)
    reply = await call(app, "POST", "/v1/models/pima@9/jobs", PIMA_ROW, headers=JSON)
    where = reply.headers["location"]
    failed = await call(app, "GET", where, headers=WAIT)
    assert (failed.json["status"], failed.json["error"]["code"]) == ("failed", "E_UNKNOWN_MODEL")
    result = await call(app, "GET", f"{where}/result")
    assert (result.status, result.json["code"]) == (404, "E_UNKNOWN_MODEL")


@pytest.fixture
def _reports(scoreline: FakeScoreline) -> Iterator[None]:
    """A process that reports the models that it serves, in a store of its own."""
    served = ServedModel(serving=3, wanted=3, resident=[3])
    report_as_worker(scoreline, {"pima@production": served, "visits@production": served})
    yield
    report_as_worker(scoreline, {})


@pytest.mark.usefixtures("_reports")
@pytest.mark.parametrize("model", ["pina", "pima@9", "pima@candidate"])
@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("POST", "/jobs", {}),
        ("POST", "/jobs", {"Idempotency-Key": '"unknown"'}),
        ("POST", ":predict", {"Prefer": "respond-async"}),
        ("PUT", "/score", {"Prefer": "respond-async", "Content-Type": "text/csv"}),
    ],
)
async def test_a_job_for_a_model_that_nobody_serves_is_refused_at_once(
    app: Gateway, model: str, method: str, path: str, more: dict[str, str]
) -> None:
    target = f"/v1/models/{model}{path}"
    reply = await call(app, method, target, PIMA_ROW, headers=JSON | more)
    assert (reply.status, reply.json["code"]) == (404, "E_UNKNOWN_MODEL")


async def test_a_key_is_answered_as_before_when_its_model_is_gone(
    app: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_gone(*_: object) -> None:
        raise UnknownModel("E_UNKNOWN_MODEL", "there is no model 'pima'")

    first = await submit(app, Idempotency_Key='"before"')
    monkeypatch.setattr(Fleet, "check_known", is_gone)
    again = await submit(app, Idempotency_Key='"before"')
    assert (again.status, again.json["id"]) == (202, first.json["id"])
    assert (await submit(app, Idempotency_Key='"after"')).status == 404


@pytest.mark.usefixtures("_reports")
async def test_who_asks_for_a_model_that_nobody_serves_is_told_of_those_that_a_token_may_ask(
    scoreline: FakeScoreline, app: Gateway, tokens: Path
) -> None:
    for path in ("/v1/models/pina:predict", "/v1/models/pina/jobs"):
        reply = await call(app, "POST", path, PIMA_ROW, headers=JSON)
        told = "no worker serves 'pina'; did you mean 'pima'? Served: pima, visits"
        assert reply.json["detail"] == told
    shop = JSON | {"Authorization": "Bearer shop"}
    async with gateway(scoreline, gateway_tokens=str(tokens)) as with_tokens:
        path = "/v1/models/pima@candidate:predict"
        reply = await call(with_tokens, "POST", path, PIMA_ROW, headers=shop)
        told = "model 'pima' has no alias 'candidate'. Its aliases: production"
        assert (reply.status, reply.json["detail"]) == (404, told)


@pytest.mark.parametrize("job", ["0" * 32, "nothing", "%2e%2e"])
@pytest.mark.parametrize("path", ["", "/result", "/events", "/errors"])
async def test_a_job_that_is_not_there_is_not_found(app: Gateway, job: str, path: str) -> None:
    reply = await call(app, "GET", f"/v1/jobs/{job}{path}")
    assert (reply.status, reply.json["code"]) == (404, "E_JOB_LOST")


async def test_a_key_is_answered_once_and_again(scoreline: FakeScoreline, app: Gateway) -> None:
    before = scored(scoreline)
    first, again = [await submit(app, path=":predict", Idempotency_Key='"one"') for _ in range(2)]
    assert (first.status, first.json) == (200, again.json)
    as_job = await submit(app, Idempotency_Key="one")
    assert as_job.status == 202
    assert scored(scoreline) == before + 1


async def test_callers_at_the_same_time_share_what_a_key_stands_for(
    scoreline: FakeScoreline, app: Gateway
) -> None:
    before = scored(scoreline)
    asked = [submit(app, path=":predict", Idempotency_Key='"at once"') for _ in range(20)]
    replies = await asyncio.gather(*asked)
    assert {each.status for each in replies} == {200}
    assert scored(scoreline) == before + 1


@pytest.mark.parametrize("other", [{"body": {}}, {"path": ":predict", "body": [PIMA_ROW]}])
async def test_a_key_does_not_stand_for_another_request(
    app: Gateway, other: dict[str, Any]
) -> None:
    await submit(app, Idempotency_Key='"taken"')
    reply = await submit(app, **other, Idempotency_Key='"taken"')
    assert (reply.status, reply.json["code"]) == (422, "E_KEY_REUSED")


async def test_a_key_whose_job_never_reached_the_queue_is_queued_when_it_is_asked_again(
    scoreline: FakeScoreline, app: Gateway
) -> None:
    """A gateway that is killed between the two leaves the note, and no job."""
    reply = await submit(app, Idempotency_Key='"half"')
    await call(app, "GET", reply.headers["location"], headers=WAIT)
    keys, job = Keys("default"), reply.json["id"]
    scoreline._redis.delete(keys.job(job), keys.result(job))
    again = await submit(app, Idempotency_Key='"half"')
    assert (again.status, again.json["id"]) == (202, job)
    done = await call(app, "GET", again.headers["location"], headers=WAIT)
    assert done.json["status"] == "done"


@pytest.mark.parametrize("key", ["", '""', '"open', "a b", '"ä"', f'"{"x" * 256}"'])
async def test_a_key_that_is_none_is_refused(app: Gateway, key: str) -> None:
    reply = await submit(app, Idempotency_Key=key)
    assert (reply.status, reply.json["code"]) == (400, "E_BAD_REQUEST")


async def test_events_end_with_the_job(app: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "HEARTBEAT_S", 0.0)
    where = (await submit(app)).headers["location"]
    reply = await call(app, "GET", f"{where}/events")
    assert reply.headers["content-type"].startswith("text/event-stream")
    last = reply.body.decode().strip().rpartition("\n\n")[2].splitlines()
    assert last[:2] == ["event: end", "id: end"]
    assert orjson.loads(last[2].removeprefix("data: "))["status"] == "done"
    seen = await call(app, "GET", f"{where}/events", headers={"Last-Event-ID": "end"})
    assert seen.status == 204


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A file of tokens: shop and bank for jobs, desk for predictions alone, each token its owner's name."""
    lines = [
        f"{hashlib.sha256(name.encode()).hexdigest()} {name} pima {rights}"
        for name, rights in (("shop", "score,jobs"), ("bank", "score,jobs"), ("desk", "score"))
    ]
    (tmp_path / "tokens").write_text("\n".join(lines))
    return tmp_path / "tokens"


async def test_a_job_is_its_owners_alone(scoreline: FakeScoreline, tokens: Path) -> None:
    shop, bank = {"Authorization": "Bearer shop"}, {"Authorization": "Bearer bank"}
    async with gateway(scoreline, gateway_tokens=str(tokens)) as app:
        reply = await submit(app, Idempotency_Key='"order 1"', **shop)
        where = reply.headers["location"]
        for method, path in (("GET", where), ("GET", f"{where}/result"), ("DELETE", where)):
            assert (await call(app, method, path, headers=bank)).status == 404
        assert (await call(app, "GET", where, headers=shop)).status == 200
        other = await submit(app, {}, Idempotency_Key='"order 1"', **bank)
        assert other.status == 202
        assert other.json["id"] != reply.json["id"]


async def test_a_job_needs_the_right_to_jobs(scoreline: FakeScoreline, tokens: Path) -> None:
    desk = {"Authorization": "Bearer desk"}
    async with gateway(scoreline, gateway_tokens=str(tokens)) as app:
        assert (await submit(app, path=":predict", **desk)).status == 200
        for path, more in ((":predict", {"Prefer": "respond-async"}), ("/jobs", {})):
            assert (await submit(app, path=path, **desk, **more)).status == 403


async def test_a_wrong_method_is_answered_with_all_that_are_known(app: Gateway) -> None:
    reply = await call(app, "PATCH", f"/v1/jobs/{'0' * 32}")
    assert (reply.status, set(reply.headers["allow"].split(", "))) == (
        405,
        {"GET", "HEAD", "DELETE"},
    )


async def test_a_job_that_was_answered_cannot_be_cancelled(app: Gateway) -> None:
    where = (await submit(app)).headers["location"]
    await call(app, "GET", where, headers=WAIT)
    reply = await call(app, "DELETE", where)
    assert (reply.status, reply.json["code"]) == (409, "E_CONFLICT")


async def test_a_job_that_waits_has_no_result_and_can_be_cancelled(
    scoreline: FakeScoreline,
) -> None:
    """With a queue of its own, nobody serves it."""

    def connect(_: GatewaySettings) -> AsyncClient:
        connection = scoreline._server.async_client
        return AsyncClient(settings=ClientSettings(queue="idle"), connection=connection)

    app = build_app(GatewaySettings(), connect=connect)
    async with app.running():
        where = (await submit(app)).headers["location"]
        waits = await call(app, "GET", where)
        assert (waits.json["status"], waits.headers["retry-after"]) == ("queued", "1")
        early = await call(app, "GET", f"{where}/result")
        assert (early.status, early.headers["retry-after"]) == (409, "1")
        assert (await call(app, "DELETE", where)).json["status"] == "cancelled"
        gone = await call(app, "GET", f"{where}/result")
        assert (gone.status, gone.json["code"]) == (409, "E_CANCELLED")
