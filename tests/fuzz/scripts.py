"""What callers can do with the Lua scripts that a server knows, with the rights of `scoreline acl` and no more.

Whoever has EVALSHA on a key can run every script that is loaded, with keys and arguments of its own making: those of
workers, too. No such call may end or block the server, read or change what is another caller's, or leave a lane in
which nobody is answered any more.
"""

from __future__ import annotations

import atexit
import contextlib
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib import resources
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from scoreline_client import ClientSettings
from scoreline_client.cli.acl import Role, rights
from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_client.protocol.messages import Answer, Request
from scoreline_tasks.dev.server import embedded_server
from scoreline_tasks.testing import InProcessWorker
from tests.support.models import Predictor, column_x
from tests.support.worker import entry_fields

KEYS = Keys("default")
ONLINE, BULK = (KEYS.lane(lane) for lane in Lane)
ROLES = (Role.PREDICTOR, Role.CLIENT, Role.OPERATOR)
SECRET = b"a name that only its caller may read"
NEIGHBOUR, ITS_JOB, OWN = "d" * 32, "e" * 32, "1" * 32
"""Names of 128 random bits: a caller knows its own, and no other's."""
NAMES = [
    ONLINE, BULK, KEYS.callers(Lane.ONLINE), KEYS.callers(Lane.BULK), KEYS.jobs, KEYS.attempts, KEYS.dead,
    KEYS.processes, KEYS.result(OWN), KEYS.reply(OWN), KEYS.job(OWN), KEYS.process("a"), KEYS.hint("help"),
    KEYS.celery_prefix, "session:1", "",
]  # fmt: skip
"""Keys that a call may name."""
MOST_MEMORY = 64 << 20
SCRIPTS = sorted(
    (
        path
        for package in ("scoreline_client.protocol", "scoreline_client.transport", "scoreline_tasks.queue")
        for path in resources.files(package).iterdir()
        if path.name.endswith(".lua")
    ),
    key=lambda path: path.name,
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """A server with a worker beside it, and a connection for each role."""

    admin: Redis
    callers: dict[Role, Redis]
    worker: InProcessWorker
    hashes: list[str]
    """Of the scripts, which are loaded."""

    def call(self, role: Role, script: int, keys: list[str], arguments: list[bytes]) -> None:
        """Make a call beside a neighbour's requests, and look for what it must not do."""
        self.admin.flushall()
        asked = Request(id=NEIGHBOUR, model="keep", body=b'[{"x":7,"who":"%s"}]' % SECRET, reply_to=NEIGHBOUR)  # fmt: skip
        fields: Any = entry_fields(asked)
        for lane in Lane:
            self.admin.xgroup_create(KEYS.lane(lane), GROUP, id="0", mkstream=True)
        in_hand, waiting = (self.admin.xadd(ONLINE, fields) for _ in range(2))
        self.admin.xreadgroup(GROUP, "another", {ONLINE: ">"}, count=1)  # type: ignore[dict-item]
        self.admin.set(KEYS.result(ITS_JOB), SECRET)
        self.admin.xadd(KEYS.dead, {"body": SECRET})
        before = self.admin.dump(KEYS.result(ITS_JOB)), self.admin.dump(KEYS.dead)

        seen: object = None
        caller = self.callers[role]
        # What it may not do, or what the script cannot use, is refused; a lost connection or a time-out is a fault.
        with contextlib.suppress(ResponseError):
            seen = caller.evalsha(self.hashes[script], len(keys), *keys, *arguments)

        assert SECRET not in repr(seen).encode(), "a caller has read what is another's"
        after = self.admin.dump(KEYS.result(ITS_JOB)), self.admin.dump(KEYS.dead)
        assert after == before, "a caller has changed what is another's"
        left: Any = self.admin.xrange(ONLINE)
        # By their ids, which are times, a client may delete entries; see SECURITY.md.
        if role is not Role.CLIENT:
            assert {entry for entry, _ in left} >= {in_hand, waiting}, "requests are lost"
        assert all(found == fields for entry, found in left if entry in (in_hand, waiting))
        assert self.admin.info("memory")["used_memory"] < MOST_MEMORY  # type: ignore[index]
        self._is_served()

    def _is_served(self) -> None:
        """A caller that comes afterwards is answered, and nothing is left that would wait for ever."""
        own = Request(id=OWN[::-1].replace("1", "2"), model="keep", body=b'[{"x":5}]', reply_to="3" * 32)  # fmt: skip
        flat = own.encode()
        submit = next(number for number, path in enumerate(SCRIPTS) if path.name == "submit.lua")
        keys = [ONLINE, KEYS.callers(Lane.ONLINE), ONLINE]
        for _ in range(20):  # what a caller may queue is in front of it
            arguments = [100_000, 256, 60_000, 1, len(flat), *flat]
            reply: Any = self.admin.evalsha(self.hashes[submit], len(keys), *keys, *arguments)
            if len(reply) == 2:
                break
            self._step()
        assert len(reply) == 2, "nobody can queue a request any more"
        for _ in range(20):
            if not self._step():
                break
        data: Any = self.admin.get(KEYS.result(own.id))
        assert data, "a request is not answered"
        assert Answer.decode(data).values == [5]

    def _step(self) -> int:
        """Answer what waits now, without waiting for more; returns how many there were."""
        turns = iter([False])
        return self.worker._drain.serve(3600, lambda: next(turns, True), linger_ms=1)


@cache
def world() -> World:
    """A server of this process's own, with all scripts loaded as workers load them."""
    stack = ExitStack()
    atexit.register(stack.close)
    options = {
        "appendonly": "no",
        "busy-reply-threshold": "1000",
        "hz": "500",
        "maxmemory": str(MOST_MEMORY),
    }
    url = stack.enter_context(embedded_server(options=options))
    admin = stack.enter_context(Redis.from_url(url, socket_timeout=10))
    callers = {}
    for role in ROLES:
        words = rights(role, "default").split()
        admin.execute_command("ACL", "SETUSER", role, "reset", "on", ">word", *words)
        as_role = url.replace("redis://", f"redis://{role}:word@")
        callers[role] = stack.enter_context(Redis.from_url(as_role, socket_timeout=10))
    sources = [path.read_text() for path in SCRIPTS]
    for source in sources:
        admin.script_load(source)
    hashes = [sha1(source.encode(), usedforsecurity=False).hexdigest() for source in sources]
    worker = InProcessWorker(admin, ClientSettings(), models={"keep": Predictor(column_x)})
    return World(admin, callers, worker, hashes)


def call(data: bytes) -> None:
    """Make the call that some bytes stand for: a line with a byte each for role, script and keys, then a line each argument."""
    head, _, rest = data.partition(b"\n")
    if len(head) < 2:
        return
    role, script = ROLES[head[0] % len(ROLES)], head[1] % len(SCRIPTS)
    keys = [NAMES[place % len(NAMES)] for place in head[2:]]
    world().call(role, script, keys, rest.split(b"\n"))


def _seed(role: Role, name: str, keys: list[str], *arguments: object) -> bytes:
    script = [path.name for path in SCRIPTS].index(f"{name}.lua")
    places = [(ROLES.index(role), ROLES), (script, SCRIPTS), *((NAMES.index(key), NAMES) for key in keys)]  # fmt: skip
    # Letters, so that none is the end of the line.
    head = bytes(97 // len(all_of) * len(all_of) + place for place, all_of in places)  # type: ignore[arg-type]
    return head + b"\n" + b"\n".join(str(one).encode() for one in arguments)


_CALLERS, _RESULT, _REPLY = KEYS.callers(Lane.ONLINE), KEYS.result(OWN), KEYS.reply(OWN)
SEEDS = [
    _seed(Role.PREDICTOR, "submit", [ONLINE, _CALLERS, ONLINE], 100, 256, 60_000, 1, 2, "body", "[{}]"),
    _seed(Role.PREDICTOR, "submit", [ONLINE, _CALLERS, ONLINE], "1e308", "nan", 1, "-inf", "7999", "a"),
    _seed(Role.CLIENT, "submit", [BULK, KEYS.callers(Lane.BULK), KEYS.job(OWN)], 9, 1, 60_000, 1, 2, "job", OWN),
    _seed(Role.PREDICTOR, "is_lost", [ONLINE, _RESULT], GROUP, "1-1"),
    _seed(Role.CLIENT, "cancel", [_RESULT, ONLINE, KEYS.attempts], "{}", 60_000, "1-1", OWN),
    _seed(Role.CLIENT, "renew_job", [KEYS.jobs], OWN, 60_000),
    _seed(Role.PREDICTOR, "while_full", [ONLINE], "XADD", "*", "a", "b"),
    _seed(Role.CLIENT, "while_full", [_RESULT], "SET", "1"),
    _seed(Role.PREDICTOR, "finish", [ONLINE, KEYS.attempts, _CALLERS, _RESULT, _REPLY], GROUP, "1-1", OWN, "{}", "", 9, 1),
    _seed(Role.CLIENT, "finish", [ONLINE, ONLINE, _CALLERS, _RESULT, _RESULT], GROUP, "1-1", OWN, "", "", 9, "-1e300"),
    _seed(Role.CLIENT, "mend_lane", [ONLINE], GROUP, "-99999999999999"),
    _seed(Role.CLIENT, "claim", [ONLINE], GROUP, "x", 0, 100, 1000),
    _seed(Role.CLIENT, "release", [ONLINE], GROUP, "another", "x", 1),
    _seed(Role.PREDICTOR, "find_orphans", [ONLINE], GROUP, "x", 0, 100),
    _seed(Role.PREDICTOR, "forget_consumers", [ONLINE], GROUP, 0, ""),
    _seed(Role.OPERATOR, "add_dead_letter", [KEYS.dead], 1, 0, 0, "a", "b"),
]  # fmt: skip
