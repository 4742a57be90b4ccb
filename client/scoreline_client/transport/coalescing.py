"""Request coalescing: callers with one record each, who ask at the same moment, share a request.

The cost of a request (its entry, its part of a batch, its answer) is then paid once for many records.
Each caller gets the answer to its own record, or its error, and waits as long as its own timeout.
"""

from __future__ import annotations

import asyncio
from collections import Counter
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


class PredictionFuture(Protocol):
    """What a caller waits for: a future of asyncio, or what a thread has instead."""

    def done(self) -> bool:
        """Whether the caller waits no longer."""

    def cancel(self) -> Any:
        """End the wait without an answer."""

    def set_result(self, result: Prediction, /) -> None:
        """End the wait with the caller's prediction."""

    def set_exception(self, exception: BaseException, /) -> None:
        """End the wait with what went wrong."""


class Caller:
    """Who waits for the prediction of one record."""

    __slots__ = ("future", "record", "timeout_s")

    def __init__(self, future: PredictionFuture, record: bytes, timeout_s: float) -> None:
        self.future = future
        self.record = record
        self.timeout_s = timeout_s

    def fail(self, error: BaseException) -> None:
        """End the wait with an error, unless it has ended."""
        if not self.future.done():
            # A copy: raised by several callers, one error would gather all of their tracebacks.
            own = type(error).__new__(type(error))
            own.args = error.args
            own.__dict__.update(error.__dict__)
            own.__cause__ = error.__cause__
            self.future.set_exception(own)


class Coalescer:
    """Gathers the records of one turn of the event loop into requests, and hands out their answers."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._gathered: dict[tuple[str, bytes, int], list[Caller]] = {}
        self._gathered_bytes: Counter[tuple[str, bytes, int]] = Counter()
        settings = transport.settings
        self._most_records = min(SHARED_RECORDS, settings.max_request_records)
        # The last record may double it, and there is a comma to each.
        self._most_bytes = min(SHARED_BYTES, (settings.max_request_bytes - SHARED_RECORDS) // 2 - 1)

    def submit(
        self, model: str, record: bytes, options: bytes, timeout_s: float, future: PredictionFuture
    ) -> None:
        """Ask for the prediction of one encoded record; to be called on the event loop.

        The future gets a Prediction, or RecordRejected, RequestRefused, NoAnswer, QueueFull or
        ServerUnreachable.
        """
        caller = Caller(future, record, timeout_s)
        if len(record) > min(LARGE_BYTES, self._most_bytes):
            self._send(model, options, [caller])
            return
        # A request expires as a whole: only callers with about the same timeout share one.
        key = (model, options, frexp(timeout_s)[1])
        callers = self._gathered.get(key)
        if callers is None:
            if not self._gathered:
                asyncio.get_running_loop().call_soon(self._send_gathered)
            callers = self._gathered[key] = []
        callers.append(caller)
        self._gathered_bytes[key] += len(record)
        if len(callers) >= self._most_records or self._gathered_bytes[key] > self._most_bytes:
            del self._gathered[key], self._gathered_bytes[key]
            self._send(model, options, callers)

    def close(self) -> None:
        """Cancel the callers whose requests were not sent yet."""
        gathered, self._gathered = self._gathered, {}
        for callers in gathered.values():
            _cancel(callers)

    def _send_gathered(self) -> None:
        gathered, self._gathered = self._gathered, {}
        self._gathered_bytes.clear()
        for (model, options, _), callers in gathered.items():
            self._send(model, options, callers)
        self._transport.flush()

    def _send(self, model: str, options: bytes, callers: list[Caller]) -> None:
        """Send one request for these callers, and see to it that each of them gets its answer in time."""
        callers = [caller for caller in callers if not caller.future.done()]
        if not callers:
            return
        request = Request(
            id=new_id(),
            model=model,
            body=b"[" + b",".join([caller.record for caller in callers]) + b"]",
            options=options,
            reply_to=self._transport.client_id,
            expires_ms=max(1, int(max([caller.timeout_s for caller in callers]) * 1000)),
            apart=len(callers) > 1,
        )
        loop = asyncio.get_running_loop()
        sent = self._transport.send(request, Lane.ONLINE, weight=len(callers))
        sent_at = loop.time()

        timer: asyncio.TimerHandle

        def on_timeout() -> None:
            nonlocal timer
            waited_s = loop.time() - sent_at
            late = [caller for caller in callers if caller.timeout_s <= waited_s]
            left = [caller.timeout_s for caller in callers if caller.timeout_s > waited_s]
            if left:
                timer = loop.call_at(sent_at + min(left), on_timeout)
            self._transport.spawn(self._give_up(request.id, late, None if left else sent))

        def on_answer(answer: asyncio.Future[Answer]) -> None:
            timer.cancel()
            if answer.cancelled():
                _cancel(callers)
                return
            error = answer.exception()
            if error is None:
                _hand_out(answer.result(), callers)
                return
            accepted = 0
            if isinstance(error, QueueFull) and 0 < error.room < len(callers):
                accepted = error.room
                self._send(model, options, callers[:accepted])
            for caller in callers[accepted:]:
                caller.fail(error)

        timer = loop.call_at(sent_at + min([one.timeout_s for one in callers]), on_timeout)
        sent.add_done_callback(on_answer)

    async def _give_up(
        self, request_id: str, late: Sequence[Caller], sent: asyncio.Future[Answer] | None
    ) -> None:
        """Tell callers why there is no answer; one that comes meanwhile is still theirs.

        The last callers give up their request, too.
        """
        try:
            diagnosis = await self._transport.diagnose()
            for caller in late:
                caller.fail(NoAnswer(request_id, caller.timeout_s, diagnosis))
        except ScorelineError as error:
            for caller in late:
                caller.fail(error)
        finally:
            if sent is not None:
                sent.cancel()


def _hand_out(answer: Answer, callers: Sequence[Caller]) -> None:
    """Give each caller the prediction of its record, or its error."""
    try:
        predictions = predictions_of(answer)
    # Whatever is wrong with an answer, callers must not wait for it until their time is up.
    except Exception as error:  # noqa: BLE001
        for caller in callers:
            caller.fail(error)
        return
    if len(predictions) != len(callers):
        message = f"a worker gave {len(predictions)} answers for {len(callers)} records"
        for caller in callers:
            caller.fail(RequestRefused(Code.INTERNAL, message))
        return
    for caller, prediction in zip(callers, predictions, strict=True):
        if caller.future.done():
            continue
        if prediction.error is None:
            caller.future.set_result(prediction)
        else:
            caller.future.set_exception(rejected(prediction.error))


def _cancel(callers: Sequence[Caller]) -> None:
    for caller in callers:
        if not caller.future.done():
            caller.future.cancel()
