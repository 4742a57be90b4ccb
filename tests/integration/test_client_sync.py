"""Client, the blocking one: threads, forks, interrupts and ends."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from scoreline_client import Client, ClientSettings, NoAnswer, RecordRejected, ServerUnreachable
from scoreline_client import client as client_module
from scoreline_client.options import CsvChunk
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Codec, Request
from tests.support.worker import StubWorker, double

pytestmark = pytest.mark.integration


def test_a_record_gets_its_prediction(sync_client: Client, worker: StubWorker) -> None:
    with worker.serving():
        found = sync_client.predict("pima", {"x": 21})
    assert (found.value, found.model, found.version) == (42, "pima", 7)


def test_threads_share_a_client_and_get_their_own_answers(
    sync_client: Client, worker: StubWorker
) -> None:
    with worker.serving(), ThreadPoolExecutor(32) as pool:
        found = pool.map(lambda n: sync_client.predict("pima", {"x": n}).value, range(640))
        assert list(found) == [2 * n for n in range(640)]


def test_many_records_keep_their_order_and_a_bad_one_its_place(
    sync_client: Client, worker: StubWorker
) -> None:
    records: list[Any] = [{"x": 1}, {"y": 2}, {"x": {3}}, [4], {"x": 5}]
    with worker.serving():
        found = sync_client.predict_many("pima", records)
    assert [one.value for one in found] == [2, None, None, None, 10]
    assert [one.error and (one.error.record, one.error.code) for one in found] == [
        None, (1, "E_MISSING_COLUMN"), (2, "E_TYPE"), (3, "E_TYPE"), None,
    ]  # fmt: skip


def test_very_many_records_go_in_bulk_and_to_one_version(
    sync_client: Client, worker: StubWorker
) -> None:
    def respond(request: Request) -> Answer:
        """Version 7 from the second answer on, unless another one is asked for."""
        is_newer = len(worker.seen) > 1 and not request.model.endswith("@6")
        return replace(double(request), version=7 if is_newer else 6)

    with worker.serving(respond):
        found = sync_client.predict_many("pima", [{"x": n} for n in range(10_000)])
    assert [one.value for one in found] == [2 * n for n in range(10_000)]
    assert {lane for lane, _ in worker.seen} == {Lane.BULK}
    assert len({one.version for one in found}) == 1


def test_a_thousand_records_are_an_online_request(sync_client: Client, worker: StubWorker) -> None:
    with worker.serving():
        sync_client.predict_many("pima", [{"x": n} for n in range(1000)])
    assert [lane for lane, _ in worker.seen] == [Lane.ONLINE]


def test_a_bad_record_is_refused_before_anything_is_sent(
    sync_client: Client, redis_client: Redis
) -> None:
    with pytest.raises(RecordRejected):
        sync_client.predict("pima", [1, 2])  # type: ignore[arg-type]
    assert redis_client.dbsize() == 0


def test_no_answer_in_time_is_an_error(sync_client: Client) -> None:
    with pytest.raises(NoAnswer, match="no worker serves queue 'default'"):
        sync_client.predict("pima", {"x": 1}, timeout=0.05)


def test_an_unreachable_server_is_an_error() -> None:
    with (
        Client("redis://127.0.0.1:1/0") as client,
        pytest.raises(ServerUnreachable, match="scoreline up"),
    ):
        client.predict("pima", {"x": 1}, timeout=1)


def test_a_closed_client_opens_again_when_it_is_used(
    sync_client: Client, worker: StubWorker
) -> None:
    with worker.serving():
        sync_client.predict("pima", {"x": 1})
        sync_client.close()
        assert sync_client.predict("pima", {"x": 2}).value == 4


def test_closing_twice_or_unused_is_fine(client_settings: ClientSettings) -> None:
    client = Client(settings=client_settings)
    client.close()
    client.close()


def test_closing_ends_thread_and_connections(
    client_settings: ClientSettings,
    worker: StubWorker,
    redis_client: Redis,
    eventually: Callable[..., Any],
) -> None:
    def use() -> None:
        with Client(settings=client_settings) as client, worker.serving():
            client.predict("pima", {"x": 1})
            assert len(redis_client.client_list()) > 1

    threads = threading.active_count()
    use()  # the connections that the stub of a worker needs stay open
    assert threading.active_count() == threads
    connections = _connections(redis_client)
    for _ in range(3):
        use()
    # A server notices a moment later that a connection was closed. The stub may have opened one more.
    assert eventually(lambda: len(_connections(redis_client) - connections) <= 1)


def _connections(server: Redis) -> set[str]:
    return {connection["id"] for connection in server.client_list()}


def test_a_forked_child_starts_anew(
    sync_client: Client, worker: StubWorker, redis_client: Redis
) -> None:
    with worker.serving():
        sync_client.predict("pima", {"x": 1})
        child = os.fork()
        if child == 0:
            # Whatever happens here, the child must not go on with the tests.
            try:
                right = sync_client.predict("pima", {"x": 2}).value == 4
                sync_client.close()
            finally:
                os._exit(0 if right else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert sync_client.predict("pima", {"x": 3}).value == 6


def test_a_child_starts_that_was_forked_while_another_thread_opened_the_client(
    sync_client: Client, worker: StubWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock that this thread holds is locked for ever in the child."""
    opening, forked = threading.Event(), threading.Event()
    make = client_module._Loop

    def slow(*arguments: Any) -> Any:
        opening.set()
        forked.wait(30)
        return make(*arguments)

    with worker.serving():
        monkeypatch.setattr(client_module, "_Loop", slow)
        thread = threading.Thread(target=sync_client.predict, args=("pima", {"x": 1}))
        thread.start()
        opening.wait(30)
        monkeypatch.setattr(client_module, "_Loop", make)
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)  # ends a child that hangs
            try:
                right = sync_client.predict("pima", {"x": 2}).value == 4
            finally:
                os._exit(0 if right else 1)
        forked.set()
        _, status = os.waitpid(child, 0)
        thread.join()
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_call_that_comes_while_its_client_is_closed_is_cancelled_at_once(
    client_settings: ClientSettings, eventually: Callable[..., Any]
) -> None:
    """It waited for thirty seconds after its time, where another thread's wake-up came too late."""
    client = Client(settings=client_settings)
    running = client._background()
    client.close()
    call = ("pima", b'{"x":1}', b"", 60.0)
    with pytest.raises(concurrent.futures.CancelledError):
        running.ask(*call)
    running._woken = True
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(running.ask, *call)
        eventually(lambda: running._calls)
        running._cancel_calls()
        assert isinstance(waiting.exception(10), concurrent.futures.CancelledError)


def _python(code: str, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_program_that_does_not_close_its_client_ends_quietly(
    redis_url: str, worker: StubWorker
) -> None:
    code = (
        "import sys; from scoreline_client import Client\n"
        "client = Client(sys.argv[1])\n"
        "print(client.predict('pima', {'x': 1}).value)\n"
    )
    with worker.serving(), _python(code, redis_url) as program:
        out, err = program.communicate(timeout=30)
    assert (program.returncode, out, err) == (0, "2\n", "")


def test_ctrl_c_interrupts_a_waiting_call(
    redis_url: str, worker: StubWorker, eventually: Callable[..., Any]
) -> None:
    code = (
        "import sys; from scoreline_client import Client\n"
        "try: Client(sys.argv[1]).predict('pima', {'x': 1}, timeout=60)\n"
        "except KeyboardInterrupt: print('interrupted')\n"
    )
    with _python(code, redis_url) as program:
        eventually(lambda: worker.redis.xlen(worker.keys.lane(Lane.ONLINE)))
        out, errors = None, ""
        # Python drops an interrupt that meets it collecting garbage; who pressed Ctrl-C in vain presses it again.
        while out is None:
            program.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                out, errors = program.communicate(timeout=10)
    assert out == "interrupted\n", errors


_CHILD_THAT_ENDS = (
    "import os, signal, sys; from scoreline_client import Client\n"
    "client = Client(sys.argv[1])\n"
    "client.predict('pima', {{'x': 1}})\n"
    "job = client.submit('pima', [{{'x': 1}}])\n"
    "child = os.fork()\n"
    "if child == 0:\n"
    "    signal.alarm(20)  # ends a child that hangs\n"
    "    {work}\n"
    "    sys.exit(7)\n"
    "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    "print(client.predict('pima', {{'x': 3}}).value)\n"
)


@pytest.mark.parametrize(
    "work",
    [
        "pass",
        "client = None",
        "client.close()",
        "client.predict('pima', {'x': 2})",
        "client.predict('pima', {'x': 2}); client = None",
        "job.status()",
    ],
    ids=["unused", "dropped", "closed", "used", "used and dropped", "looking at a job"],
)
def test_a_forked_child_that_inherited_a_client_ends_as_any_process_does(
    redis_url: str, worker: StubWorker, work: str
) -> None:
    code = _CHILD_THAT_ENDS.format(work=work)
    with worker.serving(), _python(code, redis_url) as program:
        out, err = program.communicate(timeout=40)
    assert (program.returncode, out, err) == (0, "7\n6\n", "")


def test_a_forked_child_ends_while_its_parent_reads_rows(
    redis_url: str, worker: StubWorker, tmp_path: Path
) -> None:
    source = _many_rows(tmp_path)
    work = "del rows"
    code = _CHILD_THAT_ENDS.format(work=work).replace(
        "child =", f"rows = client.score_rows('pima', {str(source)!r}); next(rows); child =", 1
    )
    code += "print(int(next(rows).prediction.value))\n"
    with worker.serving(double_lines), _python(code, redis_url) as program:
        out, err = program.communicate(timeout=40)
    assert (program.returncode, out, err) == (0, "7\n6\n2\n", "")


def _many_rows(tmp_path: Path) -> Path:
    """A file that is several requests."""
    source = tmp_path / "in.csv"
    source.write_text("x\n" + "1\n" * 40_000)
    return source


def double_lines(request: Request) -> Answer:
    """Twice the one column of a CSV chunk."""
    if request.codec is not Codec.CSV:
        return double(request)
    lines = CsvChunk.decode(request.body)[1].tobytes().splitlines()
    answered = b"".join(b"%s,%d,\n" % (one, 2 * int(one)) for one in lines)
    return Answer(
        id=request.id, model="pima", version=7, codec=Codec.CSV, records=len(lines), body=answered
    )


def test_rows_that_are_half_read_end_with_their_client(
    client_settings: ClientSettings,
    worker: StubWorker,
    tmp_path: Path,
    eventually: Callable[[Callable[[], Any]], Any],
) -> None:
    threads = threading.active_count()
    client = Client(settings=client_settings)
    rows: Any = client.score_rows("pima", _many_rows(tmp_path))
    with worker.serving(double_lines):
        assert next(rows).prediction.value == 2
        client.close()
        rows.close()
    assert client._running is None
    # The loop tells the threads that read the file to end, and does not wait for them.
    eventually(lambda: threading.active_count() == threads)


def test_rows_of_a_closed_client_do_not_just_end(
    sync_client: Client, worker: StubWorker, tmp_path: Path
) -> None:
    rows: Any = sync_client.score_rows("pima", _many_rows(tmp_path))
    with worker.serving(double_lines):
        next(rows)
        sync_client.close()
        with pytest.raises(RuntimeError, match="client was closed"):
            for _ in rows:
                pass
