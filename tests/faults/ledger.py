"""The ledger of what clients were told, and the checker, which holds every accepted request against its answer.

A client writes what it got accepted, with the payload, before it reads the answer, and each line is in the
file before the client goes on: what a killed client has written stays.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson

from scoreline_client.protocol.keys import Keys
from scoreline_client.protocol.messages import Answer, Status

_T = TypeVar("_T")
SLOW_S = 0.5
"""An answer that takes longer was held up."""
TOLERANCE = 1e-9
PREDICT, MANY, JOB = "predict", "predict_many", "job"
"""How a request was made; `predict` does not tell its caller the id."""
SILENT = ("", "NoAnswer", "ServerUnreachable")
"""What a caller knows of an answer to an accepted request that has not come: the server says whether there is one."""


class Writer:
    """A client's own file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def _write(self, event: str, **fields: Any) -> None:
        line = {"event": event, "at": time.monotonic(), **fields}
        os.write(self._file, orjson.dumps(line) + b"\n")

    def asked(self, request: str, kind: str, xs: Sequence[float]) -> None:
        """A request is about to be sent, or, of a job, was accepted just now."""
        self._write("asked", id=request, kind=kind, xs=xs)

    def answered(self, request: str, version: int, values: Sequence[Any]) -> None:
        """The answer came."""
        self._write("answered", id=request, version=version, values=values)

    def failed(self, request: str, error: str, *, accepted: bool) -> None:
        """An error came in its place: that of the answer, or of the client."""
        self._write("failed", id=request, error=error, accepted=accepted)

    def replied(self, request: str) -> None:
        """An answer, or a note of it, was on the client's reply list."""
        self._write("replied", id=request)

    def refused(self, error: str, took_s: float) -> None:
        """A job was not accepted."""
        self._write("refused", error=error, took_s=took_s)


@dataclass
class Asked:
    """A request, and what became of it."""

    id: str
    kind: str
    at: float
    xs: list[float]
    version: int = 0
    values: list[Any] | None = None
    error: str = ""
    accepted: bool = True
    ended_at: float | None = None


@dataclass
class Verdict:
    """What the checker has found."""

    accepted: int = 0
    lost: list[str] = field(default_factory=list)
    """Accepted, and there is no answer, nor a word that it expired."""
    twice: list[str] = field(default_factory=list)
    """Answered more than once."""
    wrong: list[str] = field(default_factory=list)
    """Not answered as offline, or otherwise when it was looked at again, or with an error that no request of the load
    deserves."""
    late: list[str] = field(default_factory=list)
    """Answered after their caller's time limit, or expired."""

    def __str__(self) -> str:
        found = {"lost": self.lost, "twice": self.twice, "wrong": self.wrong, "late": self.late}
        some = "; ".join(f"{name}: {', '.join(what[:5])}" for name, what in found.items() if what)
        return some or "nothing"


class Ledger:
    """All clients' files, read as they grow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.requests: dict[str, Asked] = {}
        self.refusals: list[tuple[str, float]] = []
        """Errors of jobs that were not accepted, and how long each took."""
        self.replies: Counter[str] = Counter()
        """Answers, and notes of them, that were on the reply lists, by id: that of a job may be there before its submission has returned."""
        self._read: Counter[Path] = Counter()

    def read(self) -> None:
        """Take in what was written since the last time."""
        for path in sorted(self.folder.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._read[path])
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._read[path] += len(line)
                    self._take(orjson.loads(line))

    def _take(self, line: dict[str, Any]) -> None:
        event, at = line["event"], line["at"]
        if event == "refused":
            self.refusals.append((line["error"], line["took_s"]))
            return
        if event == "asked":
            self.requests[line["id"]] = Asked(line["id"], line["kind"], at, line["xs"])
            return
        if event == "replied":
            self.replies[line["id"]] += 1
            return
        request = self.requests[line["id"]]
        request.ended_at = at
        if event == "answered":
            request.version, request.values = line["version"], line["values"]
        else:
            request.error, request.accepted = line["error"], line["accepted"]

    def open_between(self, since: float, until: float) -> int:
        """Requests that were asked in a while and have no answer yet."""
        self.read()
        requests = self.requests.values()
        return sum(one.ended_at is None and since <= one.at < until for one in requests)

    def answers_since(self, moment: float) -> int:
        """Answers that came after a moment."""
        self.read()
        ended = (one.ended_at for one in self.requests.values() if one.values is not None)
        return sum(at is not None and at > moment for at in ended)

    def recovery_s(self, since: float, of: float, until: float) -> float:
        """Seconds from a fault to the last answer that was held up by it, of what was asked in a while.

        Jobs do not count: their callers look for the answer now and then.
        """
        held_up = (
            one.ended_at - since
            for one in self.requests.values()
            if one.kind != JOB and one.ended_at is not None and one.ended_at > since
            if of <= one.at < until - SLOW_S and one.ended_at - max(one.at, since) > SLOW_S
        )
        return max(held_up, default=0.0)

    def latencies_s(self, since: float, until: float) -> list[float]:
        """How long the answers of requests of a while took, sorted."""
        asked = (one for one in self.requests.values() if since <= one.at < until)
        return sorted(
            one.ended_at - one.at
            for one in asked
            if one.ended_at is not None and one.kind != JOB and one.values is not None
        )

    def check(
        self,
        stored: Callable[[Sequence[str]], Sequence[bytes | None]],
        offline: Callable[[int, Sequence[float]], Any],
        *,
        allowed: Iterable[str] = (),
    ) -> Verdict:
        """Hold every accepted request against its answer.

        `stored` gives the results on the server by id, `offline` what a version answers without a queue.
        `allowed` are errors that the fault is expected to bring, such as JobLost after FLUSHALL.
        """
        self.read()
        verdict, allowed = Verdict(), frozenset(allowed)
        accepted = [one for one in self.requests.values() if one.accepted]
        verdict.accepted = len(accepted)
        silent = [one for one in accepted if one.error in SILENT and one.values is None]
        with_id = [one.id for one in silent if one.kind != PREDICT]
        missing = {name for name, data in zip(with_id, stored(with_id), strict=True) if not data}
        for one in accepted:
            if self.replies[one.id] > 1:
                verdict.twice.append(one.id)
            if one.values is not None or one.error in allowed:
                continue
            found = f"{one.id} {one.kind} {one.error}"
            if one.id in missing or one.error == "JobLost":
                verdict.lost.append(found)
            elif one.error not in (*SILENT, "RequestExpired"):
                verdict.wrong.append(found)
            else:
                verdict.late.append(found)
        self._check_values([one for one in accepted if one.values is not None], offline, verdict)
        self._check_jobs([one for one in accepted if one.kind == JOB], stored, verdict)
        return verdict

    def _check_values(self, answered: list[Asked], offline: Any, verdict: Verdict) -> None:
        for version in {one.version for one in answered}:
            some = [one for one in answered if one.version == version]
            expected = offline(version, [x for one in some for x in one.xs])
            place = 0
            for one in some:
                want, place = expected[place : place + len(one.xs)], place + len(one.xs)
                got = one.values or []
                is_same = len(got) == len(want) and all(isinstance(v, float | int) for v in got)
                if not is_same or not np.allclose(want, got, rtol=0, atol=TOLERANCE):
                    verdict.wrong.append(f"{one.id} {got} for {one.xs} by {version}")

    def _check_jobs(self, jobs: list[Asked], stored: Any, verdict: Verdict) -> None:
        """A job's result is on the server for an hour: it is what its caller was told."""
        told = [one for one in jobs if one.values is not None]
        for one, data in zip(told, stored([one.id for one in told]), strict=True):
            if data is None:
                continue
            answer = Answer.decode(data)
            if answer.status is not Status.OK or answer.values != one.values:
                verdict.wrong.append(f"{one.id} is {answer.values} now, was {one.values}")


def stored_results(redis: Any, keys: Keys) -> Callable[[Sequence[str]], list[bytes | None]]:
    """The results that a server holds, by id."""

    def read(ids: Sequence[str]) -> list[bytes | None]:
        return [data for part in chunked(ids) for data in redis.mget([*map(keys.result, part)])]

    return read


def chunked(items: Iterable[_T], size: int = 1000) -> Iterator[list[_T]]:
    """Lists of up to so many items."""
    rest = iter(items)
    return iter(lambda: list(islice(rest, size)), [])
