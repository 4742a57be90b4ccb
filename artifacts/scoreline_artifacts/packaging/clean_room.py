"""The clean room: an isolated interpreter that has what a worker has, and nothing of the training project.

The room is isolated mode
(no PYTHON… variable, no user's site, no working directory on the path), an empty working directory,
and a path of installed distributions alone: folders that an editable installation or a .pth file adds
are out of reach.

The interpreter is started once and imports the libraries; each visit is a fork of it, so that nothing
of one visit is there in the next. `visit` is the side that asks; `main` is what runs in the room.
"""

from __future__ import annotations

import atexit
import errno
import importlib
import json
import os
import selectors
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scoreline_artifacts.manifest import MANIFEST, Manifest

ARTIFACT = "artifact"
"""Under which name a visitor finds the artifact's files in its folder."""
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from scoreline_artifacts.packaging import clean_room; clean_room.main()"
)
_ANSWER, _OUTPUT = "answer.json", "output.txt"
_ZIP = "python{}{}.zip".format(*sys.version_info)
"""Where the standard library may be, beside its folder."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""One thread for each numeric library, as in a worker; more would not survive the fork."""


class Ended(Exception):
    """Raised when a visit did not come to its end; `kind` is `ended` or `timeout`."""

    def __init__(self, kind: str, message: str, output: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.output = output
        """The last that it printed."""


@contextmanager
def staged(manifest: Manifest, files: Mapping[str, bytes]) -> Iterator[Path]:
    """A folder for a visit, with an artifact's files under `artifact`; gone at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="scoreline-") as name:
        folder = Path(name)
        for file, data in {**files, MANIFEST: manifest.encode()}.items():
            path = folder / ARTIFACT / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (folder / "empty").mkdir()
        yield folder


def visit(work: str, folder: Path, limit_s: float) -> Any:
    """Let a function of ours work in the room, and return what it makes of a folder, as of JSON.

    `work` is `module:function`; the function gets the folder.

    Raises:
        Ended: the process ended otherwise than by the end of the function, or after `limit_s` seconds.
    """
    with _ONE_AT_A_TIME:
        room = _room()
        try:
            status = room.visit(work, folder, limit_s)
        except (OSError, ValueError) as error:
            room.close()
            raise Ended("ended", f"the clean room itself ended: {error}") from error
        # Ctrl-C, say: the answer that is still to come must not be taken for that of the next visit.
        except BaseException:
            room.close()
            raise
    if status is None:
        raise Ended("timeout", f"it was not done after {limit_s:g} s")
    try:
        return json.loads((folder / _ANSWER).read_bytes())
    except (OSError, ValueError) as error:
        code = os.waitstatus_to_exitcode(status)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        output = folder / _OUTPUT
        said = output.read_text(errors="replace")[-2000:] if output.exists() else ""
        raise Ended("ended", f"the process that loaded it ended with {how}", said) from error


class _Room:
    """The interpreter that waits for visits; it ends when this process does."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        here = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and the program above
            [sys.executable, "-I", "-c", _PROGRAM, here, *_installed_folders()],
            env={**_environment_at_start(), **dict.fromkeys(_THREADS, "1")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def is_open(self) -> bool:
        """Whether there can be another visit."""
        return self.owner == os.getpid() and self._process.poll() is None

    def visit(self, work: str, folder: Path, limit_s: float) -> int | None:
        """The wait status of the process that did the work, or None when time was up."""
        process = self._process
        assert process.stdin is not None  # noqa: S101 - both are pipes, see above
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(json.dumps([work, str(folder), *_project_folders()]).encode() + b"\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(limit_s):
                self.close()
                return None
        line = process.stdout.readline()
        return int(line)

    def close(self) -> None:
        """End the room and whatever runs in it."""
        if self.owner == os.getpid():
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.communicate()


_ONE_AT_A_TIME = threading.Lock()
os.register_at_fork(after_in_child=_ONE_AT_A_TIME._at_fork_reinit)  # type: ignore[attr-defined]
_open: list[_Room] = []


def _room() -> _Room:
    """The room of this process; another one after a fork, or when the last one was closed."""
    if not (_open and _open[-1].is_open):
        room = _Room()
        _open[:] = [room]
        atexit.register(room.close)
    return _open[-1]


def _installed_folders() -> list[str]:
    """Folders on this path that `pip install --target` filled: a worker has them as well."""
    return [place for place in sys.path if place and any(Path(place).glob("*.dist-info"))]


def _project_folders() -> list[str]:
    """Where this project has its files: they are still here, and will not be where workers are."""
    places = {str(Path.cwd()), *(str(Path(place).resolve()) for place in sys.path if place)}
    # In a home folder are also the settings and caches of libraries, which workers have of their own.
    not_projects = {os.sep, os.path.expanduser("~"), sys.prefix, sys.base_prefix}  # noqa: PTH111
    return sorted(one for one in places if Path(one).is_dir() and one not in not_projects)


def _environment_at_start() -> dict[str, str]:
    """The variables that this process was started with, without those that it has set itself."""
    try:
        block = Path("/proc/self/environ").read_bytes()
    except OSError:  # not on every system
        return dict(os.environ)
    pairs = (os.fsdecode(one).partition("=") for one in block.split(b"\0") if one)
    return {name: value for name, _, value in pairs}


# In the room


def main() -> None:
    """Do what standard input names, a work and a folder a line, each in a process of its own."""
    here, *folders = sys.argv[1:]
    _lock_the_door(here, folders)
    # What most artifacts need anyway; the forks have it without importing it again.
    import sklearn.pipeline  # noqa: F401

    from scoreline_artifacts.loading import version  # noqa: F401

    for line in sys.stdin:
        visitor = os.fork()
        if visitor == 0:
            work, *folders = json.loads(line)
            _work_and_exit(work, *map(Path, folders))
        print(os.waitpid(visitor, 0)[1], flush=True)  # noqa: T201 - the answer that is waited for


def _work_and_exit(work: str, folder: Path, *project: Path) -> None:
    """The whole life of a visit."""
    status = 1
    try:
        output = os.open(folder / _OUTPUT, os.O_WRONLY | os.O_CREAT)
        for stream, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
            os.dup2(target, stream)
        module, _, function = work.partition(":")
        do = getattr(importlib.import_module(module), function)
        os.chdir(folder / "empty")
        _hide(project, but=folder)
        (folder / _ANSWER).write_text(json.dumps(do(folder), default=str))
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _lock_the_door(here: str, folders: Sequence[str]) -> None:
    """Leave on the path what is installed, and take off what an editable installation added."""
    from scoreline_artifacts.dependencies import SCORELINE_PACKAGES

    installed = {*folders, here}
    paths = sysconfig.get_paths()
    standard = {paths["stdlib"], paths["platstdlib"], str(Path(paths["stdlib"]).with_name(_ZIP))}
    sys.path += [folder for folder in folders if folder not in sys.path]
    sys.path[:] = [
        place
        for place in sys.path
        if place in installed
        or any(Path(place).is_relative_to(one) for one in standard)
        or {"site-packages", "dist-packages"} & set(Path(place).parts)
        or any(Path(place, name).is_dir() for name in SCORELINE_PACKAGES)
    ]
    sys.meta_path[:] = [
        finder
        for finder in sys.meta_path
        if "__editable__" not in getattr(finder, "__module__", "")
    ]


def _hide(folders: Sequence[Path], but: Path) -> None:
    """Let files of the training project be as absent as they are where workers are."""
    places = (str(but), sys.prefix, sys.base_prefix, *sys.path)
    open_ones = {Path(place).resolve() for place in places if place}
    # An environment may lie in a project, and a project in a folder that holds an interpreter.
    known = {f"{one}{os.sep}": one in open_ones for one in {*folders, *open_ones}}
    innermost_first = sorted(known, key=len, reverse=True)

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], str | bytes):
            return
        path = os.path.realpath(os.fsdecode(arguments[0]))
        inside = next((one for one in innermost_first if path.startswith(one)), None)
        if inside is not None and not known[inside]:
            raise FileNotFoundError(errno.ENOENT, "it is a file of the training project", path)

    sys.addaudithook(refuse)
