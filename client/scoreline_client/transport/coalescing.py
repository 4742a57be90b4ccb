"""Callers with one record each: those who ask at the same moment share a request.

What a request costs (its entry, its place in a batch, its answer) is then paid once for many records.
Each caller gets the answer to its own record, or the error of it, and waits as long as it said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import frexp
from typing import Any, Protocol

from scoreline_client.codes import Code
from scoreline_client.errors import NoAnswer, QueueFull, RequestRefused, ScorelineError
from scoreline_client.predictions import Prediction
from scoreline_client.protocol.json_records import predictions_of, rejected
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Request, new_id
from scoreline_client.transport.dispatcher import Transport

SHARED_RECORDS = 64
"""Records of one shared request: more of them hardly make a record cheaper."""
SHARED_BYTES = 32_768
LARGE_BYTES = 8_192
"""A record from this size on travels alone: it gains nothing, and may be too large for a worker."""


class Caller(Protocol):
    """Somebody who waits for a prediction: a future of asyncio's, or a thread."""

    def done(self) -> bool:
        """Whether it waits no more."""

    def cancel(self) -> Any:
        """Send it away without an answer."""

    def set_result(self, result: Prediction, /) -> None:
        """Give it its answer."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Give it what went wrong."""


class _Waiter:
    """A caller, its record, and how long it waits."""

    __slots__ = ("caller", "record", "timeout_s")

    def __init__(self, caller: Caller, record: bytes, timeout_s: float) -> None:
        self.caller = caller
        self.record = record
        self.timeout_s = timeout_s


class _Shared:
    """One request of several callers: being put together, then on its way."""

    __slots__ = ("begun", "id", "model", "options", "sent", "size", "timer", "waiters")

    id: str
    sent: asyncio.Future[Answer]
    timer: asyncio.TimerHandle
    begun: float

    def __init__(self, model: str, options: bytes) -> None:
        self.model = model
        self.options = options
        self.waiters: list[_Waiter] = []
        self.size = 0

    def first(self, count: int) -> _Shared:
        """The same for the first callers only."""
        part = _Shared(self.model, self.options)
        part.waiters = self.waiters[:count]
        return part


class Singles:
    """Gathers the records of one tick of the event loop, and hands out the answers."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._open: dict[tuple[str, bytes, int], _Shared] = {}
        settings = transport.settings
        self._most_records = min(SHARED_RECORDS, settings.max_request_records)
        # The last record may double it, and there is a comma to each.
        self._most_bytes = min(SHARED_BYTES, (settings.max_request_bytes - SHARED_RECORDS) // 2 - 1)

    def ask(
        self, model: str, record: bytes, options: bytes, timeout_s: float, caller: Caller
    ) -> None:
        """Ask about one record, encoded; to be called on the event loop.

        The caller gets a Prediction, or RecordRejected, RequestRefused, NoAnswer, QueueFull or
        ServerUnreachable.
        """
        waiter = _Waiter(caller, record, timeout_s)
        if len(record) > min(LARGE_BYTES, self._most_bytes):
            alone = _Shared(model, options)
            alone.waiters.append(waiter)
            self._send(alone)
            return
        # Only who waits about equally long shares, since a request expires as a whole.
        key = (model, options, frexp(timeout_s)[1])
        shared = self._open.get(key)
        if shared is None:
            if not self._open:
                asyncio.get_running_loop().call_soon(self._send_all)
            shared = self._open[key] = _Shared(model, options)
        shared.waiters.append(waiter)
        shared.size += len(record)
        if len(shared.waiters) >= self._most_records or shared.size > self._most_bytes:
            del self._open[key]
            self._send(shared)

    def close(self) -> None:
        """Send everybody away who was not sent yet."""
        gathered, self._open = self._open, {}
        for shared in gathered.values():
            _send_away(shared)

    def _send_all(self) -> None:
        gathered, self._open = self._open, {}
        for shared in gathered.values():
            self._send(shared)
        self._transport.flush()

    def _send(self, shared: _Shared) -> None:
        waiters = shared.waiters = [one for one in shared.waiters if not one.caller.done()]
        if not waiters:
            return
        request = Request(
            id=new_id(),
            model=shared.model,
            body=b"[" + b",".join([one.record for one in waiters]) + b"]",
            options=shared.options,
            reply_to=self._transport.client_id,
            expires_ms=max(1, int(max(one.timeout_s for one in waiters) * 1000)),
            apart=len(waiters) > 1,
        )
        shared.id = request.id
        shared.sent = self._transport.send(request, Lane.ONLINE, weight=len(waiters))
        loop = asyncio.get_running_loop()
        shared.begun = loop.time()
        self._look_again(shared, waiters)
        shared.sent.add_done_callback(lambda done: self._hand_out(shared, done))

    def _look_again(self, shared: _Shared, waiters: Sequence[_Waiter]) -> None:
        soonest = min(one.timeout_s for one in waiters)
        loop = asyncio.get_running_loop()
        shared.timer = loop.call_at(shared.begun + soonest, self._look_at_time, shared)

    def _look_at_time(self, shared: _Shared) -> None:
        waited_s = asyncio.get_running_loop().time() - shared.begun
        left = [one for one in shared.waiters if one.timeout_s > waited_s]
        if left:
            self._look_again(shared, left)
        late = [one for one in shared.waiters if one.timeout_s <= waited_s]
        self._transport.spawn(self._give_up(shared, late, is_last=not left))

    async def _give_up(self, shared: _Shared, late: Sequence[_Waiter], *, is_last: bool) -> None:
        """Tell callers why there is no answer. One that comes in meanwhile is still welcome."""
        try:
            diagnosis = await self._transport.diagnose()
        except ScorelineError as error:
            _fail(late, error)
        else:
            for one in late:
                _fail([one], NoAnswer(shared.id, one.timeout_s, diagnosis))
        finally:
            if is_last:
                shared.sent.cancel()

    def _hand_out(self, shared: _Shared, done: asyncio.Future[Answer]) -> None:
        shared.timer.cancel()
        if done.cancelled():
            _send_away(shared)
            return
        error = done.exception()
        if error is None:
            _answer(shared.waiters, done.result())
        elif isinstance(error, QueueFull) and 0 < error.room < len(shared.waiters):
            self._send(shared.first(error.room))
            _fail(shared.waiters[error.room :], error)
        else:
            _fail(shared.waiters, error)


def _answer(waiters: Sequence[_Waiter], answer: Answer) -> None:
    try:
        predictions = _predictions(answer, len(waiters))
    # Whatever is wrong with an answer, callers must not wait for it until their time is up.
    except Exception as error:  # noqa: BLE001
        _fail(waiters, error)
        return
    for one, prediction in zip(waiters, predictions, strict=True):
        caller = one.caller
        if caller.done():
            continue
        if prediction.error is None:
            caller.set_result(prediction)
        else:
            caller.set_exception(rejected(prediction.error))


def _predictions(answer: Answer, count: int) -> list[Prediction]:
    predictions = predictions_of(answer)
    if len(predictions) != count:
        message = f"a worker gave {len(predictions)} answers for {count} records"
        raise RequestRefused(Code.INTERNAL, message)
    return predictions


def _fail(waiters: Sequence[_Waiter], error: BaseException) -> None:
    for one in waiters:
        if not one.caller.done():
            one.caller.set_exception(_twin(error))


def _twin(error: BaseException) -> BaseException:
    """The same error once more: raised by several callers, one would gather all their tracebacks."""
    twin = type(error).__new__(type(error))
    twin.args = error.args
    twin.__dict__.update(error.__dict__)
    twin.__cause__ = error.__cause__
    return twin


def _send_away(shared: _Shared) -> None:
    for one in shared.waiters:
        if not one.caller.done():
            one.caller.cancel()
