"""Loads the versions that requests name and this process does not have, in a thread beside the one that serves."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused
from scoreline_client.protocol.messages import ModelRef
from scoreline_client.shown import without_places
from scoreline_tasks.scoring.batch import VersionIsLoading

logger = logging.getLogger(__name__)

REMEMBERED_S = 1.0
"""Seconds for which a version that could not be loaded is refused without another attempt."""
WAITING = 1000
"""References that may wait to be loaded: callers decide how many there are."""
TAKEN_WITHIN_S = 0.5
"""Seconds that a version which was just loaded may take the place of no other one, until a request uses it."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    error: RequestRefused
    as_of: float
    """It follows from what was released then, or later."""
    until: float

    def is_about(self, asked_at: float) -> bool:
        """Whether a request that came then is refused as well: what was unknown may have been released since."""
        return self.error.code != Code.UNKNOWN_MODEL or asked_at <= self.as_of


class LoadsAside:
    """One thread that loads one version after the other."""

    def __init__(
        self, find: Callable[[ModelRef, float], object], clock: Callable[[], float]
    ) -> None:
        """`find` loads the version that a reference names, by what is released at a time, or raises RequestRefused."""
        self._find = find
        self._clock = clock
        self._waiting: OrderedDict[str, tuple[ModelRef, float]] = OrderedDict()
        """References by name, and when the last request came that names it."""
        self._refusals: OrderedDict[str, _Refusal] = OrderedDict()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._taken = threading.Event()

    def ask(self, ref: ModelRef, asked_at: float) -> NoReturn:
        """Have a version loaded that is not in memory, for a request that came at `asked_at`.

        Raises:
            VersionIsLoading: it is being loaded, or will be; ask the registry again in a moment.
            RequestRefused: it could not be loaded a moment ago; or too many others wait to be.
        """
        name = str(ref)
        with self._changed:
            refusal = self._refusals.get(name)
            if refusal is not None and self._clock() < refusal.until and refusal.is_about(asked_at):
                raise RequestRefused(refusal.error.code, refusal.error.message)
            if name not in self._waiting and len(self._waiting) >= WAITING:
                message = f"{ref} is not in memory, and {WAITING} others wait to be loaded"
                raise RequestRefused(Code.NOT_LOADED, message)
            _, last_asked_at = self._waiting.get(name, (ref, asked_at))
            self._waiting[name] = ref, max(last_asked_at, asked_at)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="scoreline-aside", daemon=True
                )
                self._thread.start()
        raise VersionIsLoading(name)

    def note_taken(self) -> None:
        """A request has found the version that was loaded last."""
        self._taken.set()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                name, (ref, asked_at) = next(iter(self._waiting.items()))
            self._taken.clear()
            refusal: RequestRefused | None = None
            try:
                self._find(ref, asked_at)
            except RequestRefused as error:
                refusal = error
            # The boundary of the thread: without it, no version would be loaded here any more.
            except Exception as error:
                logger.exception("load_failed version=%s: its callers get E_NOT_LOADED", name)
                reason = without_places(f"{type(error).__name__}: {error}")
                message = f"{name} could not be loaded: {reason}"
                refusal = RequestRefused(Code.NOT_LOADED, message)
            with self._changed:
                del self._waiting[name]
                self._refusals.pop(name, None)
                if refusal is not None:
                    until = self._clock() + REMEMBERED_S
                    self._refusals[name] = _Refusal(refusal, asked_at, until)
                    while len(self._refusals) > WAITING:
                        self._refusals.popitem(last=False)
            if refusal is None:
                self._taken.wait(TAKEN_WITHIN_S)
