"""What any command prints, in success and failure: no secret of a setting, and nothing that steers a terminal."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from redis import Redis

from scoreline_artifacts import Store
from scoreline_artifacts.store import releases
from scoreline_client import Client
from scoreline_client.cli import dead_letters, predict, status
from scoreline_client.cli import main as cli
from scoreline_client.fleet import ProcessReport, ServedModel, send_report
from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_client.protocol.messages import Answer, Request
from scoreline_client.testing import FakeRedisServer
from scoreline_tasks import rollout
from tests.support.stores import manifest_of
from tests.support.worker import StubWorker

KEYS = Keys("default")
SECRET = "s3cretT0ken"
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")
EVIL = "\x1b]0;owned\x07\x1b[2Jx\x9b31m\r\nFORGED line"
COMMANDS = {
    "predict": ("m", '{"x": 1}', "--timeout", "0.2"),
    "score": ("m", "{source}", "{target}"),
    "check": ("m", "{source}"),
    "status": (),
    "describe": ("m", "--timeout", "0.2"),
    "job": ("0" * 32, "--timeout", "0.2"),
    "health": (),
    "metrics": ("--host", "256.0.0.1"),
    "dead-letters": (),
    "acl": (),
    "promote": ("m", "1", "--timeout", "0.2"),
    "rollback": ("m", "--timeout", "0.2"),
    "models": (),
    "versions": ("m",),
    "history": ("m",),
    "diff": ("m", "1", "1", "--no-answers"),
    "inspect": ("m@1",),
    "copy": ("m@1", "--from", "{source}"),
    "accept": (),
    "pin": ("m", "1"),
    "unpin": ("m", "1"),
    "prune": ("m",),
    "keygen": (),
    "keys": (),
    "train": ("no-such-job",),
    "export": ("pima", "--to", "json"),
    "up": (),
    "gateway": ("--host", "256.0.0.1"),
    "token": ("somebody",),
}
"""Every command but `demo`, which has a server and a store of its own, with arguments that it takes."""
each_command = pytest.mark.parametrize("name", COMMANDS)


def test_every_command_is_tried() -> None:
    installed = {entry.name for entry in entry_points(group="scoreline.commands")}
    assert installed <= COMMANDS.keys() | {"demo"}


def _run(name: str, source: str, target: str) -> str:
    """All that a command shows, the traceback of a bug included."""
    arguments = [part.format(source=source, target=target) if "{s" in part or "{t" in part else part for part in COMMANDS[name]]  # fmt: skip
    done = CliRunner().invoke(cli.main, [name, *arguments])
    shown = done.stdout + done.stderr
    if done.exc_info and not isinstance(done.exception, SystemExit):
        shown += "".join(traceback.format_exception(*done.exc_info))
    return shown


PLACES = [
    (f"redis://user:{SECRET}@127.0.0.2:1/0", f"memory://user:{SECRET}@nowhere/store"),
    (f"redis://127.0.0.2:1/0?password={SECRET}", f"memory://nowhere/store?token={SECRET}"),
    (f"redis://user:a/{SECRET}@127.0.0.2:1/0", f"https://user:{SECRET}@host/store"),
    (f"redis://127.0.0.2:1/0?no_such_option={SECRET}", f"gs://bucket/store?token={SECRET}"),
]
"""Servers and stores: out of reach, out of order, or of a kind that is not known."""


@each_command
@pytest.mark.parametrize("place", range(len(PLACES)))
def test_no_command_shows_a_secret_of_a_setting(
    name: str, place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCORELINE_STATE", str(tmp_path / "state"))
    for variable, url in zip(("REDIS_URL", "ARTIFACTS"), PLACES[place], strict=True):
        monkeypatch.setenv(f"SCORELINE_{variable}", url)
    source = f"memory://nowhere/in.csv?token={SECRET}"
    assert SECRET not in _run(name, source, f"memory://out/out.csv?token={SECRET}")
    assert not [path for path in tmp_path.rglob("*") if SECRET in str(path)]


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Redis:
    """A server that all commands find, and a store with a version of `m` that is released."""
    server = FakeRedisServer()
    redis = server.client()
    for module in (predict, dead_letters):
        monkeypatch.setattr(module, "Client", lambda: Client(connection=server.async_client))
    for module in (status, rollout):
        monkeypatch.setattr(module, "blocking_redis", lambda *_, **__: server.client())
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("SCORELINE_REDIS_URL", "redis://127.0.0.2:1/0")  # `up` refuses it
    monkeypatch.setenv("SCORELINE_ARTIFACTS", str(tmp_path / "store"))
    store = Store(tmp_path / "store")
    store.publish(manifest_of({"a": b"1"}, 1, "m"), {"a": b"1"})
    releases.promote(store, "m", 1)
    return redis


@pytest.fixture
def evil(redis: Redis) -> Iterator[None]:
    """Made-up reports, and a worker with made-up answers."""
    worker = StubWorker(redis)
    redis.xadd(KEYS.dead, {"reason": EVIL, "model": EVIL, "codec": EVIL, "lane": EVIL, "id": EVIL})
    for name in ("h/1", f"{EVIL}/2"):
        served = ServedModel(serving=1, wanted=2, refused=EVIL, deferred=EVIL)
        report = ProcessReport(name=name, host=EVIL, pid=1, started_at=1.0, reported_at=1.0, models={f"m@{EVIL}": served, "m@production": served})  # fmt: skip
        send_report(redis, KEYS, report)
        redis.xgroup_createconsumer(KEYS.lane(Lane.ONLINE), GROUP, name)

    def answer(request: Request) -> Answer:
        errors = {"0": {"code": EVIL, "message": EVIL, "column": EVIL, "value": EVIL}}
        return Answer(id=request.id, model=EVIL, version=1, records=1, values=[None], classes=[EVIL], errors=errors)  # fmt: skip

    with worker.serving(answer):
        yield


@each_command
@pytest.mark.usefixtures("evil")
def test_no_text_of_others_steers_the_terminal_or_forges_a_line(name: str, tmp_path: Path) -> None:
    if name in ("versions", "inspect", "prune"):
        (tmp_path / "store" / "m" / "versions" / "1" / EVIL).write_text("x")
    source = tmp_path / EVIL
    source.write_text("x\n1\n")
    shown = _run(name, str(source), str(tmp_path / f"out {EVIL}"))
    assert not STEERING.search(shown), STEERING.findall(shown)
    assert not [line for line in shown.splitlines() if line.startswith("FORGED")]


UNREADABLE = [
    b"garbage",
    b"{}",
    b'{"models": []}',
    b"\xff\xfe",
    b"[]",
    b"",
    b"[" * 100_000,
    b'{"name": 1e999}',
]


def _report(name: str, **other: Any) -> bytes:
    known = {"host": "h", "pid": 1, "started_at": 1.0, "reported_at": 1.0}
    return orjson.dumps({"name": name, **known, **other})


UNREADABLE += [
    _report("h/2", models=[]),
    _report("another's"),
    _report("h/2", started_at=-1e308),
    _report("h/2", records=-1),
]  # fmt: skip


@pytest.mark.parametrize("written", UNREADABLE, ids=lambda data: str(data[:24]))
def test_a_report_that_cannot_be_read_is_counted_and_passed_over(
    redis: Redis, written: bytes
) -> None:
    redis.set(
        KEYS.process("h/1"), _report("h/1", models={"m@production": {"serving": 1, "wanted": 1}})
    )
    redis.set(KEYS.process("h/2"), written)
    redis.zadd(KEYS.processes, {"h/1": 1, "h/2": 1, b"\xff": 1})
    redis.xgroup_create(KEYS.lane(Lane.ONLINE), GROUP, id="0", mkstream=True)
    redis.xgroup_createconsumer(KEYS.lane(Lane.ONLINE), GROUP, "h/1")
    done: Result = CliRunner().invoke(cli.main, ["status"])
    assert done.exit_code == 0, done.output
    assert "1 reports of processes cannot be read" in done.stdout
    done = CliRunner().invoke(cli.main, ["promote", "m", "1", "--timeout", "5"])
    assert done.exit_code == 0, done.output
    assert "all 1 worker processes report" in done.stdout


def test_a_made_up_report_alone_completes_no_promotion(redis: Redis) -> None:
    made_up = _report("h/1", models={"m@production": {"serving": 1, "wanted": 1}})
    redis.set(KEYS.process("h/1"), made_up)
    redis.zadd(KEYS.processes, {"h/1": 1})
    done = CliRunner().invoke(cli.main, ["promote", "m", "1", "--timeout", "0"])
    assert done.exit_code == 1, done.output
    assert "reads no queue" in done.stdout
