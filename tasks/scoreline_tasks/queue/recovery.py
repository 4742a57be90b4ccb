"""Takes over the requests of processes that died, without dying of them in turn.

One of the requests may be what killed its process. So they are scored in a throw-away process. When that
dies, they are halved until the fatal request is found, and that one until its fatal record is found. A
record that kills its process twice when it is alone is given up: it gets an error, its neighbours get their
answers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Status, decode_reply_to
from scoreline_tasks.queue.drain import Lease
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Batcher, Entry, Finished, refuse
from scoreline_tasks.system import ChildDied, Fork

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often abandoned requests are tried before they are given up unscored."""
ALONE = 2
"""How often a request may kill its throw-away process when it is alone in it."""

Scored = tuple[bytes, str, str, bytes]
"""An answer as it leaves a throw-away process: the entry's id, the request's, reply_to, and the answer itself."""


def score_here(
    batcher: Batcher,
    entries: Sequence[Entry],
    now_ms: int,
    limit_s: float,
    is_wanted: Callable[[], bool] = lambda: True,
) -> list[Scored]:
    """Score entries in a fork of this process, which must not have scored anything itself.

    Raises:
        ChildTimedOut: it had not finished after `limit_s` seconds, or nobody wants its answers any more.
        ChildDied: the process was killed, or ended early.
    """

    def work() -> list[Scored]:
        return [
            (finished.entry.id, finished.request_id, finished.reply_to, finished.answer)
            for finished in batcher.answer(entries, now_ms)
        ]

    return [tuple(one) for one in Fork(work).result(limit_s, is_wanted)]


class Rescue:
    """Answers the requests that dead processes left behind."""

    def __init__(
        self,
        queue: RequestQueue,
        batcher: Batcher,
        lease: Lease,
        *,
        limit_s: float,
        score: Callable[[Sequence[Entry], int, float], list[Scored]] | None = None,
    ) -> None:
        """`limit_s` is how long scoring one batch may take; `score` does it in a throw-away process."""
        self._queue = queue
        self._batcher = batcher
        self._lease = lease
        self._limit_s = limit_s
        self._score_apart = score or partial(score_here, batcher)

    def run(self) -> int:
        """Claim and answer all that is abandoned now; returns the number of requests."""
        count = 0
        for lane in Lane:
            while entries := self._queue.claim(lane, self._lease.lease_ms):
                logger.warning(
                    "requests_claimed lane=%s count=%d: their worker is gone, they are scored again",
                    lane.value,
                    len(entries),
                )
                with self._lease.hold(entries):
                    self._answer(entries)
                count += len(entries)
        self._queue.forget_dead_consumers()
        return count

    def _answer(self, entries: Sequence[Entry]) -> None:
        """Answer claimed entries, or drop those whose job is over."""
        now_ms = self._queue.server_time_ms()
        wanted: list[Entry] = []
        for entry in entries:
            if entry.job and self._queue.look_at(entry, now_ms)[1]:
                self._queue.drop(entry)
            else:
                wanted.append(entry)
        again: list[Entry] = []
        for entry, attempts in zip(wanted, self._queue.count_attempts(wanted), strict=True):
            if attempts <= ATTEMPTS:
                again.append(entry)
            else:
                reason = f"{attempts} processes that tried to score it did not survive it"
                self._queue.finish([self._give_up(entry, reason)])
        if again:
            for finished in self._score(again):
                self._queue.finish(finished)

    def _score(
        self, entries: Sequence[Entry], part: Sequence[bytes] | None = None
    ) -> Iterator[list[Finished]]:
        """Score entries in a throw-away process; when it dies, each half of them apart.

        A single entry is halved by its records. `part` holds the records of such a half.
        """
        records = part or (self._batcher.records_of(entries[0]) if len(entries) == 1 else [])
        is_indivisible = len(entries) == 1 and len(records) < 2
        for _ in range(ALONE if is_indivisible else 1):
            try:
                yield self._score_in_fork(entries)
            except ChildDied as death:
                reason = str(death)
            else:
                return
        if is_indivisible:
            reason = f"scoring it alone killed {ALONE} processes: {reason}"
            yield [self._give_up(entries[0], reason, "record" if part else "request")]
            return
        if not records:
            middle = len(entries) // 2
            yield from self._score(entries[:middle])
            yield from self._score(entries[middle:])
            return
        (entry,), middle = entries, len(records) // 2
        answers = [
            Answer.decode(item.answer)
            for half in (records[:middle], records[middle:])
            for finished in self._score([entry_with_records(entry, half)], half)
            for item in finished
        ]
        merged = merge_answers(answers)
        yield [Finished(entry, merged.id, decode_reply_to(entry.fields), merged.encode())]

    def _score_in_fork(self, entries: Sequence[Entry]) -> list[Finished]:
        answers = self._score_apart(entries, self._queue.server_time_ms(), self._limit_s)
        by_id = {entry.id: entry for entry in entries}
        return [
            Finished(by_id[entry_id], request_id, reply_to, answer)
            for entry_id, request_id, reply_to, answer in answers
        ]

    def _give_up(self, entry: Entry, reason: str, kind: str = "request") -> Finished:
        """Keep a copy of a request or record for an operator to look at; returns its answer."""
        logger.error("%s_dead id=%s lane=%s: %s", kind, entry.request_id, entry.lane.value, reason)
        self._queue.add_dead_letter(entry, reason)
        return refuse(entry, RequestRefused(Code.CRASHED, f"the {kind} was given up: {reason}"))


def entry_with_records(entry: Entry, records: Sequence[bytes]) -> Entry:
    """The same entry as if these were all of its records."""
    return replace(entry, fields={**entry.fields, b"body": b"[" + b",".join(records) + b"]"})


def merge_answers(answers: Sequence[Answer]) -> Answer:
    """The answer to a request, from those to parts of it, in order.

    A part that was given up is one record, and its refusal becomes that record's error. Any other refusal,
    for the request's version or its time, is the answer to the whole.
    """
    errors: dict[str, dict[str, Any]] = {}
    warnings: dict[str, list[dict[str, Any]]] = {}
    values: list[Any] = []
    probabilities: list[list[float] | None] = []
    for answer in answers:
        start = len(values)
        if answer.status is Status.ERROR and answer.error is not None:
            if answer.error["code"] != Code.CRASHED.value:
                return answer
            errors[str(start)] = answer.error
            values.append(None)
            probabilities.append(None)
            continue
        errors |= {str(start + int(index)): error for index, error in answer.errors.items()}
        warnings |= {str(start + int(index)): found for index, found in answer.warnings.items()}
        probabilities += answer.probabilities or [None] * len(answer.values)
        values += answer.values
    # Of a part without a single prediction it is not said what probabilities are for.
    told = (answer for answer in answers if answer.classes or answer.outputs)
    like = next(told, None) or next((answer for answer in answers if answer.version), answers[0])
    return replace(
        like,
        status=Status.OK,
        error=None,
        records=len(values),
        values=values,
        probabilities=probabilities if any(probabilities) else None,
        errors=errors,
        warnings=warnings,
    )
