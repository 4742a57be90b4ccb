"""Dead letters: requests and records that were given up, because the processes that scored them died of them.

A worker keeps them for a week: the newest thousand, up to 32 MiB. A dead letter is a request of its own, wherever
possible with the one record at fault, so that it can be sent again: to another version, or to the same one when
the cause is mended.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scoreline_client.arguments import given_as, version_of
from scoreline_client.errors import DeadLetterUnusable
from scoreline_client.protocol.json_records import check_timeout
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Request, WireError, new_id
from scoreline_client.protocol.names import split_reference
from scoreline_client.transport.dispatcher import Transport

PAGE = 100


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A request or record that was given up."""

    id: str
    """In the list of dead letters."""
    died_at: float
    """Unix seconds by the server's clock."""
    request: str
    """The id of the request that was given up, or whose record was."""
    model: str
    """The model that it names, as `pima`, `pima@candidate` or `pima@3`."""
    lane: str
    codec: str
    reason: str
    size: int
    """Bytes of its body."""
    is_cut: bool
    """Whether the body was too large to be kept."""
    fields: Mapping[bytes, bytes] = field(repr=False)
    """The request's own fields, as a worker read them."""

    @classmethod
    def of(cls, entry: bytes, fields: Mapping[bytes, bytes]) -> DeadLetter:
        """Read an entry of the stream; nothing in it is trusted."""

        def text(name: str) -> str:
            return fields.get(name.encode(), b"").decode(errors="replace")

        cut = text("cut")
        return cls(
            id=entry.decode(),
            died_at=int(entry.partition(b"-")[0]) / 1000,
            request=text("id"),
            model=text("model"),
            lane=text("lane"),
            codec=text("codec") or "json",
            reason=text("reason"),
            size=int(cut) if cut.isdecimal() else len(fields.get(b"body", b"")),
            is_cut=bool(cut),
            fields=fields,
        )


def _is_id(text: object) -> bool:
    """Whether it is the id of a stream's entry: two numbers of 64 bits at the most."""
    return isinstance(text, str) and re.fullmatch("[0-9]{1,19}(-[0-9]{1,19})?", text) is not None


async def read_dead_letters(transport: Transport) -> list[DeadLetter]:
    """All dead letters of a queue, the newest first.

    Raises:
        ServerUnreachable: Redis does not answer.
    """
    letters: list[DeadLetter] = []
    last = "+"
    while True:
        page = await transport.guard(
            transport.redis.xrevrange(transport.keys.dead, last, "-", count=PAGE)
        )
        letters += [DeadLetter.of(entry, fields) for entry, fields in page]
        if len(page) < PAGE:
            return letters
        last = f"({letters[-1].id}"


async def read_dead_letter(transport: Transport, letter_id: str) -> DeadLetter:
    """The dead letter of this id.

    Raises:
        DeadLetterUnusable: there is none of this id.
        ServerUnreachable: Redis does not answer.
    """
    entries: Sequence[Any] = []
    if _is_id(letter_id):
        entries = await transport.guard(
            transport.redis.xrange(transport.keys.dead, letter_id, letter_id, count=1)
        )
    if not entries:
        raise DeadLetterUnusable(letter_id, "it is not there, or no more after its seven days")
    return DeadLetter.of(*entries[0])


async def replay_dead_letter(
    transport: Transport, letter: DeadLetter, version: int | None, timeout_s: float
) -> Answer:
    """Send a dead letter again, to `version` of its model or to what it named; it stays where it is.

    Raises:
        DeadLetterUnusable: its body was cut, or it is no request.
        NoAnswer, QueueFull, ServerUnreachable: as for `predict`.
    """
    check_timeout(timeout_s)
    given_as("letter", letter, DeadLetter, "a DeadLetter, as dead_letters() has them")
    if version is not None:
        version_of(version)
    if letter.is_cut:
        raise DeadLetterUnusable(letter.id, f"its body of {letter.size} bytes was not kept")
    try:
        original = Request.decode(letter.fields)
        model = original.model
        if version is not None:
            model = f"{split_reference(original.model)[0]}@{version}"
    except (WireError, ValueError) as error:
        raise DeadLetterUnusable(letter.id, f"it is no request: {error}") from error
    request = replace(
        original,
        id=new_id(),
        model=model,
        reply_to=transport.client_id,
        expires_ms=max(1, int(timeout_s * 1000)),
        job="",
    )
    return await transport.ask(request, Lane.ONLINE, timeout_s)


async def drop_dead_letters(transport: Transport, letter_ids: Sequence[str] | None) -> int:
    """Remove dead letters, or all of them; returns how many there were.

    Raises:
        DeadLetterUnusable: an id is not that of an entry.
        ServerUnreachable: Redis does not answer.
    """
    key = transport.keys.dead
    if letter_ids is None:
        count = int(await transport.guard(transport.redis.xlen(key)))
        await transport.guard(transport.redis.delete(key))
        return count
    given_as("letter_ids", letter_ids, (list, tuple), "a list of ids, or None for all")
    for letter_id in letter_ids:
        if not _is_id(letter_id):
            raise DeadLetterUnusable(letter_id, "it is no id, like 1732811523456-0")
    return int(await transport.guard(transport.redis.xdel(key, *letter_ids))) if letter_ids else 0
