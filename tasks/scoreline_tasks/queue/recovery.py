"""Takes over the requests of processes that died, without dying of them in turn.

One of them may be what killed its process. So they are scored in a throw-away process; when that
dies, the requests are halved until the one is found, and then its records. A record that kills its
process alone, twice, is given up: it gets an error, its neighbours get their answers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from scoreline_client.codes import Code
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, decode_reply_to
from scoreline_tasks.queue.bisect import crashed, joined, with_records
from scoreline_tasks.queue.lease import Lease
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Batcher, Entry, Finished, refuse
from scoreline_tasks.scoring.predict import RequestProblem
from scoreline_tasks.system.fork_runner import Died, run_apart

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often abandoned requests are tried before they are given up unscored."""
ALONE = 2
"""How often a request may kill its throw-away process when it is alone in it."""


class Rescue:
    """Answers what dead processes left behind."""

    def __init__(
        self, queue: RequestQueue, batcher: Batcher, lease: Lease, *, limit_s: float
    ) -> None:
        self._queue = queue
        self._batcher = batcher
        self._lease = lease
        self._limit_s = limit_s

    def run(self) -> int:
        """Claim and answer all that is abandoned now; returns how many requests that were."""
        count = 0
        for lane in Lane:
            while entries := self._queue.claim(lane, self._lease.lease_ms):
                logger.warning(
                    "requests_claimed lane=%s count=%d: their worker is gone, they are scored again",
                    lane.value,
                    len(entries),
                )
                with self._lease.hold(entries):
                    now_ms = self._queue.server_time_ms()
                    self._answer([one for one in entries if not self._dropped(one, now_ms)])
                count += len(entries)
        self._queue.forget_dead_consumers()
        return count

    def _dropped(self, entry: Entry, now_ms: int) -> bool:
        _, is_deserted = self._queue.look_at(entry, now_ms)
        if is_deserted:
            self._queue.drop(entry)
        return is_deserted

    def _answer(self, entries: Sequence[Entry]) -> None:
        attempts = self._queue.count_attempts(entries)
        again = [e for e, count in zip(entries, attempts, strict=True) if count <= ATTEMPTS]
        for entry, count in zip(entries, attempts, strict=True):
            if count > ATTEMPTS:
                self._give_up(entry, f"{count} processes that tried to score it did not survive it")
        if again:
            self._answer_apart(again)

    def _answer_apart(self, entries: Sequence[Entry]) -> None:
        records = self._batcher.records_of(entries[0]) if len(entries) == 1 else []
        is_single = len(entries) == 1 and len(records) < 2
        for _ in range(ALONE if is_single else 1):
            try:
                finished = self._score_apart(entries)
            except Died as error:
                reason = str(error)
            else:
                self._queue.finish(finished)
                return
        if is_single:
            self._give_up(entries[0], _fatal(reason))
            return
        if records:
            self._answer_divided(entries[0], records)
            return
        middle = len(entries) // 2
        self._answer_apart(entries[:middle])
        self._answer_apart(entries[middle:])

    def _answer_divided(self, entry: Entry, records: Sequence[bytes]) -> None:
        answer = joined(self._answers_to_halves(entry, records))
        reply_to = decode_reply_to(entry.fields)
        self._queue.finish([Finished(entry, answer.id, reply_to, answer.encode())])

    def _answers_to(self, entry: Entry, records: Sequence[bytes]) -> list[Answer]:
        """Answers to all records of an entry, each for some of them, in order."""
        part = with_records(entry, records)
        for _ in range(ALONE if len(records) == 1 else 1):
            try:
                (finished,) = self._score_apart([part])
            except Died as error:
                reason = str(error)
            else:
                return [Answer.decode(finished.answer)]
        if len(records) == 1:
            logger.error(
                "record_dead id=%s lane=%s: %s", entry.request_id, entry.lane.value, reason
            )
            self._queue.bury(part, reason)
            return [crashed(entry.request_id, _fatal(reason))]
        return self._answers_to_halves(entry, records)

    def _answers_to_halves(self, entry: Entry, records: Sequence[bytes]) -> list[Answer]:
        middle = len(records) // 2
        return [
            *self._answers_to(entry, records[:middle]),
            *self._answers_to(entry, records[middle:]),
        ]

    def _score_apart(self, entries: Sequence[Entry]) -> list[Finished]:
        now_ms = self._queue.server_time_ms()
        results = run_apart(_packed(self._batcher, entries, now_ms), self._limit_s)
        fields = [results[start : start + 3] for start in range(0, len(results), 3)]
        by_id = {entry.id: entry for entry in entries}
        return [
            Finished(by_id[entry_id], request_id.decode(), reply_to.decode(), answer)
            for entry_id, (request_id, reply_to), answer in (
                (one[0], one[1].split(b" "), one[2]) for one in fields
            )
        ]

    def _give_up(self, entry: Entry, reason: str) -> None:
        message = f"the request was given up: {reason}"
        logger.error("request_dead id=%s lane=%s: %s", entry.request_id, entry.lane.value, reason)
        self._queue.bury(entry, reason)
        self._queue.finish([refuse(entry, RequestProblem(Code.CRASHED, message))])


def _packed(batcher: Batcher, entries: Sequence[Entry], now_ms: int) -> Callable[[], list[bytes]]:
    def work() -> list[bytes]:
        return [
            part
            for one in batcher.answer(entries, now_ms)
            for part in (one.entry.id, f"{one.request_id} {one.reply_to}".encode(), one.answer)
        ]

    return work


def _fatal(reason: str) -> str:
    return f"scoring it alone killed {ALONE} processes: {reason}"
