"""Throw-away processes for a worker's other processes, forked where nothing of a pipeline has run.

A process that has scored must not fork: threads that a pipeline's libraries have started are missing in the fork,
and the first parallel region there waits for them for ever. So the trial of a version, and the requests that a dead
process left, are handed over a socket to a process that has scored nothing, and that one forks. Where children serve
it is the main process, and its forks have the versions in memory that it has loaded. Where the main process
serves itself it is a process that was forked before anything was loaded, and that is forked anew should it end.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import struct
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from multiprocessing import AuthenticationError
from multiprocessing.connection import (
    Client,
    Connection,
    Listener,
    answer_challenge,
    deliver_challenge,
)
from typing import Any

import msgspec

from scoreline_artifacts import Store
from scoreline_client.protocol.keys import Lane
from scoreline_tasks.models.isolated_load import (
    FIRST_S,
    IsolatedLoad,
    IsolatedLoadFailed,
    ServedBy,
    TrialResult,
)
from scoreline_tasks.queue.recovery import Outcome, Task, score_here
from scoreline_tasks.scoring.batch import Batcher, Entry
from scoreline_tasks.system import ChildDied, ChildTimedOut, Fork, limit_process

logger = logging.getLogger(__name__)

GREETING_S = 5.0
"""Seconds until the process that forks has begun to speak."""
AGAIN_S = 0.1
"""Seconds until a process that forks, and has ended, is forked anew."""
REMEMBERED = 1000
"""Outcomes of trials that are remembered: callers who name versions by number decide how many there are."""


class Nursery:
    """Forks throw-away processes for the processes of one worker."""

    def __init__(self, store: Store, trial: IsolatedLoad, memory_bytes: int) -> None:
        """`memory_bytes` is what a process that scores for a rescue may take."""
        self._store = store
        self._trial = trial
        self._memory_bytes = memory_bytes
        self.gives_way = True
        """Whether trials give way to processes that serve; not while a worker starts, which waits for them."""
        self.batcher: Batcher | None = None
        """Scores the requests of dead processes, in a fork."""
        self.asked: set[str] = set()
        """Models of which other processes of the worker have needed a version that they do not have."""
        self._key = secrets.token_bytes(32)
        # In Linux's abstract namespace nothing has to be removed, whoever is killed.
        address = f"\0scoreline-{secrets.token_hex(16)}" if sys.platform == "linux" else None
        self._listener = Listener(address, "AF_UNIX", backlog=64)
        self._home = os.getpid()
        self._forker: Fork | None = None
        self._trial_lock = threading.Lock()
        self._outcomes: OrderedDict[tuple[str, int], tuple[float, TrialResult | str]] = (
            OrderedDict()
        )
        """By version: when it was tried, and the result or the reason why it is refused."""

    def start(self) -> None:
        """Serve the worker's other processes, from this one or from a fork that never scores."""
        if self._trial.served_by is ServedBy.FORKS:
            threading.Thread(target=self._serve, name="scoreline-nursery", daemon=True).start()
            return

        def keep_serving() -> None:
            while True:
                os.waitpid(Fork(self._serve).pid, 0)
                time.sleep(AGAIN_S)

        self._home = 0
        self._forker = Fork(keep_serving)

    def stop(self) -> None:
        """End the process of its own, if it has one."""
        if self._forker is not None and os.getpid() != self._home:
            with suppress(ProcessLookupError):
                os.kill(self._forker.pid, signal.SIGKILL)  # and with it the one that it keeps
                os.waitpid(self._forker.pid, 0)
            self._forker = None

    def prove(self, store: Store, model: str, version: int) -> TrialResult:  # noqa: ARG002 - Models' signature
        """Load a version for the first time, in a process that then ends; for one process at a time.

        Raises:
            IsolatedLoadFailed: it could not be loaded there, or its process did not survive it.
        """
        if os.getpid() == self._home:
            _, outcome = self._outcomes.get((model, version), (0.0, ""))
            return outcome if isinstance(outcome, TrialResult) else self._remember(model, version)
        try:
            try:
                kind, outcome = self._ask(["trial", model, version])
            except EOFError:  # it has just ended, and is forked anew
                kind, outcome = self._ask(["trial", model, version])
        except (OSError, EOFError) as error:
            message = f"the process that forks for this worker does not answer ({error})"
            raise IsolatedLoadFailed(message) from error
        if kind == "refused":
            raise IsolatedLoadFailed(outcome)
        return TrialResult(**outcome)

    def score(
        self,
        entries: Sequence[Entry],
        now_ms: int,
        limit_s: float,
        task: Task | None = None,
        *,
        load_s: float = 0.0,
    ) -> Outcome:
        """Answer entries, or do a task with the only one, in a process that then ends.

        Raises:
            ChildTimedOut: it had not finished after `limit_s` seconds, and `load_s` for loading versions.
            ChildDied: the process was killed, or ended early.
            OSError: the process that forks does not exist any more, or cannot fork; nothing was scored.
            EOFError: it has ended meanwhile.
        """
        raw = [(entry.lane.value, entry.id, entry.fields) for entry in entries]
        if os.getpid() == self._home:
            return self._score(raw, now_ms, limit_s, task, load_s, lambda: True)
        kind, outcome = self._ask(["score", raw, now_ms, limit_s, task and asdict(task), load_s])
        if kind == "late":
            late_after_s, is_prepared = outcome
            raise ChildTimedOut(late_after_s, is_prepared=is_prepared)
        if kind == "died":
            raise ChildDied(outcome)
        return msgspec.convert(outcome, Outcome)

    def _ask(self, message: list[Any]) -> tuple[str, Any]:
        """Have the process that forks do something.

        Raises:
            OSError, EOFError: it does not exist any more, or cannot fork.
        """
        with Client(self._listener.address, "AF_UNIX") as connection:
            # Its socket accepts as long as any process of the worker has it open.
            if not connection.poll(GREETING_S):
                raise TimeoutError(f"it said nothing for {GREETING_S:g} s")
            answer_challenge(connection, self._key)
            deliver_challenge(connection, self._key)
            connection.send_bytes(msgspec.msgpack.encode(message))
            kind, outcome = msgspec.msgpack.decode(connection.recv_bytes())
        if kind == "failed":
            raise OSError(outcome)
        return kind, outcome

    def _serve(self) -> None:
        self._home = os.getpid()
        while True:
            # The other end may be killed meanwhile, or be none of this worker's.
            with suppress(OSError, EOFError, ValueError):
                connection = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: Connection) -> None:
        with connection, suppress(OSError, EOFError):
            if not _is_of_this_user(connection):
                return
            # Here and not in the loop: a stranger with a wrong key, or one that says nothing, stops nobody.
            try:
                deliver_challenge(connection, self._key)
                answer_challenge(connection, self._key)
            except AuthenticationError:
                return
            message = msgspec.msgpack.decode(connection.recv_bytes())
            try:
                outcome = self._fork_for(message, lambda: not connection.poll())
            except IsolatedLoadFailed as refusal:
                outcome = ("refused", str(refusal))
            except ChildTimedOut as death:
                outcome = ("late", (death.limit_s, death.is_prepared))
            except ChildDied as death:
                outcome = ("died", death.reason)
            except OSError as error:  # as at the limit of processes: no request is to blame
                outcome = ("failed", f"no process can be forked: {error}")
            connection.send_bytes(msgspec.msgpack.encode(outcome))

    def _fork_for(self, message: list[Any], is_wanted: Callable[[], bool]) -> tuple[str, Any]:
        kind, *arguments = message
        if kind == "score":
            raw, now_ms, limit_s, task, load_s = arguments
            task = task and msgspec.convert(task, Task)
            return "scored", asdict(self._score(raw, now_ms, limit_s, task, load_s, is_wanted))
        model, version = arguments
        self.asked.add(model)
        # One at a time: callers who name versions by number decide how many there are.
        with self._trial_lock:
            tried_at, outcome = self._outcomes.get((model, version), (0.0, ""))
            if isinstance(outcome, str) and outcome and time.monotonic() - tried_at < FIRST_S:
                raise IsolatedLoadFailed(outcome)
            result = outcome if isinstance(outcome, TrialResult) else self._remember(model, version)
        return "proven", asdict(result)

    def _remember(self, model: str, version: int) -> TrialResult:
        outcome: TrialResult | str = ""
        try:
            outcome = self._trial.run(self._store, model, version, gives_way=self.gives_way)
        except IsolatedLoadFailed as refusal:
            outcome = str(refusal)
            raise
        finally:
            self._outcomes.pop((model, version), None)
            self._outcomes[model, version] = (time.monotonic(), outcome)
            while len(self._outcomes) > REMEMBERED:
                self._outcomes.popitem(last=False)
        return outcome

    def _score(
        self,
        raw: Sequence[Any],
        now_ms: int,
        limit_s: float,
        task: Task | None,
        load_s: float,
        is_wanted: Callable[[], bool],
    ) -> Outcome:
        assert self.batcher is not None  # noqa: S101 - set before it serves
        entries = [Entry(Lane(lane), entry_id, fields) for lane, entry_id, fields in raw]
        return score_here(
            self.batcher,
            entries,
            now_ms,
            limit_s,
            task,
            prepare=lambda: limit_process(self._memory_bytes, oom_score=1000),
            load_s=load_s,
            is_wanted=is_wanted,
        )


def _is_of_this_user(connection: Connection) -> bool:
    """Whether a process of this user, or of root, is at the other end; where the system cannot tell, the key does."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        peer = duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return struct.unpack("3i", peer)[1] in (0, os.geteuid())
