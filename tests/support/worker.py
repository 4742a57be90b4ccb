"""A worker in a few lines of redis-py, so that the client's tests need no other package of ours."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson
from redis import Redis
from redis.exceptions import ResponseError

from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_client.protocol.messages import (
    INLINE_ANSWER_BYTES,
    Answer,
    Operation,
    Request,
    Status,
    StoredNote,
)

Respond = Callable[[Request], Answer | None]
_RESULT_MS = 60_000


def double(request: Request) -> Answer:
    """Twice the column x of each record, by version 7; a record without x, or with an object there, is rejected."""
    answer = Answer(id=request.id, model=request.model.partition("@")[0], version=7)
    if request.operation is Operation.DESCRIBE:
        return answer
    records = orjson.loads(request.body)
    good = [isinstance(one, dict) and "x" in one for one in records]
    errors = {
        str(place): {"code": "E_MISSING_COLUMN", "message": "column 'x' is missing", "column": "x"}
        for place, fine in enumerate(good)
        if not fine
    }
    for place, one in enumerate(records):
        if good[place] and isinstance(one["x"], dict):
            good[place] = False
            message = f"column 'x': {one['x']} is no number"
            errors[str(place)] = {"code": "E_TYPE", "message": message, "column": "x"}
    values = [one["x"] * 2 if fine else None for one, fine in zip(records, good, strict=True)]
    return replace(answer, records=len(records), values=values, errors=errors)


def refuse(code: str, message: str) -> Respond:
    """An answer that refuses each request as a whole."""
    error = {"code": code, "message": message}
    return lambda request: Answer(id=request.id, status=Status.ERROR, error=error)


def entry_fields(request: Request) -> dict[bytes, bytes]:
    """The fields of a request's entry, as a worker reads them from its lane."""
    flat = [each if isinstance(each, bytes) else str(each).encode() for each in request.encode()]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def enqueue(redis: Redis, request: Request, lane: Lane = Lane.ONLINE) -> None:
    """Append a request to a lane, or to a pipeline's commands, without a client and its limits."""
    fields: Any = entry_fields(request)
    redis.xadd(Keys("default").lane(lane), fields)


class StubWorker:
    """Reads the lanes of a queue and answers as it is told."""

    def __init__(self, redis: Redis, queue: str = "default") -> None:
        self.redis = redis
        self.keys = Keys(queue)
        self.seen: list[tuple[Lane, Request]] = []
        """Every request that was read, in order."""
        for lane in Lane:
            with contextlib.suppress(
                ResponseError
            ):  # it is there already, on a replica's successor
                redis.xgroup_create(self.keys.lane(lane), GROUP, id="0", mkstream=True)

    def take(self) -> list[tuple[Lane, bytes, Request]]:
        """What waits now."""
        streams: Any = {self.keys.lane(lane): ">" for lane in Lane}
        lanes = {self.keys.lane(lane).encode(): lane for lane in Lane}
        reply: Any = self.redis.xreadgroup(GROUP, "stub", streams, count=512) or {}
        pairs = (
            [(name, part) for name, parts in reply.items() for part in parts]
            if isinstance(reply, dict)
            else reply
        )
        taken = [
            (lanes[name], entry, Request.decode(fields))
            for name, entries in pairs
            for entry, fields in entries
        ]
        self.seen += [(lane, request) for lane, _, request in taken]
        return taken

    def answer(self, lane: Lane, entry: bytes, request: Request, answer: Answer) -> None:
        """Finish a request as a worker does."""
        data = answer.encode()
        with self.redis.pipeline(transaction=True) as commands:
            commands.set(self.keys.result(request.id), data, nx=True, px=_RESULT_MS)
            commands.xack(self.keys.lane(lane), GROUP, entry)
            commands.xdel(self.keys.lane(lane), entry)
            is_first, *_ = commands.execute()
        if is_first:
            note = StoredNote(request.id).encode() if len(data) > INLINE_ANSWER_BYTES else data
            if request.reply_to:
                self.redis.rpush(self.keys.reply(request.reply_to), note)
            elif request.notify:
                note = StoredNote(request.id).encode()
                self.redis.rpush(self.keys.reply(request.notify), note)

    def step(self, respond: Respond = double) -> int:
        """Answer what waits now; a respond that gives None leaves its request unanswered."""
        taken = self.take()
        for lane, entry, request in taken:
            answer = respond(request)
            if answer is not None:
                self.answer(lane, entry, request, answer)
        return len(taken)

    @contextlib.contextmanager
    def serving(self, respond: Respond = double) -> Iterator[StubWorker]:
        """Answer in a thread for as long as the block lasts."""
        stopped = threading.Event()

        def run() -> None:
            while not stopped.is_set():
                if not self.step(respond):
                    stopped.wait(0.002)

        thread = threading.Thread(target=run, name="stub-worker", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stopped.set()
            thread.join()
