"""A store in a folder that the operating system refuses: a typed error, and never a traceback."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scoreline_artifacts import Store
from scoreline_artifacts.cli.inspect import inspect
from scoreline_artifacts.cli.keys import keygen, keys
from scoreline_artifacts.cli.retention import pin, prune, unpin
from scoreline_artifacts.cli.versions import versions
from scoreline_artifacts.errors import (
    ArtifactError,
    CorruptArtifact,
    StoreUnreachable,
    UnsuitableStore,
)
from scoreline_artifacts.store import releases, retention
from scoreline_artifacts.store.local_files import DurableFileSystem
from scoreline_tasks.cli import promote, rollback
from tests.support.stores import manifest_of

Refuse = Callable[[str, int], None]
MANIFEST = manifest_of({}, 1)
LATER = datetime.now(UTC) + timedelta(days=30)
COMMANDS = {
    "versions": (versions, "pima"),
    "inspect": (inspect, "pima"),
    "pin": (pin, "pima", "1"),
    "unpin": (unpin, "pima", "1"),
    "prune": (prune, "pima", "--keep", "1"),
    "promote": (promote, "pima", "1"),
    "rollback": (rollback, "pima"),
}
every_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


def _publish(store: Store) -> int:
    return store.publish(MANIFEST, {}).version


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Three versions of the model pima; 3 is in production after 2."""
    store = Store(tmp_path / "store")
    for _ in range(3):
        _publish(store)
    releases.promote(store, "pima", 2)
    releases.promote(store, "pima", 3)
    monkeypatch.setenv("SCORELINE_ARTIFACTS", str(store.root))
    return store


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Let a function of `os` fail in the store, and work elsewhere."""

    def patch(function: str, number: int) -> None:
        real = getattr(os, function)

        def fail(path: Any, *arguments: Any, **options: Any) -> Any:
            # A descriptor is that of a file, or of a folder, that was opened in the store.
            is_below = any(name.endswith("dir_fd") for name in options)
            if isinstance(path, int) or is_below or "store" in Path(path).parts:
                if function == "access":
                    return False
                raise OSError(number, os.strerror(number), str(path))
            return real(path, *arguments, **options)

        monkeypatch.setattr(os, function, fail)

    return patch


def _run(command: Any, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def _is_told(result: Result) -> bool:
    """Whether a command ended with a message, not with a traceback."""
    return isinstance(result.exception, SystemExit) and result.stderr.startswith("Error: ")


@every_command
@pytest.mark.parametrize("below", ["", "/below"], ids=["a file", "below a file"])
def test_a_store_that_is_a_file_is_wrong_usage(
    store: Store, monkeypatch: pytest.MonkeyPatch, command: Any, below: str
) -> None:
    file = Path(store.root) / "file"
    file.touch()
    monkeypatch.setenv("SCORELINE_ARTIFACTS", f"{file}{below}")
    result = _run(*command)
    assert _is_told(result)
    assert result.exit_code == 2


@every_command
def test_a_store_that_is_not_there_is_wrong_usage(
    store: Store, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    monkeypatch.setenv("SCORELINE_ARTIFACTS", f"{store.root}-elsewhere")
    result = _run(*command)
    assert result.exit_code == (0 if command[0] is unpin else 2)
    assert result.exit_code == 0 or _is_told(result)


@every_command
@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE], ids=errno.errorcode.get)
def test_a_store_that_cannot_be_opened_is_trouble_with_the_store(
    store: Store, refuse: Refuse, command: Any, number: int
) -> None:
    for function in ("open", "scandir", "access"):
        refuse(function, number)
    result = _run(*command)
    assert _is_told(result)
    assert os.strerror(number) in result.stderr
    # These two have a code of their own for "nothing was released".
    assert result.exit_code == (2 if command[0] in (promote, rollback) else 3)


@pytest.mark.parametrize("name", ["pin", "promote", "rollback"])
def test_a_full_disk_changes_nothing_and_is_told(store: Store, refuse: Refuse, name: str) -> None:
    before = releases.history(store, "pima")
    refuse("fsync", errno.ENOSPC)
    result = _run(*COMMANDS[name])
    assert _is_told(result)
    assert result.exit_code == (3 if name == "pin" else 2)
    assert releases.history(store, "pima") == before
    assert retention.pins(store, "pima") == []


@pytest.mark.parametrize(
    ("function", "number"), [("fsync", errno.ENOSPC), ("mkdir", errno.EROFS), ("link", errno.EIO)]
)
def test_a_version_that_cannot_be_written_is_not_published(
    store: Store, refuse: Refuse, function: str, number: int
) -> None:
    refuse(function, number)
    with pytest.raises(StoreUnreachable):
        _publish(store)
    assert store.versions("pima") == [1, 2, 3]


def test_a_store_that_is_a_file_cannot_be_published_to(store: Store) -> None:
    file = Path(store.root) / "file"
    file.touch()
    with pytest.raises(UnsuitableStore):
        _publish(Store(file))


def test_a_version_that_cannot_be_removed_stays(store: Store, refuse: Refuse) -> None:
    refuse("remove", errno.EROFS)
    with pytest.raises(StoreUnreachable):
        store.storage.remove_version("pima", 1)
    assert store.manifest("pima", 1).version == 1


def test_a_version_of_which_only_a_part_can_be_removed_is_listed_no_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Any, *_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "no", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", fail)
        with pytest.raises(StoreUnreachable):
            store.storage.remove_version("pima", 1)
    assert store.versions("pima") == [2, 3]
    assert retention.prune(store, "pima", now=LATER).leftovers == ["pima/versions/1"]


def test_what_was_pruned_before_a_failure_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(store)
    _publish(store)
    releases.promote(store, "pima", 5)
    monkeypatch.setattr(retention, "needed_versions", lambda *_: {5: "named"})
    real = DurableFileSystem.rm

    def fail(system: DurableFileSystem, path: str, *arguments: Any, **options: Any) -> None:
        if Path(path).parent.name == "3":
            raise OSError(errno.EIO, "no", path)
        real(system, path, *arguments, **options)

    monkeypatch.setattr(DurableFileSystem, "rm", fail)
    result = _run(prune, "pima", "--keep", "1")
    assert _is_told(result)
    assert result.exit_code == 1
    assert store.versions("pima") == [3, 4, 5]
    assert "removed of pima: 1, 2" in result.stderr


def test_a_version_that_somebody_else_has_just_removed_is_no_error(store: Store) -> None:
    store.storage.remove_version("pima", 1)
    store.storage.remove_version("pima", 1)
    assert store.versions("pima") == [2, 3]


def test_a_pin_is_not_claimed_where_none_can_be_made(store: Store) -> None:
    (Path(store.root) / "pima" / "pins").touch()
    result = _run(pin, "pima", "1")
    assert _is_told(result)
    assert (result.exit_code, result.stdout) == (2, "")


def test_a_file_where_a_folder_should_be_is_not_taken_for_the_file_to_be_made(store: Store) -> None:
    (Path(store.root) / "pima" / "pins").touch()
    with pytest.raises(ArtifactError):
        store.storage.create("pima/pins/1.json", b"{}")


def test_a_release_that_is_made_is_not_told_as_a_failure(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Any, *arguments: Any, **options: Any) -> None:
        raise OSError(errno.EIO, "no", str(path))

    monkeypatch.setattr(os, "unlink", fail)
    assert releases.promote(store, "pima", 1).version == 1


def test_one_folder_that_is_shut_is_not_the_whole_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def fail(path: Any) -> Any:
        if Path(path).name == "versions":
            raise PermissionError(errno.EACCES, "no", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(CorruptArtifact):
        store.versions("pima")
    assert store.models() == []


@pytest.mark.parametrize(
    "command",
    [
        (keygen,), (keygen, "--rotate"), (keys, "list"), (keys, "show"), (keys, "trust", "-"),
        (keys, "revoke", "0" * 32),
    ],
    ids=lambda command: " ".join(getattr(one, "name", one) for one in command),
)  # fmt: skip
def test_a_folder_of_keys_that_is_a_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    exported = _run(keys, "show").stdout if _run(keygen).exit_code == 0 else ""
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("SCORELINE_KEYS", str(file))
    result = CliRunner().invoke(command[0], command[1:], input=exported)
    assert _is_told(result)
    assert result.exit_code == 2
