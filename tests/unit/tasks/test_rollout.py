"""Following a release through the fleet, and what promote and rollback say about it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakeredis
import orjson
import pytest
from click.testing import CliRunner, Result
from redis import RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from scoreline_artifacts import Release, Store
from scoreline_artifacts.store import releases
from scoreline_client.fleet import ProcessReport, ServedModel, send_report
from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_tasks import cli, rollout
from scoreline_tasks.rollout import Rollout, follow
from tests.support.stores import manifest_of

KEYS = Keys("default")
RELEASED = Release(model="pima", alias="production", version=2, sequence=2)
BEFORE = Release(model="pima", alias="production", version=1, sequence=1)
MANIFEST = manifest_of({}, 1)


@pytest.fixture
def redis() -> Iterator[fakeredis.FakeRedis]:
    with fakeredis.FakeRedis() as client:
        yield client


def _report(
    redis: Any, name: str, serving: int | None, refused: str | None = None, **more: Any
) -> None:
    served = ServedModel(serving=serving, wanted=2, refused=refused)
    now = time.time()
    send_report(
        redis,
        KEYS,
        ProcessReport(
            name=name,
            host="h",
            pid=1,
            started_at=now,
            reported_at=now,
            models={"pima@production": served},
            **more,
        ),
    )
    # As the drain of a real process does.
    lane = KEYS.lane(Lane.ONLINE)
    with contextlib.suppress(ResponseError):
        redis.xgroup_create(lane, GROUP, id="0", mkstream=True)
    redis.xgroup_createconsumer(lane, GROUP, name)


def _no_pause(_: float) -> None:
    return None


def test_following_ends_when_the_last_process_serves_the_version(redis: Any) -> None:
    _report(redis, "a", 2)
    _report(redis, "b", 1)
    seen: list[int] = []

    def progress(now: Rollout) -> None:
        seen.append(len(now.serving))
        _report(redis, "b", 2)

    ended = follow(redis, KEYS, RELEASED, 30, progress, pause=_no_pause)
    assert (seen, ended.complete, ended.process_count) == ([1, 2], True, 2)


def test_following_ends_when_all_others_refuse(redis: Any) -> None:
    _report(redis, "a", 2)
    _report(redis, "b", 1, "golden row 3 differs")
    ended = follow(redis, KEYS, RELEASED, 30, pause=_no_pause)
    assert ended.refusing == {"b": "golden row 3 differs"}
    assert ended.waiting == []
    assert not ended.complete


def test_following_ends_when_time_is_up(redis: Any) -> None:
    _report(redis, "a", 1)
    clock = iter([0.0, 0.0, 10.0, 31.0])
    ended = follow(redis, KEYS, RELEASED, 30, now=lambda: next(clock), pause=_no_pause)
    assert (ended.waiting, ended.seconds) == (["a"], 31.0)


def test_without_a_worker_there_is_nothing_to_wait_for(redis: Any) -> None:
    ended = follow(redis, KEYS, RELEASED, 30, pause=_no_pause)
    assert ended.complete
    assert ended.process_count == 0


@pytest.fixture
def run(redis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command on the fake server, with a store that does as it is told."""
    monkeypatch.setattr(rollout, "blocking_redis", lambda *_, **__: redis)
    monkeypatch.setattr(cli.releases, "current", lambda *_, **__: BEFORE)
    monkeypatch.setattr(cli.releases, "promote", lambda *_, **__: RELEASED)
    monkeypatch.setattr(cli.releases, "rollback", lambda *_, **__: RELEASED)
    monkeypatch.setenv("SCORELINE_ARTIFACTS", str(tmp_path))

    def invoke(command: Any, *arguments: str) -> Result:
        return CliRunner().invoke(command, arguments)

    return invoke


def test_promote_says_that_all_processes_serve(redis: Any, run: Callable[..., Result]) -> None:
    _report(redis, "a", 2)
    _report(redis, "b", 2)
    done = run(cli.promote, "pima", "2")
    assert "all 2 worker processes report that they serve pima@2" in done.output
    assert done.exit_code == 0


def test_promote_says_why_a_process_refuses_and_how_to_go_back(
    redis: Any, run: Callable[..., Result]
) -> None:
    _report(redis, "a", 1, "golden row 3 differs")
    done = run(cli.promote, "pima", "2")
    said = " ".join(done.output.split())
    assert "a refuses it: golden row 3 differs" in said
    assert "continues to serve" in said
    assert "scoreline rollback pima" in said
    assert done.exit_code == 1


def test_processes_that_do_not_answer_for_the_model_are_not_waited_for(
    redis: Any, run: Callable[..., Result]
) -> None:
    _report(redis, "a", 2)
    _report(redis, "b", None, only="fraud-*")
    said = " ".join(run(cli.promote, "pima", "2").output.split())
    assert "1 of the worker processes do not answer for pima: SCORELINE_MODELS" in said
    assert "all 1 worker processes report that they serve pima@2" in said


def test_a_model_that_every_worker_leaves_out_is_served_by_nobody(
    redis: Any, run: Callable[..., Result]
) -> None:
    _report(redis, "b", None, only="fraud-*")
    done = run(cli.promote, "pima", "2")
    assert "nobody serves pima@2" in " ".join(done.output.split())
    assert done.exit_code == 1


def test_a_process_of_another_store_counts_for_nothing_and_is_named(
    redis: Any, run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.releases, "promote", lambda *_, **__: replace(RELEASED, store="ours"))
    _report(redis, "other", 2, store="/srv/store", store_id="theirs")
    done = run(cli.promote, "pima", "2")
    said = "".join(done.output.split())
    assert "1oftheworkerprocessesreadanotherartifactstore" in said
    assert f"workersread/srv/store;thiswasreleasedin{tmp_path}" in said
    assert done.exit_code == 1
    _report(redis, "own", 2, store="/mnt/store", store_id="ours")
    _report(redis, "old", 2)  # of an earlier release, which does not tell
    both = orjson.loads(run(cli.promote, "pima", "2", "--json").output)
    assert both["serving"] == ["old", "own"]
    assert both["elsewhere"] == {"other": "/srv/store"}
    assert both["store"] == str(tmp_path)


def test_rollback_without_a_worker_succeeds_and_says_so(run: Callable[..., Result]) -> None:
    done = run(cli.rollback, "pima")
    assert "no worker is running" in done.output
    assert done.exit_code == 0


def test_promote_prints_one_json_object(redis: Any, run: Callable[..., Result]) -> None:
    _report(redis, "a", 2)
    said = orjson.loads(run(cli.promote, "pima", "2", "--json").output)
    assert said["serving"] == ["a"]
    assert (said["version"], said["previous"], said["changed"]) == (2, 1, True)


def test_a_release_without_redis_is_made_and_says_so(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(cli.releases, "current", lambda *_, **__: BEFORE)
    monkeypatch.setattr(cli.releases, "promote", lambda *_, **__: RELEASED)
    monkeypatch.setenv("SCORELINE_REDIS_URL", "redis://127.0.0.1:1/0")
    done = run(cli.promote, "pima", "2")
    said = " ".join(done.output.split())
    assert "cannot reach Redis at redis://127.0.0.1:1/0" in said
    assert "The release is made all the same" in said
    assert done.exit_code == 3


def test_an_unknown_model_releases_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORELINE_ARTIFACTS", str(tmp_path))
    done = CliRunner().invoke(cli.promote, ["pima", "2"])
    assert done.exit_code == 2


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Versions 1 to 3 of the model pima in a real store; 2 is in production after 1."""
    monkeypatch.setenv("SCORELINE_ARTIFACTS", str(tmp_path))
    monkeypatch.setenv("SCORELINE_REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    store = Store(tmp_path)
    for _ in range(3):
        store.publish(MANIFEST, {})
    releases.promote(store, "pima", 1)
    releases.promote(store, "pima", 2)
    return store


def _serves(store: Store) -> int | None:
    release = releases.current(store, "pima")
    return release and release.version


both = pytest.mark.parametrize(
    "command", [(cli.promote, "pima", "3"), (cli.rollback, "pima")], ids=["promote", "rollback"]
)


@both
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SCORELINE_RESULT_TTL_S", "soon"),
        ("SCORELINE_REDIS_URL", "http://127.0.0.1:1/0"),
        ("SCORELINE_REDIS_URL", "redis://:secret@127.0.0.1:port/0"),
        ("SCORELINE_REDIS_URL", "redis://127.0.0.1:1/0?no_such_option=1"),
    ],
)
def test_a_bad_setting_releases_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, command: Any, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    done = CliRunner().invoke(command[0], command[1:])
    assert done.exit_code == 2
    assert variable in done.stderr
    assert "secret" not in done.output
    assert _serves(store) == 2


@both
@pytest.mark.parametrize(
    ("failure", "code"),
    [(RedisError("gone"), 3), (ValueError("no report"), 1), (KeyboardInterrupt(), 130)],
    ids=["no server", "unreadable", "interrupted"],
)
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["for people", "as JSON"])
def test_what_fails_after_the_release_is_told_beside_it(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    command: Any,
    failure: BaseException,
    code: int,
    options: tuple[str, ...],
) -> None:
    def fail(*_: Any) -> None:
        raise failure

    monkeypatch.setattr(rollout.fleet, "announce_release", fail)
    done = CliRunner().invoke(command[0], [*command[1:], *options])
    released = _serves(store)
    assert released in (1, 3)
    assert done.exit_code == code
    assert "secret" not in done.output
    if options:
        said = orjson.loads(done.stdout)
        assert (said["version"], said["changed"], bool(said["error"])) == (released, True, True)
    else:
        said = " ".join(done.output.split())
        assert f"pima@production is now version {released} (was 2)" in said
        assert "The release is made all the same" in said


@both
@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (
            NoPermissionError("User p has no permissions to run the 'publish' command."),
            "does not permit this to user 'default': User p has no permissions",
        ),
        (
            RedisConnectionError("Connection refused."),
            "127.0.0.1:1/0: Connection refused. Is it running",
        ),
    ],
    ids=["no right", "no server"],
)
def test_what_the_server_refuses_is_told_in_its_words(
    store: Store, monkeypatch: pytest.MonkeyPatch, command: Any, failure: RedisError, words: str
) -> None:
    def fail(*_: Any) -> None:
        raise failure

    monkeypatch.setattr(rollout.fleet, "announce_release", fail)
    done = CliRunner().invoke(command[0], command[1:])
    said = " ".join(done.output.split())
    assert words in said
    assert ".." not in said
    assert "The release is made all the same: workers look for it every few seconds" in said
    assert ("cannot reach" in said) == isinstance(failure, RedisConnectionError)


def test_a_last_release_that_is_not_trusted_is_no_obstacle_to_promote(store: Store) -> None:
    log = Path(store.root) / "pima" / "releases" / "production"
    (log / "00000002.json").write_bytes(b"damaged")
    done = CliRunner().invoke(cli.promote, ["pima", "3"])
    assert done.exit_code == 3
    assert _serves(store) == 3


def test_promote_begins_no_other_log_unless_it_is_told_to(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORELINE_KEYS", str(tmp_path / "keys of somebody else"))
    monkeypatch.setenv("SCORELINE_CACHE", str(tmp_path / "cache of somebody else"))
    Store(tmp_path).publish(MANIFEST, {})
    done = CliRunner().invoke(cli.promote, ["pima", "4"])
    assert done.exit_code == 2
    assert str(store.ring.own_fingerprint()) in done.stderr
    assert "--new-log" in done.stderr
    assert _serves(store) == 2
    assert CliRunner().invoke(cli.promote, ["pima", "4", "--new-log"]).exit_code == 3
    assert releases.numbers_of(store, "pima", "production") == [1, 2, 3]
