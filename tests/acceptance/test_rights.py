"""Every workflow with the users of `scoreline acl`: the server refuses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from redis import Redis
from sklearn.linear_model import LinearRegression

from scoreline_artifacts import Store, golden
from scoreline_artifacts.manifest import GOLDEN, PIPELINE
from scoreline_artifacts.packaging import pickling
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.store import describe_file
from scoreline_client import (
    BulkOptions,
    Client,
    JobCancelled,
    QueueFull,
    RequestRefused,
    ServerRefused,
)
from scoreline_client.cli.acl import Role
from scoreline_client.fleet import announce_release
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Request, new_id
from tests.acceptance.conftest import MODEL, Fleet, kill_child, publish_shift
from tests.support.worker import entry_fields

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

DEADLY = 1313.0


@pytest.fixture
def fleet(guarded: Callable[[Role], str], tmp_path: Path) -> Iterator[Fleet]:
    """A fleet on that server; its own connection is the administrator's."""
    store = Store(tmp_path / "store")
    publish_shift(store, 1.0)
    _publish_deadly(store)
    releases.promote(store, MODEL, 2)
    url = guarded(Role.WORKER)
    admin = url.replace("scoreline-default-worker", "admin")
    with ExitStack() as stack, Redis.from_url(admin) as redis:
        yield Fleet(url, redis, store, tmp_path / "worker.log", stack)


def _publish_deadly(store: Store) -> None:
    """Publish what kills its process where a record asks for it."""

    class Deadly(LinearRegression):  # type: ignore[misc]
        def predict(self, X: Any) -> Any:
            if (np.asarray(X) == DEADLY).any():
                os.kill(os.getpid(), signal.SIGKILL)
            return super().predict(X)

    frame = pd.DataFrame({"x": [float(number) for number in range(50)]})
    fitted = Deadly().fit(frame, frame["x"] + 2.0)
    like = store.manifest(MODEL, 1)
    records = [row.record for row in golden.decode(store.read(like, GOLDEN))]
    answers = fitted.predict(pd.DataFrame(records))
    files = store.read_all(like) | {
        PIPELINE: pickling.dump(fitted).data,
        GOLDEN: golden.encode(golden.rows_of(records, answers, None)),
    }
    described = {name: describe_file(data) for name, data in files.items()}
    store.publish(replace(like, files=described), files)


def test_every_workflow_runs_with_least_rights(
    fleet: Fleet,
    guarded: Callable[[Role], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Any],
) -> None:
    monkeypatch.setenv("SCORELINE_LEASE_S", "0.5")
    worker = fleet.start_worker(processes=2)
    two = pytest.approx(3.0)
    _check(fleet)

    with Client(guarded(Role.PREDICTOR)) as predictor:
        assert predictor.predict(MODEL, {"x": 1.0}, timeout=30).value == two
        assert len(predictor.predict_many(MODEL, [{"x": 1.0}] * 1000)) == 1000
        assert predictor.describe(MODEL).columns[0]["name"] == "x"
        assert predictor.status().serves(MODEL)

    _check(fleet)
    with Redis.from_url(guarded(Role.CALLER)) as caller:
        request = Request(id=new_id(), model=MODEL, body=b'[{"x": 1.0}]', reply_to=new_id())
        fields: Any = entry_fields(request)
        caller.xadd(fleet.keys.lane(Lane.ONLINE), fields)
        assert caller.blpop([fleet.keys.reply(request.reply_to)], 30)
        assert caller.get(fleet.keys.result(request.id))

    _check(fleet)
    source = tmp_path / "in.csv"
    source.write_text("x\n" + "".join(f"{number}\n" for number in range(2000, 202_000)))
    with Client(guarded(Role.CLIENT)) as client:
        _use_all(client, source, tmp_path)
        _check(fleet)
        eventually(kill_child(worker, 0))
        with pytest.raises(RequestRefused, match="given up"):
            client.predict(MODEL, {"x": DEADLY}, timeout=60)
        assert fleet.redis.xlen(fleet.keys.dead) == 1
        _check(fleet)
        fleet.redis.config_set("maxmemory", "1mb")
        with pytest.raises(QueueFull):
            client.submit(MODEL, [{"x": 1.0}])
        fleet.redis.config_set("maxmemory", "0")

    with Redis.from_url(guarded(Role.TRAINER)) as trainer:
        assert announce_release(trainer, fleet.keys, MODEL) > 0
    fleet.url = guarded(Role.OPERATOR)
    (letter,) = fleet.redis.xrange(fleet.keys.dead)
    for command in (
        ("promote", MODEL, "1"),
        ("dead-letters",),
        ("dead-letters", "show", letter[0].decode()),
        ("dead-letters", "replay", letter[0].decode()),
        ("dead-letters", "drop", "--all"),
        ("rollback", MODEL),
        ("status",),
    ):
        done = fleet.scoreline(*command)
        assert done.returncode == 0, done.stdout + done.stderr

    worker.terminate()
    worker.wait(30)
    _check(fleet)


def _check(fleet: Fleet) -> None:
    """Check that nothing was refused until now."""
    refused = {(one["username"], one["object"], one["reason"]) for one in fleet.redis.acl_log()}
    assert refused == set(), fleet.log.read_text()[-2000:]


def _use_all(client: Client, source: Path, folder: Path) -> None:
    """All that a client can do, but for what takes a death."""
    assert len(client.predict_many(MODEL, [{"x": 1.0}] * 20_500)) == 20_500
    job = client.submit(MODEL, [{"x": 1.0}])
    assert len(job.result()) == 1
    job.status()
    assert client.describe(MODEL).columns[0]["name"] == "x"
    assert client.status().serves(MODEL)
    other = client.submit(MODEL, [{"x": 1.0}] * 100)
    if other.cancel():
        with pytest.raises(JobCancelled):
            other.result()
    assert len(client.predict_frame(MODEL, pd.DataFrame({"x": [1.0] * 5000}))) == 5000
    assert client.check_file(MODEL, source).rows == 200_000

    def interrupt(now: Any) -> None:
        if now.rows:
            raise InterruptedError("on purpose")

    target = folder / "out.csv"
    with pytest.raises(InterruptedError):
        client.score_file(MODEL, source, target, progress=interrupt)
    summary = client.score_file(MODEL, source, target, options=BulkOptions(resume=True))
    assert summary.scored == 200_000


@pytest.mark.exhaustive
@pytest.mark.parametrize("is_controlled", [True])
def test_workers_are_inspected_with_least_rights(
    fleet: Fleet, guarded: Callable[[Role], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORELINE_REMOTE_CONTROL", "1")
    fleet.start_worker(processes=1)
    _check(fleet)
    fleet.url = guarded(Role.INSPECT)
    command = [sys.executable, "-m", "celery", "-A", "scoreline_tasks", "inspect", "ping"]
    done = subprocess.run(
        command, env=fleet.environment, capture_output=True, text=True, check=False
    )
    assert "1 node online" in done.stdout, done.stdout + done.stderr
    _check(fleet)


def test_who_has_no_right_to_score_files_is_told_whose_rights_that_takes(
    fleet: Fleet, guarded: Callable[[Role], str], tmp_path: Path
) -> None:
    fleet.start_worker(1)
    source = tmp_path / "in.csv"
    source.write_text("x\n" + "".join(f"{number}\n" for number in range(1000)))
    began = time.monotonic()
    with (
        Client(guarded(Role.PREDICTOR)) as predictor,
        pytest.raises(ServerRefused, match=r"scoreline-default-predictor.*the user `client`"),
    ):
        predictor.score_file(MODEL, source, tmp_path / "out.csv")
    assert time.monotonic() - began < 20  # it is not tried as long as a server that is away
