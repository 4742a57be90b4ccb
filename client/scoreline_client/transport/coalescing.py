"""Request coalescing: callers with one record each, who ask at the same moment, share a request.

The cost of a request (its entry, its part of a batch, its answer) is then paid once for many records.
Each caller gets the answer to its own record, or its error, and waits as long as its own timeout.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from math import frexp
from typing import Any, Protocol

from scoreline_client.codes import Code
from scoreline_client.errors import NoAnswer, QueueFull, RequestRefused, ScorelineError
from scoreline_client.predictions import Prediction
from scoreline_client.protocol.json_records import predictions_of, rejected
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Request, new_id
from scoreline_client.tracing import joined
from scoreline_client.transport.dispatcher import Transport

SHARED_RECORDS = 64
"""Records of one shared request: more of them hardly make a record cheaper."""
SHARED_BYTES = 32_768
UNANSWERED = 2
"""While so many requests of single records are unanswered, new records are held; one for each of two processes that score."""
HELD_S = 0.002
"""How long records are held at most, while fewer than MANY requests are unanswered."""
MANY = 16
"""While so many requests are unanswered, records wait for the answer to an earlier request for the same model."""
LONGEST_HELD_S = 0.02
"""How long at most: theirs would come after it all the same, unless other workers are idle."""
LARGE_BYTES = 8_192
"""A record from this size on travels alone: it gains nothing, and may be too large for a worker."""


class PredictionFuture(Protocol):
    """The prediction that a caller waits for: a future of asyncio, or a client's ThreadFuture."""

    def done(self) -> bool:
        """Whether the caller waits no longer."""

    def cancel(self) -> Any:
        """End the wait without an answer."""

    def set_result(self, result: Prediction, /) -> None:
        """End the wait with the caller's prediction."""

    def set_exception(self, exception: BaseException, /) -> None:
        """End the wait with an error."""


class Caller:
    """A caller who waits for the prediction of one record."""

    __slots__ = ("future", "record", "shared", "timeout_s", "trace", "until")

    def __init__(
        self,
        future: PredictionFuture,
        record: bytes,
        timeout_s: float,
        now: float,
        trace: str = "",
    ) -> None:
        self.future = future
        self.record = record
        self.timeout_s = timeout_s
        self.trace = trace
        self.until = now + timeout_s
        """The end of the wait by the loop's clock, whatever becomes of the request in the meantime."""
        self.shared: SharedRequest | None = None
        """The request, once it is sent."""

    def fail(self, error: BaseException) -> None:
        """End the wait with an error, unless it has ended."""
        if not self.future.done():
            # A copy: raised by several callers, one error would gather all of their tracebacks.
            copy = type(error).__new__(type(error))
            copy.args = error.args
            copy.__dict__.update(error.__dict__)
            copy.__cause__ = error.__cause__
            self.future.set_exception(copy)


class SharedRequest:
    """A request of several callers: gathered in one turn of the loop, then sent."""

    __slots__ = ("answer", "callers", "id", "model", "options", "size", "timer")

    id: str
    answer: asyncio.Future[Answer]
    timer: asyncio.TimerHandle

    def __init__(self, model: str, options: bytes, callers: list[Caller]) -> None:
        self.model = model
        self.options = options
        self.callers = callers
        self.size = 0
        """Bytes of the callers' records."""


class Coalescer:
    """Gathers the records of one turn of the event loop into requests, and hands out their answers."""

    def __init__(self, transport: Transport) -> None:
        """To be called on the event loop that it is for."""
        self._transport = transport
        # Each look for the running loop asks Linux for the process (Python 3.11): callers would pay for several.
        self._loop = asyncio.get_running_loop()
        self._gathered: dict[tuple[str, bytes, int], SharedRequest] = {}
        settings = transport.settings
        self._most_records = min(SHARED_RECORDS, settings.max_request_records)
        # The last record may double the size, and each record has a comma.
        self._most_bytes = min(SHARED_BYTES, (settings.max_request_bytes - SHARED_RECORDS) // 2 - 1)
        self._apart_bytes = min(LARGE_BYTES, self._most_bytes)
        self._unanswered = 0
        """Requests that are on their way."""
        self._unanswered_of: Counter[str] = Counter()
        """The same, by model."""
        self._answered: deque[SharedRequest] = deque()
        """Requests whose answers have come and are not delivered yet."""
        self._delivers = False
        """Whether an answer was delivered in this turn of the loop."""
        self._is_closed = False
        self._hold_timer: asyncio.TimerHandle | None = None
        """Sends the held requests at the latest; set while they wait for an answer to others."""

    def submit(
        self,
        model: str,
        record: bytes,
        options: bytes,
        timeout_s: float,
        future: PredictionFuture,
        trace: str = "",
    ) -> Caller:
        """Ask for the prediction of one encoded record; to be called on the event loop. `trace` is the caller's own.

        The future gets a Prediction, or RecordRejected, RequestRefused, NoAnswer, QueueFull or
        ServerUnreachable.
        """
        caller = Caller(future, record, timeout_s, self._loop.time(), trace)
        if len(record) > self._apart_bytes:
            self._send(SharedRequest(model, options, [caller]))
            return caller
        # A request expires as a whole: only callers with about the same timeout share one.
        key = (model, options, frexp(timeout_s)[1])
        shared = self._gathered.get(key)
        if shared is None:
            if not self._gathered:
                self._loop.call_soon(self._end_turn)
            shared = self._gathered[key] = SharedRequest(model, options, [])
        shared.callers.append(caller)
        shared.size += len(record)
        if len(shared.callers) >= self._most_records or shared.size > self._most_bytes:
            del self._gathered[key]
            self._send(shared)
        return caller

    async def ask(
        self, model: str, record: bytes, options: bytes, timeout_s: float, trace: str = ""
    ) -> Prediction:
        """The prediction of one encoded record; a caller who is cancelled cancels nobody who shares the request.

        A request that had this caller alone is taken out of the queue then.

        Raises:
            RecordRejected, RequestRefused, NoAnswer, QueueFull, ServerUnreachable: as for `submit`.
        """
        future: asyncio.Future[Prediction] = self._loop.create_future()
        caller = self.submit(model, record, options, timeout_s, future, trace)
        try:
            return await future
        except asyncio.CancelledError:
            shared = caller.shared
            if shared is not None and all(other.future.done() for other in shared.callers):
                shared.answer.cancel()
            raise

    def close(self) -> None:
        """Cancel the callers whose requests were not sent yet."""
        self._is_closed = True
        while self._answered:
            self._deliver(self._answered.popleft())
        self._end_hold()
        gathered, self._gathered = self._gathered, {}
        for shared in gathered.values():
            _cancel(shared.callers)

    def _end_turn(self) -> None:
        """Send the gathered requests; while UNANSWERED requests are on their way, only when one is answered or after HELD_S.

        Callers who come one by one, as over connections of their own, would otherwise hardly share a request, and
        would wait for the worker that scores the others all the same.
        """
        if self._unanswered < UNANSWERED:
            self._send_gathered()
        elif self._hold_timer is None:
            self._hold_timer = self._loop.call_later(HELD_S, self._send_gathered)

    def _is_held(self, shared: SharedRequest) -> bool:
        """Whether a gathered request waits for the answer to another one for its model.

        With many models, hardly two callers of the same one come within HELD_S: each would have a request of its own.
        """
        first = shared.callers[0]
        # Who gives an answer little time has most of it left for the worker.
        longest_s = min(LONGEST_HELD_S, first.timeout_s / 8)
        return (
            self._unanswered >= MANY
            and self._unanswered_of[shared.model] > 0
            and self._loop.time() < first.until - first.timeout_s + longest_s
        )

    def _end_hold(self) -> None:
        if self._hold_timer is not None:
            self._hold_timer.cancel()
            self._hold_timer = None

    def _send_gathered(self) -> None:
        self._end_hold()
        gathered, self._gathered = self._gathered, {}
        for key, shared in gathered.items():
            if self._is_held(shared):
                self._gathered[key] = shared
                continue
            try:
                self._send(shared)
            # Why one request cannot be sent, such as a time out of range, does not concern the callers of others.
            except Exception as error:  # noqa: BLE001
                for caller in shared.callers:
                    caller.fail(error)
        if self._gathered:
            self._end_turn()
        self._transport.flush()

    def _send(self, shared: SharedRequest) -> None:
        """Send a request whose answer or timeouts end the wait of its callers."""
        callers = shared.callers = [caller for caller in shared.callers if not caller.future.done()]
        if not callers:
            return
        untils = [caller.until for caller in callers]
        traces = [caller.trace for caller in callers if caller.trace]
        request = Request(
            id=new_id(),
            model=shared.model,
            body=b"[" + b",".join([caller.record for caller in callers]) + b"]",
            options=shared.options,
            reply_to=self._transport.client_id,
            expires_ms=max(1, round((max(untils) - self._loop.time()) * 1000)),
            apart=len(callers) > 1,
            callers=len(callers),
            trace=joined(traces) if traces else "",
        )
        for caller in callers:
            caller.shared = shared
        shared.id = request.id
        shared.answer = self._transport.send(request, Lane.ONLINE)
        self._unanswered += 1
        self._unanswered_of[shared.model] += 1
        shared.timer = self._loop.call_at(min(untils), self._on_timeout, shared)
        shared.answer.add_done_callback(lambda _: self._on_answer(shared))

    def _on_answer(self, shared: SharedRequest) -> None:
        """Deliver an answer; of several that come at once, one in each turn of the loop.

        Its callers go on before the next ones: hundreds that are woken together make so many objects at a time that the
        garbage collector looks through the whole program again and again.
        """
        if self._is_closed:
            self._deliver(shared)
            return
        self._answered.append(shared)
        if not self._delivers:
            self._delivers = True
            self._deliver_next()

    def _deliver_next(self) -> None:
        if not self._answered:
            self._delivers = False
            return
        try:
            self._deliver(self._answered.popleft())
        finally:
            self._loop.call_soon(self._deliver_next)

    def _deliver(self, shared: SharedRequest) -> None:
        answer = shared.answer
        shared.timer.cancel()
        self._unanswered -= 1
        self._unanswered_of[shared.model] -= 1
        if not self._unanswered_of[shared.model]:
            del self._unanswered_of[shared.model]
        if self._hold_timer is not None:
            # In the next turn, callers who get their answers now submit their next records, which are sent along.
            self._loop.call_soon(self._loop.call_soon, self._end_turn)
        # Callers and request refer to each other: no cycle is left to the garbage collector.
        callers, shared.callers = shared.callers, []
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
            self._send(SharedRequest(shared.model, shared.options, callers[:accepted]))
        for caller in callers[accepted:]:
            caller.fail(error)

    def _on_timeout(self, shared: SharedRequest) -> None:
        now = self._loop.time()
        late = [caller for caller in shared.callers if caller.until <= now]
        untils = [caller.until for caller in shared.callers if caller.until > now]
        if untils:
            shared.timer = self._loop.call_at(min(untils), self._on_timeout, shared)
        self._transport.spawn(self._give_up(shared, late, is_last=not untils))

    async def _give_up(
        self, shared: SharedRequest, late: Sequence[Caller], *, is_last: bool
    ) -> None:
        """End the wait of callers with the reason why there is no answer; an answer that comes first counts.

        With the last callers, their request is given up.
        """
        try:
            diagnosis = await self._transport.diagnose(shared.id)
            for caller in late:
                caller.fail(NoAnswer(shared.id, caller.timeout_s, diagnosis))
        except ScorelineError as error:
            for caller in late:
                caller.fail(error)
        finally:
            if is_last:
                shared.answer.cancel()


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
