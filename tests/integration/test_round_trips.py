"""What a request and a chunk cost in Redis commands and round trips: a guard on speed without a clock.

What is written down below may become less, and then it is to be written down anew. When it grows, a
test fails and names the command. The worker's own loop runs in a thread here, on a real server, so
that what Redis is asked depends on nothing but the requests. What is asked for once in so much time,
or for a new connection, is left out, and so are the looks of a worker that has nothing to do.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio.connection
import redis.connection
from redis import Redis

from scoreline_artifacts import Store
from scoreline_client import AsyncClient, ClientSettings
from scoreline_client.files.reader import FileSizes
from scoreline_client.files.run import score_file
from scoreline_client.fleet import ProcessReport, send_report
from scoreline_client.history import record_history
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.transport.ordered import BulkTimes
from scoreline_tasks.models.registry import Models
from scoreline_tasks.queue.drain import Drain, Lease, Wakeups
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Batcher, Entry, Finished
from scoreline_tasks.scoring.limits import Limits
from tests.support.bulk import LOADED

pytestmark = pytest.mark.integration

Wave = Callable[[AsyncClient, int], Coroutine[Any, Any, None]]

WAVES = 20
ONE_REQUEST = {
    "evalsha": 1, "xlen": 1, "xadd": 1, "xreadgroup": 2,
    "exists": 1, "xack": 1, "xdel": 1, "set": 1, "rpush": 1, "pexpire": 1,
    "blmpop": 1, "unlink": 1,
}  # fmt: skip
"""Commands inside of scripts count, too."""
SHARED_REQUEST = ONE_REQUEST | {"evalsha": 2, "set": 2, "decrby": 1}
"""It is submitted by a script. How many callers share it is counted, for the lane's limit."""
SEVERAL_REQUESTS = ONE_REQUEST | {
    "evalsha": 2,
    "xreadgroup": 3,
    "xadd": 64,
    "xack": 64,
    "set": 64,
    "rpush": 64,
}
TRIPS_A_WAVE = {
    "client EVALSHA": 1,  # submit, and wait for the answers
    "client UNLINK": 1,  # results that were received; twice a second, or for 64
    "worker EVALSHA": 1,  # finish, and wait for the next
}
"""For several callers; a pipeline is one, and has the name of its first command."""
TRIPS_ALONE = TRIPS_A_WAVE | {"client EVALSHA": 0, "client XADD": 1}
TRIPS_FOR_SEVERAL = TRIPS_A_WAVE | {"worker XREADGROUP": 1}
"""After more than one request, what came meanwhile is read before anything is waited for."""

AT_THE_EDGES = {"xreadgroup": 3, "worker XREADGROUP": 2}
"""A wait that began before the counting, or did not end with it."""

CHUNKS, CHUNK_BYTES = 12, 1 << 17
COMMANDS_A_CHUNK = {
    "evalsha": 2, "xlen": 2, "xadd": 1, "xreadgroup": 3, "zscore": 1, "zremrangebyscore": 1,
    "exists": 2, "xack": 1, "xdel": 1, "set": 2, "rpush": 1, "pexpire": 2,
    "blmpop": 1, "get": 1, "unlink": 1,
}  # fmt: skip
TRIPS_A_CHUNK = {
    "client EVALSHA": 1,  # is there room
    "client XADD": 1,
    "client BLMPOP": 1,
    "client GET": 1,  # an answer that is too large for the reply list
    "client UNLINK": 1,
    "worker SET": 2,  # the answer, finish, look at the online lane; ask others to help
    "worker XREADGROUP": 1,  # wait for the next
    "worker XLEN": 1,  # are others needed, is the job's client alive
}
COMMANDS_A_FILE = {
    "evalsha": 4, "xlen": 1, "xadd": 1, "xreadgroup": 6, "exists": 1, "xack": 1, "xdel": 1,
    "set": 2, "rpush": 1, "pexpire": 1, "blmpop": 1, "get": 1, "unlink": 2,
    "zscore": 1, "zadd": 1, "zcount": 1, "zrem": 1,
}  # fmt: skip
"""Beside its chunks: its version is asked for, its job is begun and ended, and tells how far it is with each renewal."""
TRIPS_A_FILE = {
    "client EVALSHA": 2, "client XADD": 1, "client BLMPOP": 1, "client GET": 1, "client SET": 1, "client UNLINK": 1, "client ZREM": 1,
    "worker EVALSHA": 1, "worker XREADGROUP": 4,
}  # fmt: skip

BESIDE = frozenset({
    "time", "xpending", "del",  # the worker: once a slice, once a second
    "info", "mget", "zrange",  # the client: once a second, and for requests that are overdue
    "auth", "client", "hello", "ping", "select", "script", "config",  # connections
})  # fmt: skip

IDLE_SLICE = {"time": 1, "xlen": 2, "xinfo": 2, "xreadgroup": 3}
"""And one read for each further wait: twice a second."""
REPORT = {"evalsha": 1, "set": 1}
LISTED = {"zadd": 1}
"""With one of five reports."""
HISTORY = {"evalsha": 1, "time": 1, "xlen": 2, "lindex": 2, "lpush": 1}
NEW_MINUTE = {"lpush": 1, "expire": 2}


class CountedQueue(RequestQueue):
    """Knows how many chunks it brought, and how often it waited for nothing."""

    chunks = 0
    idle = 0
    idle_reads = 0

    def exchange(self, finished: Sequence[Finished], take: int) -> list[Entry]:
        return self._noted(super().exchange(finished, take))

    def wait(self, take: int, block_ms: int, finished: Sequence[Finished] = ()) -> list[Entry]:
        entries = self._noted(super().wait(take, block_ms, finished))
        if not entries:
            self.idle += 1
            self.idle_reads += 2 if take else 1
        return entries

    def _noted(self, entries: list[Entry]) -> list[Entry]:
        self.chunks += sum(entry.lane is Lane.BULK for entry in entries)
        return entries


class Costs:
    """What was asked of a server, by clients on an event loop and by a worker in a thread."""

    def __init__(self, server: Redis, queue: CountedQueue, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commands: Counter[str] = Counter()
        self.trips: Counter[str] = Counter()
        self.chunks = 0
        self._server = server
        self._queue = queue
        self._count_writes(monkeypatch)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what happens inside the block."""
        self._server.config_resetstat()
        before, idle, chunks = Counter(self.trips), self._queue.idle, self._queue.chunks
        idle_reads = self._queue.idle_reads
        yield
        self.trips = self.trips - before
        found: Any = self._server.info("commandstats")
        for name, stats in found.items():
            command = name.removeprefix("cmdstat_").partition("|")[0]
            self.commands[command] += stats["calls"]
        self.chunks = self._queue.chunks - chunks
        self.commands["xreadgroup"] -= self._queue.idle_reads - idle_reads
        self.trips["worker XREADGROUP"] -= self._queue.idle - idle

    def _count_writes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        on_loop = redis.asyncio.connection.AbstractConnection
        in_thread = redis.connection.AbstractConnection
        send_on_loop, send_in_thread = on_loop.send_packed_command, in_thread.send_packed_command

        def send(connection: Any, command: Any, *args: Any, **options: Any) -> Any:
            self.trips[f"worker {_first(command)}"] += 1
            return send_in_thread(connection, command, *args, **options)

        async def send_async(connection: Any, command: Any, *args: Any, **options: Any) -> Any:
            self.trips[f"client {_first(command)}"] += 1
            return await send_on_loop(connection, command, *args, **options)

        monkeypatch.setattr(in_thread, "send_packed_command", send)
        monkeypatch.setattr(on_loop, "send_packed_command", send_async)


def _first(packed: Any) -> str:
    """The name of the first command in what is written to a connection."""
    data = packed if isinstance(packed, bytes) else b"".join(packed)
    return data.split(b"\r\n", 3)[2].decode().upper()


def grown(
    found: Mapping[str, int], allowed: Mapping[str, int], times: int, once: Mapping[str, int]
) -> list[str]:
    """Sentences about what is more than `allowed`, so many times, and what is allowed once."""
    return [
        f"{name}: {count} for {times}, written down are {allowed.get(name, 0)} for each"
        + (f" and {once[name]} more" if name in once else "")
        for name, count in sorted(found.items())
        if name.rpartition(" ")[2].lower() not in BESIDE
        and count > allowed.get(name, 0) * times + once.get(name, 0)
    ]


def check(
    found: Mapping[str, int], allowed: Mapping[str, int], times: int, once: Mapping[str, int]
) -> None:
    """Fail, and name what has grown."""
    if more := grown(found, allowed, times, once):
        pytest.fail("\n".join(("more than is written down:", *more)), pytrace=False)


@pytest.fixture
def queue(redis_url: str) -> Iterator[CountedQueue]:
    with Redis.from_url(redis_url) as connection:
        made = CountedQueue(connection, Keys("default"), "in-thread", result_ttl_s=60)
        made.prepare()
        yield made


@pytest.fixture
async def worker(queue: CountedQueue, tmp_path: Path) -> AsyncIterator[None]:
    """The worker's loop, parked in a thread."""
    models = Models(Store(tmp_path), max_versions=8)
    models.add(LOADED)
    batcher = Batcher(models, Limits(1 << 24, 100_000))
    lease = Lease(queue, lease_s=3600, limit_s=3600)
    nobody = Wakeups(extra_drain=lambda: None)
    drain = Drain(queue, batcher, lease, Keys("default"), nobody, take=2048)
    stopped = threading.Event()
    parked = asyncio.create_task(asyncio.to_thread(drain.serve, 3600, stopped.is_set))
    yield
    stopped.set()
    await parked


@pytest.fixture
def costs(redis_client: Redis, queue: CountedQueue, monkeypatch: pytest.MonkeyPatch) -> Costs:
    return Costs(redis_client, queue, monkeypatch)


@pytest.fixture
def _two_processes(redis_client: Redis) -> None:
    for pid in (1, 2):
        report = ProcessReport(
            name=f"stub/{pid}", host="here", pid=pid, started_at=0.0, reported_at=2e9
        )
        send_report(redis_client, Keys("default"), report)


@pytest.fixture
async def client(worker: None, client_settings: ClientSettings) -> AsyncIterator[AsyncClient]:
    """Closed before the worker ends."""
    async with AsyncClient(settings=client_settings) as client:
        yield client


async def ask(client: AsyncClient, callers: int) -> None:
    """Ask about one record each at the same moment, and wait for all answers."""
    calls = [client.predict("threshold", {"a": number}) for number in range(callers)]
    answers = await asyncio.gather(*calls)
    assert [answer.value for answer in answers] == [
        "yes" if number > 5 else "no" for number in range(callers)
    ]


async def ask_for_two(client: AsyncClient, callers: int) -> None:
    """The same with two records each, which do not share a request with those of others."""
    two = [{"a": 5}, {"a": 6}]
    answers = await asyncio.gather(*(client.predict_many("threshold", two) for _ in range(callers)))
    assert [[one.value for one in both] for both in answers] == [["no", "yes"]] * callers


@pytest.mark.parametrize(
    ("wave", "callers", "allowed", "trips"),
    [
        (ask, 1, ONE_REQUEST, TRIPS_ALONE),
        (ask, 64, SHARED_REQUEST, TRIPS_A_WAVE),
        (ask_for_two, 64, SEVERAL_REQUESTS, TRIPS_FOR_SEVERAL),
    ],
    ids=["one record", "64 records", "64 requests"],
)
async def test_callers_cost_what_is_written_down(
    client: AsyncClient,
    costs: Costs,
    wave: Wave,
    callers: int,
    allowed: Mapping[str, int],
    trips: Mapping[str, int],
) -> None:
    await wave(client, callers)
    with costs.counted():
        for _ in range(WAVES):
            await wave(client, callers)
    check(costs.commands, allowed, WAVES, AT_THE_EDGES)
    check(costs.trips, trips, WAVES, AT_THE_EDGES)


@pytest.mark.usefixtures("_two_processes")
async def test_chunks_of_a_file_cost_what_is_written_down(
    client: AsyncClient, costs: Costs, tmp_path: Path
) -> None:
    source = tmp_path / "in.csv"
    source.write_text("a\n" + "1.5\n" * (CHUNKS * CHUNK_BYTES // 4))
    await ask(client, 1)
    with costs.counted():
        await score_file(
            client.transport,
            client.settings,
            "threshold",
            str(source),
            str(tmp_path / "out.csv"),
            sizes=FileSizes(smallest_chunk_bytes=CHUNK_BYTES, largest_chunk_bytes=CHUNK_BYTES),
            times=BulkTimes(renew_every_s=3600),
        )
    assert costs.chunks >= CHUNKS
    check(costs.commands, COMMANDS_A_CHUNK, costs.chunks, COMMANDS_A_FILE)
    check(costs.trips, TRIPS_A_CHUNK, costs.chunks, TRIPS_A_FILE)


async def test_a_client_with_nothing_on_its_way_asks_for_nothing(
    client: AsyncClient, redis_client: Redis
) -> None:
    times = replace(client.transport.times, read_block_s=0.05, check_every_s=0.05, delete_after_s=0)
    client.transport.times = times
    await ask(client, 1)
    await asyncio.sleep(0.3)
    redis_client.config_resetstat()
    await asyncio.sleep(0.5)
    stats: Any = redis_client.info("commandstats")
    assert {*stats} <= {"cmdstat_xreadgroup", "cmdstat_config|resetstat"}, "the worker's waits"
    await ask(client, 1)


def asked(server: Redis, do: Callable[[], object]) -> Counter[str]:
    """The commands that something costs, those inside scripts among them."""
    server.config_resetstat()
    do()
    stats: Any = server.info("commandstats")
    names = {name: name.removeprefix("cmdstat_").partition("|")[0] for name in stats}
    counts = Counter({names[name]: each["calls"] for name, each in stats.items()})
    return counts - Counter({"config": 1, "info": 1})


def test_what_a_worker_at_rest_asks_for_is_written_down(
    queue: CountedQueue, redis_client: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scoreline_tasks.queue.drain.WAIT_MS", 20)
    batcher = Batcher(Models(Store(tmp_path), max_versions=8), Limits(1 << 24, 100_000))
    lease = Lease(queue, lease_s=3600, limit_s=3600)
    keys, nobody = Keys("default"), Wakeups(extra_drain=lambda: None)
    drain = Drain(queue, batcher, lease, keys, nobody, take=2048)
    queue.begin_slice()  # connects
    slices = asked(redis_client, lambda: drain.serve(0.05))
    assert queue.idle > 1
    assert slices == IDLE_SLICE | {"xreadgroup": IDLE_SLICE["xreadgroup"] + queue.idle - 1}

    def report() -> None:
        for number in range(1, 6):
            about = ProcessReport(
                name="w/1", host="h", pid=1, started_at=0.0, reported_at=2e9, counted=number
            )
            send_report(redis_client, keys, about)

    report()
    assert asked(redis_client, report) == Counter(
        {**{k: 5 * n for k, n in REPORT.items()}, **LISTED}
    )

    record_history(redis_client, keys)
    redis_client.delete(keys.history(2))  # the next step comes in two seconds
    noted = asked(redis_client, lambda: record_history(redis_client, keys))
    check(noted, HISTORY, 1, NEW_MINUTE)


def test_the_command_that_grew_is_named() -> None:
    found = {"xadd": 64, "xack": 65, "get": 1, "time": 9, "client INFO": 9}
    assert grown(found, {"xadd": 64, "xack": 32}, 2, {}) == [
        "get: 1 for 2, written down are 0 for each",
        "xack: 65 for 2, written down are 32 for each",
    ]
