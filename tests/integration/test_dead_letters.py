"""Dead letters: kept by workers within bounds; listed, shown, sent again and dropped by whoever looks after them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from redis import Redis

from scoreline_client import Client, ClientSettings, DeadLetterUnusable
from scoreline_client.cli.dead_letters import dead_letters
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.protocol.messages import Request, new_id
from scoreline_tasks.queue import streams
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Entry
from tests.support.worker import StubWorker, entry_fields

KEYS = Keys("default")


@pytest.fixture
def queue(redis_client: Redis) -> RequestQueue:
    return RequestQueue(redis_client, KEYS, "rescuer", result_ttl_s=60)


def entry(x: Any = 1, body: bytes | None = None) -> Entry:
    request = Request(
        id=new_id(), model="pima@3", body=body or orjson.dumps([{"x": x}]), job=new_id()
    )
    return Entry(Lane.BULK, b"1-0", entry_fields(request))


@pytest.fixture
def run(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Run `scoreline dead-letters`; returns its exit code and what it printed."""
    monkeypatch.setenv("SCORELINE_REDIS_URL", redis_url)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(dead_letters, arguments)
        return result.exit_code, result.output

    return run


def kept(redis: Redis) -> list[bytes]:
    found: Any = redis.xrange(KEYS.dead)
    return [fields[b"body"] for _, fields in found]


def test_the_oldest_go_when_there_are_too_many(
    redis_client: Redis, queue: RequestQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "DEAD_LETTERS", 3)
    for number in range(5):
        queue.add_dead_letter(entry(number), "it died")
    assert kept(redis_client) == [b'[{"x":2}]', b'[{"x":3}]', b'[{"x":4}]']


def test_the_oldest_go_when_they_are_too_large_together(
    redis_client: Redis, queue: RequestQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "DEAD_LETTERS_BYTES", 30_000)
    for number in range(10):
        queue.add_dead_letter(entry(body=b"%d" % number * 10_000), "it died")
    left = kept(redis_client)
    assert sum(map(len, left)) <= 40_000
    assert left[-1] == b"9" * 10_000
    queue.add_dead_letter(entry(body=b"L" * 100_000), "it died")
    assert kept(redis_client) == [b"L" * 100_000]


def test_the_oldest_go_after_a_week_and_with_them_the_key(
    redis_client: Redis, queue: RequestQueue
) -> None:
    redis_client.xadd(KEYS.dead, {"body": "old", "reason": "long ago"}, id="1-0")
    queue.add_dead_letter(entry(), "it died")
    assert kept(redis_client) == [b'[{"x":1}]']
    ttl: Any = redis_client.pttl(KEYS.dead)
    assert 0 < ttl <= streams.DEAD_LETTERS_MS


def test_a_body_that_is_too_large_is_cut_and_cannot_be_sent_again(
    queue: RequestQueue, client_settings: ClientSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "DEAD_BODY_BYTES", 100)
    queue.add_dead_letter(entry(body=b"L" * 101), "it died")
    with Client(settings=client_settings) as client:
        (letter,) = client.dead_letters()
        assert (letter.size, letter.is_cut) == (101, True)
        with pytest.raises(DeadLetterUnusable, match="body of 101 bytes was not kept"):
            client.replay(letter)


def test_dead_letters_of_earlier_releases_are_read(
    redis_client: Redis, queue: RequestQueue, client_settings: ClientSettings
) -> None:
    redis_client.xadd(KEYS.dead, {**entry().fields, "lane": "online", "reason": "r"})  # type: ignore[dict-item]
    redis_client.xadd(KEYS.dead, {b"id": b"\xff", b"cut": b"x"})
    queue.add_dead_letter(entry(2), "it died")
    with Client(settings=client_settings) as client:
        reasons = [letter.reason for letter in client.dead_letters()]
    assert reasons == ["it died", "", "r"]


def test_they_are_listed_the_newest_first_and_shown(
    queue: RequestQueue, run: Callable[..., tuple[int, str]]
) -> None:
    for number in range(150):
        queue.add_dead_letter(entry(number), f"reason {number}")
    code, printed = run("list", "--json")
    listed = json.loads(printed)
    assert (code, len(listed)) == (0, 150)
    assert [one["reason"] for one in listed[:2]] == ["reason 149", "reason 148"]
    code, printed = run("show", listed[0]["id"])
    assert code == 0
    assert '[{"x":149}]' in printed
    assert "pima@3" in printed


def test_what_callers_sent_cannot_write_to_the_terminal(
    redis_client: Redis, run: Callable[..., tuple[int, str]]
) -> None:
    letter: Any = redis_client.xadd(KEYS.dead, {"model": "a\nb\x1b[2J", "body": "x\x1b[2J\ny"})
    for arguments in (["show", letter.decode()], ["list"], ["list", "--json"]):
        code, printed = run(*arguments)
        assert code == 0
        assert "\x1b" not in printed


def test_a_dead_letter_is_sent_again_to_another_version(
    worker: StubWorker, queue: RequestQueue, run: Callable[..., tuple[int, str]]
) -> None:
    queue.add_dead_letter(entry(21), "it died")
    with worker.serving():
        ((listed,), _) = json.loads(run("list", "--json")[1]), None
        code, printed = run("replay", listed["id"], "--version", "7", "--json")
    assert code == 0
    assert json.loads(printed)["records"][0]["value"] == 42
    ((lane, seen),) = worker.seen
    assert (lane, seen.model, seen.job) == (Lane.ONLINE, "pima@7", "")


def test_a_dead_letter_that_is_not_scored_again_is_partly_done(
    worker: StubWorker, queue: RequestQueue, run: Callable[..., tuple[int, str]]
) -> None:
    queue.add_dead_letter(entry(body=b'[{"y": 1}]'), "it died")
    with worker.serving():
        (listed,) = json.loads(run("list", "--json")[1])
        code, printed = run("replay", listed["id"])
    assert code == 1
    assert "E_MISSING_COLUMN" in printed
    assert worker.seen[0][1].model == "pima@3"


def test_they_are_dropped_by_name_or_all(
    redis_client: Redis, queue: RequestQueue, run: Callable[..., tuple[int, str]]
) -> None:
    for number in range(3):
        queue.add_dead_letter(entry(number), "it died")
    first = json.loads(run("list", "--json")[1])[-1]["id"]
    assert run("drop", first, "--json") == (0, '{"dropped": 1}\n')
    assert len(kept(redis_client)) == 2
    assert run("drop")[0] == 2
    assert run("drop", "--all") == (0, "dropped 2\n")
    assert run("list") == (0, "none\n")


@pytest.mark.parametrize("letter_id", ["1-1", "-", "+", "abc", "1-1-1"])
def test_one_that_is_not_there_is_said_to_be_missing(
    letter_id: str, run: Callable[..., tuple[int, str]]
) -> None:
    code, printed = run("show", "--", letter_id)
    assert code == 2
    assert "dead letter" in printed
