"""Takes over the requests of processes that died, without dying of them in turn.

One of the requests may be what killed its process. So they are scored in throw-away processes. When one of
those dies, or takes too long, its requests are halved until the fatal one is found, and that one's rows until
the fatal row is found, whatever the request's codec. A row that kills its process twice when it is alone there,
or does not end in the longest time that a batch may take, is given up: it gets an error, and its neighbours get
their answers.

Rescues run in a thread of the process that forks, beside whatever serves: none occupies a process that scores.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Protocol, TypeVar

import msgspec
import numpy as np

from scoreline_artifacts.loading.version import LoadedVersion, Scores
from scoreline_artifacts.validation import Problem
from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Status
from scoreline_client.protocol.totals import NOBODY, Totals
from scoreline_tasks.queue.drain import Lease
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Batcher, Entry, Finished, refuse, score_body
from scoreline_tasks.scoring.json_codec import JsonBody
from scoreline_tasks.scoring.predict import Body, joined, score_frame, shifted
from scoreline_tasks.system import ChildDied, ChildTimedOut, Fork, Periodic

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.75
"""Seconds between two looks for requests whose process has stopped renewing them."""
TIDY_EVERY_S = 600.0
ALONE = 2
"""How often a row may kill its throw-away process when it is alone in it."""
RESCUERS = 5
"""How many rescuers may end while they have a request scored. The first of these may have ended of any
request that was scored with it; from then on the request is scored alone."""
AT_ONCE = 256
"""Entries that are scored together, as long as they do not take too long."""
FIRST_LIMIT_S, TIMES = 0.5, 4.0
"""How long a part that can be divided may take: so many seconds, or so many times as long as earlier ones took."""
KILLED_PAUSE_S = 2.0
"""How long to wait after a kill from outside, as by a system without memory, before the same is tried again. It is
tried once more than what ends by itself."""
PARTS = 8
"""How many parts are made of one that takes too long: waiting costs more than forks do. One that dies is halved."""
FATAL_ROWS, LIMITS = 100, 10
"""How many rows of a request may be given up, and how many times as long as a batch scoring them may take, before
the request is given up as a whole."""

_T = TypeVar("_T")
Scored = tuple[bytes, str, str, bytes]
"""An answer as it leaves a throw-away process: the entry's id, the request's, reply_to, and the answer itself."""


@dataclass(frozen=True, slots=True)
class Part:
    """Neighbouring rows of a request's frame, which were scored, or given up, apart from the others."""

    start: int
    stop: int
    scores: bytes = b""
    """Pickled, with the version. Only throw-away processes make them and look into them: there a pipeline may
    do what it likes in any case."""
    reason: str = ""
    """Why they were given up."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a throw-away process is to do with a single request, instead of answering it."""

    rows: tuple[int, int] = (0, 0)
    """Score these rows of its frame; (0, 0) only counts how many there are."""
    parts: tuple[Part, ...] = ()
    """Answer it with the scores of these, which have all of its rows."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a throw-away process has done."""

    answers: Sequence[Scored] = ()
    """For a task, none unless `is_final`."""
    units: int = 0
    """How many parts the rows of the request may be divided into; 0: its pipeline is not called."""
    is_single: bool = False
    """Whether it is a request for the prediction of one record."""
    scores: bytes = b""
    counts: Sequence[tuple[str, str, int]] = ()
    """What it has counted of these answers."""
    letters: Sequence[bytes] = ()
    """For each record that was given up, the body of a request that has nothing but this record."""
    is_final: bool = True


class Division:
    """Stands in for the scoring of a request's frame: scores a few of its rows, or none of them."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.units, self.is_single = 0, False
        self.scores = b""
        self.letters: list[bytes] = []
        self.is_final = False

    def __call__(
        self,
        loaded: LoadedVersion,
        body: Body,
        *,
        each_row_alone: bool,
        pause: Callable[[], None] = lambda: None,
    ) -> tuple[Scores, dict[int, Problem]]:
        """See `score_body`; rows that are not scored have an error."""
        checked, version = body.checked, f"{loaded.model}@{loaded.version}"
        count = len(checked.rows)
        # Rows that depend on each other are scored together or not at all.
        is_divisible = loaded.batchable or each_row_alone
        self.units = count if is_divisible else min(1, count)
        self.is_single = isinstance(body, JsonBody) and count + len(checked.problems) == 1
        if self._task.parts:
            # Another version was released meanwhile, which takes other rows: nothing is put together of two.
            self.is_final = self._task.parts[-1].stop == self.units
            pieces = []
            for part in self._task.parts:
                if part.reason:
                    rows = range(part.start, part.stop) if is_divisible else range(count)
                    pieces.append(_given_up(rows, part.reason))
                    continue
                scored_by, scores, errors = pickle.loads(part.scores)  # noqa: S301 - see Part
                self.is_final &= scored_by == version
                pieces.append((scores, shifted(errors, part.start)))
            self.letters = [
                body.extract(int(checked.indices[row]))
                for part in self._task.parts
                if part.reason and is_divisible
                for row in range(part.start, part.stop)
            ]
            return joined(pieces) if self.is_final else _given_up(range(count), "")
        start, stop = self._task.rows
        if stop > start:
            if not is_divisible:
                start, stop = 0, count
            frame = checked.frame.iloc[start:stop].reset_index(drop=True)
            scored = score_frame(loaded, frame, each_row_alone=each_row_alone, pause=pause)
            self.scores = pickle.dumps((version, *scored))
        return _given_up(range(count), "")


def _given_up(rows: range, reason: str) -> tuple[Scores, dict[int, Problem]]:
    message = f"the record was given up: {reason}"
    nothing = Scores(np.full(len(rows), None, dtype=object), None)
    return nothing, {row: Problem(row, Code.CRASHED.value, message) for row in rows}


class _Settled(Exception):
    """Raised when a request has its answer, or needs none, before all of its rows are scored."""

    def __init__(self, *answers: Finished) -> None:
        super().__init__()
        self.answers = answers


class ScoreApart(Protocol):
    """Has entries scored in a throw-away process."""

    def __call__(
        self,
        entries: Sequence[Entry],
        now_ms: int,
        limit_s: float,
        task: Task | None = None,
        *,
        load_s: float = 0.0,
    ) -> Outcome:
        """Answer entries, or do a task with the only one.

        Raises:
            ChildTimedOut: it had not finished after `limit_s` seconds, and `load_s` for loading versions.
            ChildDied: the process was killed, or ended early.
        """


def perform(
    batcher: Batcher, entries: Sequence[Entry], now_ms: int, task: Task | None = None
) -> Outcome:
    """In a throw-away process: answer entries, or do a task with the only one."""
    division = None if task is None else Division(task)
    answers = [
        (finished.entry.id, finished.request_id, finished.reply_to, finished.answer)
        for finished in batcher.answer(entries, now_ms, score=division or score_body)
    ]
    counts = batcher.totals.take()
    if division is None:
        return Outcome(answers, counts=counts)
    # Where the frame was not reached, or its rows were refused together, the refusal is the answer.
    is_refused = Answer.decode(answers[0][3]).status is Status.ERROR
    is_final = division.is_final or is_refused or not division.units
    return Outcome(
        answers if is_final else (),
        counts=counts if is_final else (),
        units=division.units,
        is_single=division.is_single and not entries[0].job,
        scores=division.scores,
        letters=division.letters,
        is_final=is_final,
    )


def score_here(
    batcher: Batcher,
    entries: Sequence[Entry],
    now_ms: int,
    limit_s: float,
    task: Task | None = None,
    *,
    load_s: float = 0.0,
    prepare: Callable[[], None] = lambda: None,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Outcome:
    """Score entries in a fork of this process, which must not have scored anything itself.

    `prepare` is called in the fork first, to limit what it may use. Then it loads the versions that are not in memory.

    Raises:
        ChildTimedOut: it had not finished after `limit_s` seconds, and `load_s` for loading; or nobody wants its
            answers any more.
        ChildDied: the process was killed, or ended early.
    """

    def prepare_and_load() -> None:
        prepare()
        batcher.load(entries, now_ms)

    fork = Fork(lambda: asdict(perform(batcher, entries, now_ms, task)), prepare_and_load)
    return msgspec.convert(fork.result(limit_s, is_wanted, prepare_s=load_s), Outcome)


class Team:
    """The rescues of one worker: one at a time looks for work, and all that are free share it."""

    def __init__(self) -> None:
        self.rescues: list[Rescue] = []
        self.dead: deque[str] = deque()
        """Consumers of processes that are known to be dead."""
        self.is_leaving = False
        """Whether the worker was told to end: then it releases what its dead have held, and takes over nothing."""
        self.next_look = 0.0
        self.next_tidy = 0.0

    def take_over(self, consumer: str) -> None:
        """Have the requests of a process answered that is known to be dead."""
        self.dead.append(consumer)
        self.wake()

    def wake(self, but: Rescue | None = None) -> None:
        """Have all rescues that are free look now, except for one that does so already."""
        self.next_look = 0.0
        for rescue in self.rescues:
            if rescue is not but:
                rescue.trigger()


class Rescue(Periodic):
    """Answers the requests that dead processes left behind; a thread of a worker's main process."""

    def __init__(
        self,
        queue: RequestQueue,
        lease: Lease,
        score_apart: ScoreApart,
        *,
        limit_s: float,
        load_s: float = 0.0,
        team: Team | None = None,
        lanes: Sequence[Lane] = tuple(Lane),
        totals: Totals | None = None,
    ) -> None:
        """`limit_s` is how long one row may take, `load_s` how long a version that has to be loaded for it.

        What is answered is counted in `totals`.
        """
        super().__init__(
            "rescue",
            LOOK_EVERY_S / 3,
            self.look,
            "rescue_failed: requests of dead processes wait for the next look",
        )
        self._queue = queue
        self._lease = lease
        self._score_apart = score_apart
        self._limit_s = limit_s
        self._load_s = load_s
        self._team = team or Team()
        self._lanes = lanes
        self._totals = totals or Totals()
        self._at_once = AT_ONCE
        self._needed_s = 0.0
        """How long throw-away processes that ended well have taken lately."""

    def look(self) -> None:
        """Release what dead processes held, and answer all that is abandoned."""
        team = self._team
        if not team.dead and time.monotonic() < team.next_look:
            return  # another one has looked
        team.next_look = time.monotonic() + LOOK_EVERY_S
        for consumer in list(team.dead):
            released = self._queue.release(consumer, self._lease.lease_ms)
            logger.debug("consumer_released consumer=%s requests=%d", consumer, released)
            # Only now, so that the next look releases it should Redis be away.
            with suppress(ValueError):
                team.dead.remove(consumer)
        if team.is_leaving:
            return
        is_held, is_abandoned = self._queue.look_for_abandoned(self._lease.lease_ms)
        if not is_held:
            # What is taken from now on is abandoned after a lease at the earliest.
            team.next_look = time.monotonic() + self._lease.lease_ms / 2000
        if is_abandoned:
            if len(self._lanes) < len(Lane):
                team.wake(but=self)  # it may be in a lane that this one does not serve
            self.run()
        if time.monotonic() >= team.next_tidy:
            team.next_tidy = time.monotonic() + TIDY_EVERY_S
            self._queue.forget_dead_consumers()

    def stop(self, wait_s: float = 0) -> None:
        """End. What it has claimed and not answered is taken over by others."""
        super().stop(wait_s)

    def run(self) -> int:
        """Claim and answer all that is abandoned now; returns the number of requests."""
        count = 0
        for lane in self._lanes:
            while entries := self._queue.claim(lane, self._lease.lease_ms, self._at_once):
                # There may be more. Not before: on a server that takes no writes all would look without a rest.
                self._team.wake(but=self)
                logger.warning(
                    "requests_claimed lane=%s count=%d: their process is gone, they are scored again",
                    lane.value,
                    len(entries),
                )
                try:
                    self._answer(entries)
                finally:
                    self._lease.keep(self, ())
                count += len(entries)
        return count

    def _answer(self, entries: Sequence[Entry]) -> None:
        """Answer claimed entries, or drop those whose job is over."""
        self._lease.keep(self, entries)
        now_ms = self._queue.server_time_ms()
        wanted: list[Entry] = []
        for entry in entries:
            if entry.job and self._queue.look_at(entry, now_ms)[1]:
                self._queue.drop(entry)
            else:
                wanted.append(entry)
        if not wanted:
            return
        # By version: nobody waits for one to be loaded that others name.
        by_model: dict[bytes, list[Entry]] = {}
        suspects: list[list[Entry]] = []
        for entry, ended in zip(wanted, self._queue.attempts(wanted), strict=True):
            if ended >= RESCUERS:
                reason = f"{ended} workers that had it scored ended meanwhile"
                self._queue.finish([self._give_up(entry, reason)])
            elif ended:
                suspects.append([entry])  # last, since this process may end of it, too
            else:
                by_model.setdefault(entry.fields.get(b"model", b""), []).append(entry)
        groups = [*by_model.values(), *suspects]
        alone: list[tuple[Entry, ChildDied]] = []
        for group, outcome in self._apart(groups, self._score, wanted, deaths=1):
            if isinstance(outcome, ChildTimedOut) and not outcome.is_prepared:
                self._queue.finish([self._unanswered(entry, outcome, "scoring") for entry in group])
            elif isinstance(outcome, ChildDied):
                alone.append((group[0], outcome))
            else:
                self._queue.finish(_finished(group, outcome))
        # Those that take long come last: those that only die do not wait for them.
        alone.sort(key=lambda item: isinstance(item[1], ChildTimedOut))
        for entry, death in alone:
            self._queue.finish(self._divide(entry, death, wanted))

    def _divide(self, entry: Entry, death: ChildDied, held: Sequence[Entry]) -> list[Finished]:
        """The answer to a request that killed its process alone: only its fatal rows are given up."""

        def do(task: Task) -> Outcome | ChildDied:
            def score(entries: Sequence[Entry], limit_s: float, load_s: float) -> Outcome:
                return self._in_fork(entries, limit_s, load_s, task)

            longest = self._longest_of(entry)
            ((_, done),) = self._apart([[entry]], score, held, deaths=ALONE, longest=longest)
            return done

        # First without its pipeline: it may be reading the request that its process dies of.
        counted = do(Task())
        if isinstance(counted, ChildDied):
            return [self._unanswered(entry, counted, "reading")]
        if counted.is_final:
            return _finished([entry], counted)
        try:
            parts = self._score_rows(entry, counted, death, held)
        except _Settled as settled:
            return list(settled.answers)
        parts.sort(key=lambda part: part.start)
        answered = do(Task(parts=tuple(parts)))
        if isinstance(answered, ChildDied):
            return [self._unanswered(entry, answered, "answering")]
        if not answered.is_final:
            return []  # another version was released meanwhile: it is claimed again, and scored with that
        letters = answered.letters
        # Rows that depend on each other are kept together. A request that has expired meanwhile has no units.
        if not letters and answered.units:
            letters = [entry.fields.get(b"body", b"")]
        reasons = [part.reason for part in parts if part.reason]
        for letter, reason in zip(letters, reasons, strict=False):
            logger.error("record_dead id=%s lane=%s: %s", entry.request_id, entry.lane, reason)
            of_record = replace(entry, fields={**entry.fields, b"body": letter})
            self._queue.add_dead_letter(of_record, reason)
        return _finished([entry], answered)

    def _score_rows(
        self, entry: Entry, counted: Outcome, death: ChildDied, held: Sequence[Entry]
    ) -> list[Part]:
        """Score the rows of a request apart, or give them up: all of them, in parts.

        Raises:
            _Settled: too many are fatal or slow, its job is over, or there is nothing to score any more.
        """
        until = time.monotonic() + LIMITS * self._limit_s

        def score(rows: Sequence[int], limit_s: float, load_s: float) -> Outcome:
            if time.monotonic() > until:
                reason = f"its rows took longer than {LIMITS} times {self._limit_s:g} s"
                raise _Settled(self._give_up(entry, reason))
            if entry.job and self._queue.look_at(entry, self._queue.server_time_ms())[1]:
                self._queue.drop(entry)
                raise _Settled
            return self._in_fork([entry], limit_s, load_s, Task(rows=(rows[0], rows[-1] + 1)))

        rows = range(counted.units)
        pieces: list[Sequence[int]] = []
        slow: list[tuple[Sequence[int], int]] = []
        if not isinstance(death, ChildTimedOut):
            pieces += _divided(rows, 2)
        elif len(rows) > 1:
            pieces += [rows[:1], *_divided(rows[1:], PARTS)]  # a sample first: how long one takes
        else:
            slow.append((rows, 0))  # it was alone already
        parts: list[Part] = []
        fatal = 0
        longest = self._longest_of(entry)
        for piece, outcome in self._apart(
            pieces, score, held, deaths=ALONE, longest=longest, last=slow
        ):
            start, stop = piece[0], piece[-1] + 1
            if isinstance(outcome, Outcome):
                if outcome.is_final:
                    raise _Settled(*_finished([entry], outcome))
                parts.append(Part(start, stop, outcome.scores))
                continue
            is_late = isinstance(outcome, ChildTimedOut)
            if isinstance(outcome, ChildTimedOut) and not outcome.is_prepared:
                raise _Settled(self._unanswered(entry, outcome, "scoring"))
            # Where its pipeline hangs for all rows, each of the others would take as long.
            is_hopeless = is_late and slow and not any(part.scores for part in parts)
            fatal += 1
            reason = f"a process that scored it alone {outcome.reason}"
            if counted.is_single or is_hopeless or fatal + len(slow) > FATAL_ROWS:
                # Of a single record, the request is the record.
                others = "" if counted.is_single else " (and other records of it)"
                raise _Settled(self._give_up(entry, reason + others))
            parts.append(Part(start, stop, reason=reason))
        return parts

    def _longest_of(self, entry: Entry) -> Callable[[], float]:
        return lambda: longest_s(entry, self._queue.server_time_ms(), self._limit_s)

    def _apart(
        self,
        parts: Sequence[Sequence[_T]],
        score: Callable[[Sequence[_T], float, float], Outcome],
        held: Sequence[Entry],
        *,
        deaths: int,
        longest: Callable[[], float] | None = None,
        last: list[tuple[Sequence[_T], int]] | None = None,
    ) -> Iterator[tuple[Sequence[_T], Outcome | ChildDied]]:
        """Score parts in throw-away processes, and divide those that kill their process or take too long.

        Yields every part that was scored, with its outcome; every single item that killed `deaths` processes
        when it was alone, with the last death; and every part whose version could not be loaded in time. Tried at the
        end are parts that wait for a version to be loaded, and, for `longest()` seconds, what takes too long alone;
        of these, the first is tried as soon as there are more than a request may lose. They are kept in `last`, with
        the number of times that each has died. Meanwhile the entries are held, for as long as each try takes.
        """
        todo = [(part, 0) for part in reversed(parts)]
        last = [] if last is None else last
        may_load = longest is not None
        first_limit_s, is_pace_known = FIRST_LIMIT_S, False
        while todo or last:
            is_last_try = not todo or (longest is not None and len(last) > FATAL_ROWS)
            part, died = last.pop() if is_last_try else todo.pop()
            most_s = self._limit_s if longest is None else longest()
            limit_s = min(most_s, max(first_limit_s, TIMES * self._needed_s))
            if is_last_try:
                limit_s, may_load = most_s if longest else limit_s, True
            self._lease.keep(self, held)
            started = time.monotonic()
            try:
                outcome = score(part, limit_s, self._load_s if may_load else 0.0)
            except ChildDied as death:
                is_late = isinstance(death, ChildTimedOut)
                if isinstance(death, ChildTimedOut) and not death.is_prepared:
                    if may_load:
                        yield part, death
                    else:
                        last.append((part, died))
                    continue
                if is_late and not is_pace_known:
                    # Either one item hangs or all are slow: take more time, and one item as a sample.
                    first_limit_s = TIMES * limit_s
                if len(part) > 1 and is_late and not is_pace_known:
                    todo += [(part[1:], 0), (part[:1], 0)]
                elif len(part) > 1:
                    divided = list(_divided(part, PARTS if is_late else 2))
                    todo += [(each, 0) for each in reversed(divided)]
                elif is_late and longest is not None and limit_s < most_s:
                    last.append((part, died))
                elif not is_late and died + 1 < deaths + (death.is_killed and deaths > 1):
                    # The system may be short of memory, and this one not to blame.
                    if death.is_killed:
                        time.sleep(KILLED_PAUSE_S)
                    todo.append((part, died + 1))
                else:
                    yield part, death
            else:
                self._needed_s = max(time.monotonic() - started, self._needed_s * 0.7)
                first_limit_s, is_pace_known = FIRST_LIMIT_S, True
                yield part, outcome

    def _score(self, entries: Sequence[Entry], limit_s: float, load_s: float) -> Outcome:
        try:
            outcome = self._in_fork(entries, limit_s, load_s)
        except ChildTimedOut as late:
            if late.is_prepared:
                self._at_once = max(1, len(entries) // PARTS)
            raise
        self._at_once = min(AT_ONCE, max(self._at_once, 2 * len(entries)))
        return outcome

    def _in_fork(
        self, entries: Sequence[Entry], limit_s: float, load_s: float, task: Task | None = None
    ) -> Outcome:
        """Have entries scored apart; the attempt stays counted if this process, or the one that forks for it, ends."""
        self._queue.begin_attempt(entries)
        has_ended = False
        try:
            now_ms = self._queue.server_time_ms()
            outcome = self._score_apart(entries, now_ms, limit_s, task, load_s=load_s)
        except EOFError:
            has_ended = (
                True  # in the midst of it; where it was not there to begin with is another error
            )
            raise
        finally:
            if not has_ended:
                self._queue.end_attempt(entries)
        self._totals.add_fields(outcome.counts)
        return outcome

    def _unanswered(self, entry: Entry, death: ChildDied, doing: str) -> Finished:
        """The answer to a request that could not be read, or answered; one that was only late is not given up."""
        if not isinstance(death, ChildTimedOut):
            return self._give_up(entry, f"{doing} it killed {ALONE} processes: {death}")
        if death.is_prepared:
            message = f"{doing} the request {death.reason}; ask again when the host has less to do"
            return self._refuse(entry, Code.CRASHED, message)
        model = entry.fields.get(b"model", b"").decode(errors="replace")
        message = f"loading {model} took longer than {self._load_s:g} s; ask again when the host has less to do"
        return self._refuse(entry, Code.NOT_LOADED, message)

    def _give_up(self, entry: Entry, reason: str) -> Finished:
        """Keep a copy of a request for an operator to look at; returns its answer."""
        logger.error("request_dead id=%s lane=%s: %s", entry.request_id, entry.lane, reason)
        self._queue.add_dead_letter(entry, reason)
        return self._refuse(entry, Code.CRASHED, f"the request was given up: {reason}")

    def _refuse(self, entry: Entry, code: Code, message: str) -> Finished:
        self._totals.add_request(code, (NOBODY, NOBODY, entry.lane))
        return refuse(entry, RequestRefused(code, message))


def longest_s(entry: Entry, now_ms: int, limit_s: float) -> float:
    """How long one record of a request may take when it is alone, if a batch may take `limit_s`."""
    if entry.lane is Lane.BULK:
        return limit_s
    # The other callers of the request are to be answered before its time is up.
    left_s = (entry.expires_at_ms - now_ms) / 1000
    return min(limit_s, max(FIRST_LIMIT_S, left_s / 2))


def _divided(part: Sequence[_T], count: int) -> Iterator[Sequence[_T]]:
    """Neighbours together, in up to so many parts of about the same size."""
    size = -(-len(part) // count)
    return (part[start : start + size] for start in range(0, len(part), size))


def _finished(entries: Sequence[Entry], outcome: Outcome) -> list[Finished]:
    by_id = {entry.id: entry for entry in entries}
    return [
        Finished(by_id[entry_id], request_id, reply_to, answer)
        for entry_id, request_id, reply_to, answer in outcome.answers
    ]
