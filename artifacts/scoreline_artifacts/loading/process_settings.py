"""Settings of the process that a version's modules make when they are executed: in force while it is scored, and only then.

In training a module that calls `sklearn.set_config`, sets a pandas option or adds a warnings filter does so for the
whole process. A worker serves several versions in a process, from threads that did not execute the modules. So
what executing them changes is recorded and undone, and in force again around each scoring of the version.

Changes are found by comparing before and after. That is right where nothing else runs, as in the trial of a version.
Beside the scoring of others, whatever they have in force at that moment, or a library for the length of a call, would
look like the version's own. So a process that serves records only the settings that the trial has named, and holds all
scoring up where one of them is the whole process's.

An installed library is executed once in a process, whichever version imports it first. What that has changed is
kept under the library's name, and belongs to every version that imports it.
"""

from __future__ import annotations

import csv
import decimal
import functools
import importlib
import locale
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

_DECIMAL = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp", "traps")
_STREAM = ("encoding", "errors", "line_buffering", "write_through")

Key = tuple[str, Any]
"""A kind of setting, and the name of one."""


@dataclass(frozen=True, slots=True)
class Change:
    """The value of a setting while a version is scored, and otherwise."""

    inside: Any
    outside: Any


class ProcessSettings:
    """What executing the modules of one version has changed in its process."""

    def __init__(self, expected: Iterable[str] | None = None) -> None:
        """`expected` are the names of the settings that loading changes; None: whatever it does."""
        self._expected = None if expected is None else frozenset(expected)
        self._changes: dict[Key, Change] = {}
        self._thread = ThreadState()

    @property
    def names(self) -> list[str]:
        """The settings that were changed, such as `sklearn: transform_output`."""
        return sorted(map(_name, self._changes))

    @property
    def is_of_process(self) -> bool:
        """Whether other threads see one of the changes, and must not run while they are recorded."""
        return any(not _KINDS[kind].is_of_thread for kind, _ in self._changes)

    @property
    def is_exclusive(self) -> bool:
        """Whether no other version may be scored at the same time, by another thread of the process."""
        return any(_KINDS[key[0]].is_shared(change) for key, change in self._changes.items())

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Execute modules inside the block; what that changes belongs to the version, and is undone at the end.

        While the version is being scored it stays in force until that is done.
        """
        if self._thread.is_recording:
            yield
            return
        gate, before = _gate(), _read_all()
        self._thread.is_recording = True
        gate.recording[threading.get_ident()] = before
        try:
            yield
        finally:
            gate.recording.pop(threading.get_ident(), None)
            self._thread.is_recording = False
            self._add(self._own(_changes(before, _read_all())))
            if not self._thread.is_scoring:
                self._undo()

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Score the version inside the block."""
        gate = _gate()
        with gate.exclusive() if self.is_exclusive else gate.shared():
            self._thread.is_scoring = True
            try:
                for (kind, name), change in list(self._changes.items()):
                    _KINDS[kind].write(name, change.inside)
                yield
            finally:
                self._thread.is_scoring = False
                self._undo()

    def import_installed(self, name: str) -> ModuleType:
        """Import an installed module for the version; what its execution changed, now or earlier, is the version's."""
        library = name.partition(".")[0]
        if name in sys.modules:
            module = importlib.import_module(name)
        else:
            before = _read_all()
            try:
                module = importlib.import_module(name)
            finally:
                changed = self._own(_changes(before, _read_all()))
                _installed.setdefault(library, {}).update(changed)
        changes = _installed.get(library)
        if changes and not changes.keys() <= self._changes.keys():
            self._add(changes)
            if self._thread.is_recording or self._thread.is_scoring:
                for (kind, setting), change in changes.items():
                    _KINDS[kind].write(setting, change.inside)
            else:
                self._undo()
        return module

    def _own(self, changes: dict[Key, Change]) -> dict[Key, Change]:
        """The changes that the version has made, among those that were seen meanwhile."""
        if self._expected is None or self._thread.is_scoring:
            return changes
        return {key: change for key, change in changes.items() if _name(key) in self._expected}

    def _add(self, changes: Mapping[Key, Change]) -> None:
        for key, change in changes.items():
            earlier = self._changes.get(key)
            outside = change.outside if earlier is None else earlier.outside
            self._changes[key] = Change(change.inside, outside)

    def _undo(self) -> None:
        for (kind, name), change in list(self._changes.items()):
            _KINDS[kind].write(name, change.outside)


class ThreadState(threading.local):
    """What the current thread is doing with a version."""

    is_recording = False
    is_scoring = False


@contextmanager
def exclusively() -> Iterator[None]:
    """Keep all other threads of this process from scoring inside the block."""
    with _gate().exclusive():
        yield


def watch_gate(waiting: Callable[[], AbstractContextManager[None]]) -> None:
    """Enter `waiting()` while a thread of this process waits for others before it scores."""
    _gate().waiting = waiting


class Gate:
    """Many threads pass together, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._waiting = 0
        self._alone: int | None = None
        """The thread that is alone; it may pass again."""
        self.waiting: Callable[[], AbstractContextManager[None]] = nullcontext
        """Entered while a thread has to wait."""
        self.recording: dict[int, dict[Key, Any]] = {}
        """By thread that executes modules of a version: the settings before that."""
        os.register_at_fork(after_in_child=self._renew)

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Pass with others; waits for a thread that is alone or wants to be."""
        me = threading.get_ident()
        if self._alone == me:
            yield
            return
        with self._changed:
            if self._alone is not None or self._waiting:
                with self.waiting():
                    while self._alone is not None or self._waiting:
                        self._changed.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Pass alone."""
        me = threading.get_ident()
        if self._alone == me:
            yield
            return
        with self._changed:
            self._waiting += 1
            if self._alone is not None or self._inside:
                with self.waiting():
                    while self._alone is not None or self._inside:
                        self._changed.wait()
            self._waiting -= 1
            self._alone = me
        try:
            yield
        finally:
            with self._changed:
                self._alone = None
                self._changed.notify_all()

    def _renew(self) -> None:
        """Start anew in a fork, in which the threads that have passed do not exist."""
        self._changed = threading.Condition()
        self._inside = self._waiting = 0
        self._alone = None
        # Nobody else would undo what they have changed.
        me = threading.get_ident()
        before = [settings for thread, settings in self.recording.items() if thread != me]
        self.recording = {}
        if before:
            for (kind, name), change in _changes(before[0], _read_all()).items():
                _KINDS[kind].write(name, change.outside)


@functools.cache
def _gate() -> Gate:
    return Gate()


_installed: dict[str, dict[Key, Change]] = {}
"""What the execution of an installed module has changed, by its name."""


def _name(key: Key) -> str:
    return f"{key[0]}: {key[1]}"


def _read_all() -> dict[Key, Any]:
    return {
        (kind, name): value
        for kind, settings in _KINDS.items()
        for name, value in settings.read().items()
    }


def _changes(before: Mapping[Key, Any], after: Mapping[Key, Any]) -> dict[Key, Change]:
    return {
        key: Change(after.get(key), before.get(key))
        for key in {**before, **after}
        if before.get(key) is not after.get(key) and before.get(key) != after.get(key)
    }


def always(_: Change) -> bool:
    return True


def never(_: Change) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class SettingKind:
    """How settings of one kind are read and written."""

    read: Callable[[], Mapping[Any, Any]]
    write: Callable[[Any, Any], object]
    is_shared: Callable[[Change], bool] = always
    """Whether all threads of the process see a change, and it matters to them."""
    is_of_thread: bool = False
    """Whether no other thread sees a change."""


def read_sklearn() -> Mapping[str, Any]:
    import sklearn

    config: Mapping[str, Any] = sklearn.get_config()
    return config


def write_sklearn(name: str, value: Any) -> None:
    import sklearn

    sklearn.set_config(**{name: value})


def read_pandas() -> dict[str, Any]:
    options: dict[str, Any] = {}

    def walk(prefix: str, level: Mapping[str, Any]) -> None:
        for name, value in level.items():
            if isinstance(value, dict):
                walk(f"{prefix}{name}.", value)
            else:
                options[prefix + name] = value

    # Not get_option: it warns of options that pandas will remove.
    walk("", pd.options.d)
    return options


def write_pandas(name: str, value: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pd.set_option(name, value)


def write_filters(_: str, value: tuple[Any, ...]) -> None:
    warnings.filters[:] = value  # type: ignore[index]
    with warnings.catch_warnings():
        pass  # entering it makes Python forget the decisions of the old filters


def read_decimal() -> dict[str, Any]:
    context = decimal.getcontext()
    values = {name: getattr(context, name) for name in _DECIMAL}
    return values | {"traps": dict(values["traps"])}


def read_streams() -> dict[tuple[str, str], Any]:
    return {
        (stream, name): getattr(getattr(sys, stream), name, None)
        for stream in ("stdout", "stderr")
        for name in _STREAM
    }


def write_stream(key: tuple[str, str], value: Any) -> None:
    stream, name = key
    # Somebody may have put another object in its place.
    with suppress(AttributeError, ValueError, OSError):
        # A new encoding alone would make errors strict.
        kept = {"errors": getattr(sys, stream).errors}
        getattr(sys, stream).reconfigure(**(kept | {name: value}))


def write_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
    if name == "TZ":
        time.tzset()


_KINDS = {
    "sklearn": SettingKind(read_sklearn, write_sklearn, never, is_of_thread=True),
    "pandas": SettingKind(read_pandas, write_pandas),
    "warnings": SettingKind(
        lambda: {"filters": tuple(warnings.filters)},
        write_filters,
        # Only where a filter makes an exception of a warning it changes what others get.
        lambda change: any(action == "error" for action, *_ in change.inside),
    ),
    "decimal": SettingKind(
        read_decimal,
        lambda name, value: setattr(decimal.getcontext(), name, value),
        never,
        is_of_thread=True,
    ),
    "numpy.errstate": SettingKind(
        np.geterr, lambda name, value: np.seterr(**{name: value}), never, is_of_thread=True
    ),
    "numpy.printoptions": SettingKind(
        np.get_printoptions, lambda name, value: np.set_printoptions(**{name: value})
    ),
    "sys": SettingKind(
        lambda: {"recursionlimit": sys.getrecursionlimit()},
        lambda _, value: sys.setrecursionlimit(value),
    ),
    "stream": SettingKind(read_streams, write_stream),
    "locale": SettingKind(
        lambda: {"LC_ALL": locale.setlocale(locale.LC_ALL)},
        lambda _, value: locale.setlocale(locale.LC_ALL, value),
    ),
    "csv": SettingKind(
        lambda: {"field_size_limit": csv.field_size_limit()},
        lambda _, value: csv.field_size_limit(value),
    ),
    "logging": SettingKind(
        lambda: {"disable": logging.root.manager.disable},
        lambda _, value: logging.disable(value),
        never,
    ),
    "variable": SettingKind(lambda: dict(os.environ), write_variable),
}
"""What a module may set for its whole process."""
