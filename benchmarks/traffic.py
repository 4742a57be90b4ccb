"""What clients of a server send, recorded, and sent again under other names: more clients than a machine could run."""

from __future__ import annotations

import re
import resource
import select
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

TOGETHER_S = 0.002
"""Commands of a connection that come within so many seconds are sent in one go."""
CONNECT_S = 60.0
"""Seconds that the server may take to answer a new connection, beside some thousand others on a busy machine."""
_LINE = re.compile(rb"^\+?(\d+\.\d+) \[\d+ ([^ \]]+)\] (.*)$", re.DOTALL)
_ARGUMENT = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(rb"\\(x[0-9a-f]{2}|.)", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
ENTRY, NEWS = b"reply_to", b"message"
"""What a reply has in it that brings a request, or the news of a release."""


@dataclass
class Recorded:
    """A connection: its protocol, its subscriptions, and what it sends when."""

    protocol: int
    channels: list[bytes] = field(default_factory=list)
    sent: list[tuple[float, bytes]] = field(default_factory=list)
    """Seconds since the recording began, and commands as they go over the wire."""
    consumer: str = ""
    """The name under which it reads requests."""


@dataclass(frozen=True)
class Traffic:
    """What some clients have sent in so many seconds."""

    seconds: float
    connections: list[Recorded]


def clients(redis: Redis) -> set[str]:
    """The addresses of all clients of a server."""
    found: Any = redis.client_list()
    return {one["addr"] for one in found}


def record(redis: Redis, seconds: float, *, but: set[str]) -> Traffic:
    """Record all clients of a server but some, among them whoever asks."""
    connected: Any = redis.client_list()
    channels: Any = redis.pubsub_channels()
    found = {
        one["addr"]: Recorded(
            int(one.get("resp", 2)), [*channels] if int(one.get("sub", 0)) else []
        )
        for one in connected
        if one["addr"] not in but
    }
    watching: Any = redis.connection_pool.make_connection()
    watching.connect()
    watching.send_command("MONITOR")
    watching.read_response()
    begun = time.time()
    while (now := time.time() - begun) < seconds:
        if not watching.can_read(timeout=min(0.5, seconds - now)):
            continue
        line = _LINE.match(watching.read_response(disable_decoding=True))
        one = line and found.get(line[2].decode())
        if not line or not one:  # a script's own command, or a client that is none of these
            continue
        arguments = [_plain(text) for text in _ARGUMENT.findall(line[3])]
        at = min(max(0.0, float(line[1]) - begun), seconds)
        one.sent.append((at, packed(arguments)))
        if arguments[0].upper() == b"XREADGROUP":
            one.consumer = arguments[3].decode()
    watching.disconnect()
    return Traffic(seconds, [*found.values()])


def packed(arguments: Sequence[bytes]) -> bytes:
    """A command as it goes over the wire."""
    parts = [b"*%d\r\n" % len(arguments)]
    parts += [b"$%d\r\n%b\r\n" % (len(one), one) for one in arguments]
    return b"".join(parts)


def _plain(text: bytes) -> bytes:
    def plain(found: re.Match[bytes]) -> bytes:
        escape = found[1]
        if len(escape) == 3:
            return bytes([int(escape[1:], 16)])
        return _ESCAPES.get(escape, escape)

    return _ESCAPED.sub(plain, text)


class Replay:
    """Copies of recorded connections, which send what those have sent over and over, each under names of its own."""

    def __init__(
        self,
        url: str,
        traffic: Traffic,
        name: str,
        copies: Iterable[int],
        answer: Callable[[str], None],
    ) -> None:
        """In the names `<name>-…`, the last two letters of `name` become a copy's number.

        `answer` is told the consumer that has got requests.
        """
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self._answer = answer
        self._poll = select.epoll()
        self._connections: dict[int, Any] = {}
        self._consumers: dict[int, str] = {}
        self._told_at: dict[int, float] = {}
        self._seconds = traffic.seconds
        copies = list(copies)
        planned: list[tuple[float, int, bytes]] = []
        most = 1 << 16
        self._pools = {
            protocol: Redis.from_url(
                url, protocol=protocol, max_connections=most, socket_timeout=CONNECT_S
            ).connection_pool
            for protocol in (2, 3)
        }
        for place, copy in enumerate(copies):
            shift = traffic.seconds * place / len(copies)  # not all of them in step
            old, new = (f"{word}-".encode() for word in (name, f"{name[:-2]}{copy:02}"))
            for one in traffic.connections:
                number = self._connect(one)
                if one.consumer:
                    self._consumers[number] = one.consumer.encode().replace(old, new).decode()
                for at, commands in _together(one.sent):
                    at = (at + shift) % traffic.seconds
                    planned.append((at, number, commands.replace(old, new)))
        self._planned = sorted(planned)
        self._next = 0
        self._cycle_began = time.monotonic()

    def _connect(self, one: Recorded) -> int:
        connection: Any = self._pools[one.protocol].make_connection()
        connection.connect()
        socket = connection._sock
        if one.channels:
            socket.sendall(packed([b"SUBSCRIBE", *one.channels]))
        socket.setblocking(False)
        number = int(socket.fileno())
        self._connections[number] = connection
        if one.channels:
            self._told_at[number] = 0.0
        self._poll.register(number, select.EPOLLIN)
        return number

    def told_since(self, begun: float) -> float | None:
        """When the last of all that are subscribed had news, if all had some since then."""
        if min(self._told_at.values()) < begun:
            return None
        return max(self._told_at.values())

    def turn(self) -> None:
        """Send what is due, and read what has come."""
        now = time.monotonic() - self._cycle_began
        while self._planned[self._next][0] <= now:
            _, number, commands = self._planned[self._next]
            self._connections[number]._sock.send(commands)
            self._next += 1
            if self._next == len(self._planned):
                self._next = 0
                self._cycle_began += self._seconds
                now -= self._seconds
        wait_s = min(self._planned[self._next][0] - now, 0.01)
        for number, _ in self._poll.poll(max(0.0, wait_s)):
            reply = self._connections[number]._sock.recv(1 << 16)
            if not reply:
                raise ConnectionError("the server has closed a connection")
            if number in self._told_at:
                if NEWS in reply:
                    self._told_at[number] = time.monotonic()
            elif ENTRY in reply and number in self._consumers:
                self._answer(self._consumers[number])


def _together(sent: Sequence[tuple[float, bytes]]) -> Iterable[tuple[float, bytes]]:
    grouped: dict[float, list[bytes]] = defaultdict(list)
    begun = -TOGETHER_S
    for at, command in sent:
        if at - begun >= TOGETHER_S:
            begun = at
        grouped[begun].append(command)
    return [(at, b"".join(commands)) for at, commands in grouped.items()]
