"""What the users of `scoreline acl` must not do, asked of a real server."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner
from redis import Redis
from redis.exceptions import ResponseError

from scoreline_client import AsyncClient, ClientSettings
from scoreline_client.cli.acl import HASH, Role, acl, rights
from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_client.transport.connection import TransportTimes, load_scripts
from tests.support.worker import StubWorker

pytestmark = pytest.mark.integration

KEYS, OTHERS = Keys("default"), Keys("other")
ONLINE, BULK = (KEYS.lane(lane) for lane in Lane)
ID = "0" * 32
QUEUE, PIDBOX = (KEYS.celery_prefix + name for name in ("scoreline.default", "/0.celery.pidbox"))

ATTEMPTS: dict[str, tuple[str, ...]] = {
    "read the requests of others": ("XRANGE", ONLINE, "-", "+"),
    "read the chunks of others": ("XREVRANGE", BULK, "+", "-"),
    "read a lane's first and last request": ("XINFO", "STREAM", ONLINE),
    "follow a lane": ("XREAD", "STREAMS", ONLINE, "0"),
    "take requests": ("XREADGROUP", "GROUP", GROUP, "x", "STREAMS", ONLINE, ">"),
    "take over requests": ("XCLAIM", ONLINE, GROUP, "x", "0", "1-1"),
    "take over what is abandoned": ("XAUTOCLAIM", BULK, GROUP, "x", "0", "0"),
    "acknowledge requests": ("XACK", ONLINE, GROUP, "1-1"),
    "delete requests": ("XDEL", ONLINE, "1-1"),
    "trim a lane": ("XTRIM", ONLINE, "MAXLEN", "0"),
    "remove a lane": ("DEL", ONLINE),
    "rename a lane": ("RENAME", ONLINE, "lost"),
    "expire a lane": ("PEXPIRE", BULK, "1"),
    "move a lane's last id": ("XSETID", ONLINE, "9-9"),
    "remove the group": ("XGROUP", "DESTROY", ONLINE, GROUP),
    "remove a consumer": ("XGROUP", "DELCONSUMER", ONLINE, GROUP, "x"),
    "list the bulk jobs": ("ZRANGE", KEYS.jobs, "0", "-1"),
    "end all leases": ("ZREMRANGEBYSCORE", KEYS.jobs, "-inf", "+inf"),
    "expire all leases": ("PEXPIRE", KEYS.jobs, "1"),
    "write an answer": ("SET", KEYS.result(ID), "666"),
    "write a reply": ("RPUSH", KEYS.reply(ID), "666"),
    "read all counts of attempts": ("HGETALL", KEYS.attempts),
    "make a request look deadly": ("HSET", KEYS.attempts, ID, "9"),
    "read the dead letters": ("XRANGE", KEYS.dead, "-", "+"),
    "make up a dead letter": ("XADD", KEYS.dead, "*", "a", "b"),
    "count HTTP requests": ("HINCRBY", KEYS.http, "requests|/|GET|200", "1"),
    "change the totals": ("HINCRBY", KEYS.totals, "pima|3|online|batches|", "1"),
    "make up a process": ("ZADD", KEYS.processes, "1", "x"),
    "make up a report": ("SET", KEYS.process("x"), "{}"),
    "keep workers asleep": ("SET", KEYS.hint("help"), "1"),
    "announce a release": ("PUBLISH", KEYS.releases, "pima"),
    "listen to releases": ("SUBSCRIBE", KEYS.releases),
    "call a Celery task": ("LPUSH", QUEUE, "{}"),
    "stop the workers": ("PUBLISH", PIDBOX, "shutdown"),
    "listen to everything": ("PSUBSCRIBE", "*"),
    "list keys": ("KEYS", "*"),
    "walk over keys": ("SCAN", "0"),
    "run a script of its own": ("EVAL", "return 1", "0"),
    "load a script": ("SCRIPT", "LOAD", "return 1"),
    "forget all scripts": ("SCRIPT", "FLUSH"),
    "load functions": ("FUNCTION", "LOAD", "x"),
    "ask in another queue": ("XADD", OTHERS.lane(Lane.ONLINE), "*", "a", "b"),
    "read another queue's answers": ("GET", OTHERS.result(ID)),
    "read another application's keys": ("GET", "session:1"),
    "write another application's keys": ("SET", "session:1", "x"),
    "watch all commands": ("MONITOR",),
    "flush the server": ("FLUSHALL",),
    "read the configuration": ("CONFIG", "GET", "*"),
    "change the configuration": ("CONFIG", "SET", "dir", "/tmp"),
    "make users": ("ACL", "SETUSER", "x", "on"),
    "end the connections of others": ("CLIENT", "KILL", "TYPE", "normal"),
    "stop the server": ("SHUTDOWN",),
    "make it a replica": ("REPLICAOF", "127.0.0.1", "1"),
    "debug": ("DEBUG", "SLEEP", "1"),
    "copy a lane": ("COPY", ONLINE, "mine"),
    "take a lane's bytes": ("DUMP", ONLINE),
    "put a lane in its place": ("RESTORE", ONLINE, "0", "x", "REPLACE"),
    "send a lane to another server": ("MIGRATE", "127.0.0.1", "1", ONLINE, "0", "1"),
    "flush a database": ("FLUSHDB",),
    "exchange databases": ("SWAPDB", "0", "1"),
    "hold up everybody": ("CLIENT", "PAUSE", "1000"),
    "list the connections of others": ("CLIENT", "LIST"),
    "load native code": ("MODULE", "LOAD", "x"),
}  # fmt: skip
MAY = {
    Role.CALLER: set(),
    Role.PREDICTOR: set(),
    # A result's name is 128 random bits, and an entry's id is not; see SECURITY.md.
    Role.CLIENT: {"write an answer", "delete requests"},
    Role.WORKER: {
        "read the requests of others", "read a lane's first and last request", "remove a lane",
        "take requests", "take over requests",
        "acknowledge requests", "delete requests", "remove a consumer", "end all leases",
        "expire all leases", "write an answer", "write a reply", "make up a dead letter",
        "read the dead letters", "change the totals", "make up a process", "make up a report", "keep workers asleep", "listen to releases",
        "call a Celery task", "run a script of its own", "load a script",
    },
    Role.OPERATOR: {"read the dead letters", "announce a release"},
    Role.TRAINER: {"announce a release"},
    Role.METRICS: {"read the requests of others", "list the bulk jobs"},
    Role.GATEWAY: {"write an answer", "delete requests", "read the requests of others", "list the bulk jobs", "count HTTP requests"},
    Role.INSPECT: {"stop the workers", "call a Celery task", "load a script"},
}  # fmt: skip
"""All that a role can do of these; the server refuses the rest."""


@pytest.fixture
def may(redis_client: Redis) -> Any:
    """Whether a role may send a command, by the server's own account."""
    for role in Role:
        redis_client.execute_command("ACL", "SETUSER", role, "reset", "on", ">word", *rights(role, "default").split())  # fmt: skip
    yield (
        lambda role, *command: (
            redis_client.execute_command("ACL", "DRYRUN", role, *command) == b"OK"
        )
    )
    redis_client.acl_deluser(*Role)


@pytest.mark.parametrize("role", Role)
def test_a_role_can_do_nothing_that_it_need_not(may: Callable[..., bool], role: Role) -> None:
    assert {name for name, command in ATTEMPTS.items() if may(role, *command)} == MAY[role]


def test_no_caller_runs_a_script_on_what_is_not_its_own(may: Callable[..., bool]) -> None:
    for role in (Role.CALLER, Role.PREDICTOR, Role.CLIENT, Role.GATEWAY):
        for key in (KEYS.dead, KEYS.processes, QUEUE, OTHERS.lane(Lane.ONLINE), "session:1"):
            assert not may(role, "EVALSHA", "0" * 40, "1", key)


@pytest.mark.usefixtures("may")
@pytest.mark.parametrize("role", [Role.PREDICTOR, Role.CLIENT, Role.OPERATOR])
async def test_whoever_asks_may_look_for_a_request_that_takes_long(
    redis_client: Redis, client_settings: ClientSettings, role: Role, eventually: Callable[..., Any]
) -> None:
    """A slow answer leaves nothing in ACL LOG, and what the server has lost is sent again."""
    load_scripts(redis_client)
    redis_client.acl_log_reset()
    url = client_settings.redis_url.replace("://", f"://{role}:word@")
    async with AsyncClient(settings=replace(client_settings, redis_url=url)) as client:
        client.transport.times = TransportTimes(overdue_s=0.01, check_every_s=0.01)
        worker = StubWorker(redis_client)
        asked = asyncio.create_task(client.predict("pima", {"x": 2}, timeout=10))
        await asyncio.to_thread(eventually, worker.take)
        await asyncio.sleep(0.1)
        assert redis_client.acl_log() == []
        redis_client.flushall()
        with StubWorker(redis_client).serving():
            assert (await asked).value == 4
    assert redis_client.acl_log() == []


def test_a_name_with_signs_of_patterns_matches_only_itself(redis_client: Redis) -> None:
    queue = "a*b[c]?"
    redis_client.execute_command("ACL", "SETUSER", "odd", "reset", "on", *rights(Role.CALLER, queue).split())  # fmt: skip
    answers = [
        redis_client.execute_command("ACL", "DRYRUN", "odd", "XADD", Keys(name).lane(Lane.ONLINE), "*", "a", "b")
        for name in (queue, "axxb[c]?", "a*bcx")
    ]  # fmt: skip
    redis_client.acl_deluser("odd")
    assert answers[0] == b"OK"
    assert b"OK" not in answers[1:]


def _printed(*arguments: str) -> list[str]:
    done = CliRunner().invoke(acl, arguments)
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def test_no_user_is_made_without_a_password(redis_client: Redis) -> None:
    for line in _printed():
        with pytest.raises(ResponseError, match="password hash"):
            redis_client.execute_command(*line.split())


def test_printed_users_are_those_of_a_running_server(redis_client: Redis) -> None:
    known = "#" + hashlib.sha256(b"word").hexdigest()
    lines = _printed("--queue", "loans", "--remote-control", "--database", "3")
    for line in lines:
        redis_client.execute_command(*line.replace(HASH, known).split())
    names = {str(name) for name in redis_client.acl_users()} - {"default"}
    redis_client.acl_deluser(*names)
    assert names == {f"scoreline-loans-{role}" for role in Role}
    (worker,) = (line for line in lines if "-worker " in line)
    assert "/3.celery.pidbox" in worker


def test_a_queue_whose_name_no_rule_can_hold_is_refused() -> None:
    done = CliRunner().invoke(acl, ["--queue", "my queue"])
    assert done.exit_code == 2
    assert "SCORELINE_QUEUE" in done.output
