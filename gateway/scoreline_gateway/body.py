"""Bodies of requests: read under limits while they arrive, unpacked, and no longer waited for than is fair."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from email.message import Message
from functools import lru_cache
from typing import Any, Self

import orjson
from starlette.requests import Request
from starlette.types import Receive

from scoreline_client.codes import Code
from scoreline_client.errors import MissingDependency, PayloadTooLarge
from scoreline_gateway.access import header
from scoreline_gateway.errors import CallerGone, HttpCode, HttpRefused

RECORD_BYTES, VALUE_BYTES = 232, 40
"""About what a dict of one record and each of its values take, with their places in lists."""
PIECE_BYTES = 1 << 18
"""Bytes that are unpacked at a time: a small body may unpack to very many."""
WATCH_AFTER_S = 0.05
"""Seconds after which a caller who still waits is watched; most have their answer before."""
WHOLE_BODY = "scoreline.body"
"""In the scope of a request whose body was there with its head, as the server received it."""
DISCARD_S, DISCARD_BYTES = 5.0, 1 << 26
"""How much of a refused body is read and dropped: most callers read no answer before they have sent all of it."""


def content_type(request: Request) -> tuple[str, dict[str, str]]:
    """The media type of the body in small letters, empty if there is none, and its parameters."""
    return _content_type(header(request.scope, b"content-type") or b"")


@lru_cache(maxsize=64)  # callers send the same few
def _content_type(raw: bytes) -> tuple[str, dict[str, str]]:
    value, message = raw.decode("latin-1"), Message()
    message["content-type"] = value
    parameters = message.get_params(failobj=[], unquote=True) or []
    kind = value.partition(";")[0].strip().lower()
    return kind, {name.lower(): text for name, text in parameters[1:]}


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, unpacked.

    Raises:
        PayloadTooLarge: it has more than `limit` bytes, packed or not.
        HttpRefused: it is not packed as its header says, did not arrive in time, or the gateway holds too much already.
        CallerGone: the caller has closed the connection.
    """
    body: bytes | None = request.scope.get(WHOLE_BODY)
    if body is not None and len(body) <= limit and not _encoding(request):
        hold(request, len(body))
        return body
    pieces = []
    size = 0
    try:
        async with (
            asyncio.timeout(request.app.settings.gateway_body_s),
            aclosing(body_pieces(request, limit)) as arriving,
        ):
            async for piece in arriving:
                size += len(piece)
                pieces.append(piece)
                hold(request, len(piece))
    except TimeoutError:
        seconds = request.app.settings.gateway_body_s
        message = f"the body did not arrive within {seconds:g} s, but {size} bytes of it"
        raise HttpRefused(408, HttpCode.SLOW_BODY, message) from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def body_pieces(request: Request, limit: int) -> AsyncGenerator[bytes]:
    """The body as it arrives, unpacked, some of it at a time; waits as long as the caller takes.

    Raises:
        PayloadTooLarge, HttpRefused, CallerGone: as for `read_body`, but for the time.
    """
    unpacker = _unpacker(_encoding(request))
    arrived = unpacked = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise CallerGone
        packed = message.get("body", b"")
        arrived += len(packed)
        for piece in unpacker.unpack(packed) if unpacker else (packed,):
            unpacked += len(piece)
            if max(arrived, unpacked) > limit:
                raise PayloadTooLarge(
                    Code.TOO_LARGE, f"the body has more than {limit} bytes, which is the limit"
                )
            if piece:
                yield piece
        if not message.get("more_body"):
            break
    if unpacker and arrived:
        unpacker.check_end()


def _encoding(request: Request) -> str:
    """How the body is packed; empty if it is not."""
    name = (header(request.scope, b"content-encoding") or b"").decode("latin-1").strip().lower()
    return "" if name == "identity" else name


def hold(request: Request, size: int) -> None:
    """Count bytes that are held for a request until it is answered.

    Raises:
        HttpRefused: those of all requests together are too many.
    """
    gateway = request.app
    request.scope["held"] += size
    gateway.held += size
    if gateway.held > gateway.settings.gateway_buffer_mb << 20:
        message = "the gateway holds as many bytes of requests as it may"
        raise HttpRefused(503, HttpCode.BUSY, message, headers={"Retry-After": "1"})


def hold_unpacked(request: Request, records: int, values: int) -> None:
    """Count the memory that so many records and values will take, before there are any.

    Raises:
        PayloadTooLarge: it is more than 16 times what a body may have: a few bytes may stand for many objects.
        HttpRefused: as for `hold`.
    """
    size = RECORD_BYTES * records + VALUE_BYTES * values
    most = 16 * request.app.settings.max_request_bytes
    if size > most:
        message = f"the body would take {size >> 20} MiB of memory; the gateway takes up to {most >> 20} MiB: send less at once"
        raise PayloadTooLarge(Code.TOO_LARGE, message)
    hold(request, size)


def hold_json(request: Request, text: bytes) -> None:
    """Count what JSON will take, by its brackets and commas, before it is decoded.

    Raises:
        PayloadTooLarge, HttpRefused: as for `hold_unpacked`.
    """
    hold_unpacked(request, text.count(b"{"), text.count(b",") + 2 * text.count(b"["))


def parse_json(body: bytes) -> Any:
    """JSON, as it should be or as Python's `json` writes it, with NaN and numbers of any length.

    Raises:
        HttpRefused: it is neither.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        value = json.loads(body)
        # Half a character (a lone surrogate) could be neither sent to a worker nor answered.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        message = f"the body is no valid JSON: {error}"
        raise HttpRefused(400, Code.JSON, message) from None
    return value


def kind_in_json(value: Any) -> str:
    """What a value of a body is, in JSON's words."""
    if value is None:
        return "null"
    kinds = ((dict, "an object"), (list, "an array"), (str, "a text"), (bool, "true or false"))
    return next((words for kind, words in kinds if isinstance(value, kind)), "a number")


def refuse_media_type(kind: str, expected: str) -> HttpRefused:
    """What is raised for a body of another content type than is read."""
    message = f"the content type is {kind[:80]!r}; expected {expected} (the header Content-Type)"
    return HttpRefused(415, HttpCode.MEDIA_TYPE, message)


class _Unpacker:
    """Unpacks gzip or zstd, which may consist of several parts, a piece at a time."""

    def __init__(
        self, make: Callable[[], Any], damage: type[Exception], *, keeps_rest: bool
    ) -> None:
        self._make = make
        self._damage = damage
        self._keeps_rest = keeps_rest
        """Whether the decompressor keeps bytes that it has not unpacked yet (zstd), or gives them back (gzip)."""
        self._decompressor = make()

    def unpack(self, data: bytes) -> Any:
        while data or (
            self._keeps_rest and not self._decompressor.eof and not self._decompressor.needs_input
        ):
            if self._decompressor.eof:
                self._decompressor = self._make()
            try:
                piece = self._decompressor.decompress(data, PIECE_BYTES)
            except self._damage as error:
                raise _damaged(str(error)) from error
            if self._decompressor.eof:
                data = self._decompressor.unused_data
            else:
                data = b"" if self._keeps_rest else self._decompressor.unconsumed_tail
            yield piece

    def check_end(self) -> None:
        if not self._decompressor.eof:
            raise _damaged("it ends too early")


def _damaged(reason: str) -> HttpRefused:
    message = f"the body is not packed as its header Content-Encoding says: {reason}"
    return HttpRefused(400, HttpCode.BAD_REQUEST, message)


def _unpacker(encoding: str) -> _Unpacker | None:
    if not encoding:
        return None
    if encoding in ("gzip", "x-gzip"):
        return _Unpacker(lambda: zlib.decompressobj(31), zlib.error, keeps_rest=False)
    if encoding == "zstd":
        from scoreline_client.files.source import zstd

        try:
            module = zstd()
            return _Unpacker(module.ZstdDecompressor, module.ZstdError, keeps_rest=True)
        except MissingDependency as error:
            raise HttpRefused(415, HttpCode.MEDIA_TYPE, str(error)) from error
    message = f"bodies in the encoding {encoding[:40]!r} are not read; send gzip, zstd, or none"
    headers = {"Accept-Encoding": "gzip, zstd"}
    raise HttpRefused(415, HttpCode.MEDIA_TYPE, message, headers=headers)


class Receiver:
    """What ASGI calls `receive`, which knows whether the body has been read to its end."""

    __slots__ = ("_receive", "is_read")

    def __init__(self, receive: Callable[[], Any]) -> None:
        self._receive = receive
        self.is_read = False

    async def __call__(self) -> Any:
        message = await self._receive()
        if not message.get("more_body"):
            self.is_read = True
        return message

    async def discard(self) -> bool:
        """Read on and drop what comes, within limits; returns whether it has come to an end."""
        remaining = DISCARD_BYTES
        try:
            async with asyncio.timeout(DISCARD_S):
                while not self.is_read and remaining > 0:
                    remaining -= len((await self()).get("body", b""))
        except TimeoutError:
            return False
        return self.is_read


class CallerWatch:
    """Begins to watch callers who have waited for some time, all of a gateway with one timer."""

    def __init__(self) -> None:
        """To be called on the event loop whose callers are watched."""
        self.loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, WhileConnected]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connected: WhileConnected) -> None:
        """Watch a caller from WATCH_AFTER_S on, unless the `with` has ended by then."""
        now = self.loop.time()
        self._waiting.append((now + WATCH_AFTER_S, connected))
        if self._timer is None:
            self._timer = self.loop.call_at(now + WATCH_AFTER_S, self._watch_due)

    def close(self) -> None:
        """Watch no further callers."""
        if self._timer is not None:
            self._timer.cancel()

    def _watch_due(self) -> None:
        now, waiting = self.loop.time(), self._waiting
        while waiting and (waiting[0][0] <= now or waiting[0][1].is_over):
            _, connected = waiting.popleft()
            if not connected.is_over:
                connected.watch()
        self._timer = self.loop.call_at(waiting[0][0], self._watch_due) if waiting else None


class WhileConnected:
    """Cancels what is done inside `with` once the caller has gone, and raises CallerGone then.

    The body must have been read.
    """

    __slots__ = ("_app", "_is_gone", "_receive", "_task", "_watch", "is_over")

    def __init__(self, request: Request) -> None:
        self._app = request.app
        self._receive: Receive | None = request.receive
        self._is_gone = False
        self._watch: asyncio.Task[None] | None = None
        self.is_over = False

    def __enter__(self) -> Self:
        caller_watch: CallerWatch = self._app.caller_watch
        self._task = asyncio.current_task(caller_watch.loop)
        caller_watch.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.is_over = True
        # A CallerWatch may list this object for some time yet.
        task, self._task, self._receive = self._task, None, None
        if self._watch is not None:
            self._watch.cancel()
        if self._is_gone and kind is not None and issubclass(kind, asyncio.CancelledError):
            if task is not None:
                task.uncancel()
            raise CallerGone

    def watch(self) -> None:
        """Begin to watch the caller."""
        if self._receive is not None:
            self._watch = asyncio.ensure_future(self._wait(self._receive))

    async def _wait(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._is_gone = True
        if self._task is not None:
            self._task.cancel()
