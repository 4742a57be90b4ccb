"""The clean room: an isolated interpreter that has what a worker has, and nothing of the training project.

What can be loaded and answers there as it did in training can be served. The room is isolated mode
(no PYTHON… variable, no user's site, no working directory on the path), an empty working directory,
and a path of installed distributions alone: folders that an editable installation or a .pth file adds
are out of reach.

The interpreter is started once and imports the libraries; each visit is a fork of it, so that nothing
of one visit is there in the next. `prove` is the side that asks; `main` is what runs in the room.
"""

from __future__ import annotations

import atexit
import errno
import json
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoreline_artifacts.golden import GoldenRow
    from scoreline_artifacts.loading import LoadedVersion
    from scoreline_artifacts.manifest import Manifest

LIMIT_S = 600.0
"""Seconds that loading and scoring some golden rows may take."""
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from scoreline_artifacts import clean_room; clean_room.main()"
)
_ANSWER, _OUTPUT = "answer.json", "output.txt"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""One thread for each numeric library, as in a worker; more would not survive the fork."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a version does not work in the clean room."""

    kind: str
    """The exception's class, or how the process ended."""
    message: str
    module: str | None = None
    """The module that was not found, if that is what was wrong."""
    file: str | None = None
    """The file that was not found, if that is what was wrong."""
    variable: str | None = None
    """The environment variable that was not set, if that is what was wrong."""
    place: str | None = None
    """`file:line` of the training project's code that was running, if any was."""
    trace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of a visit to the clean room."""

    failure: Failure | None = None
    batchable: bool = True
    """Whether golden rows got the same answers one by one, together and shuffled."""
    asked: list[str] = field(default_factory=list)
    """Modules and data files that its code asked for and that did not come along."""


def prove(manifest: Manifest, files: Mapping[str, bytes], *, limit_s: float = LIMIT_S) -> Finding:
    """Load a version in a clean room and score its golden rows there.

    A version that ends its process, or takes longer than `limit_s` seconds, is a failure like others.
    """
    with tempfile.TemporaryDirectory(prefix="scoreline-") as folder:
        staged = Path(folder)
        for name, data in {**files, "manifest.json": manifest.encode()}.items():
            path = staged / "artifact" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (staged / "empty").mkdir()
        return _visit(staged, limit_s)


def _visit(staged: Path, limit_s: float) -> Finding:
    with _ONE_AT_A_TIME:
        status = _room().visit(staged, limit_s)
    if status is None:
        message = f"it had not loaded and scored its golden rows after {limit_s:g} s"
        return Finding(failure=Failure(kind="timeout", message=message))
    try:
        found = json.loads((staged / _ANSWER).read_bytes())
    except (OSError, ValueError):
        return Finding(failure=_ended(status, staged / _OUTPUT))
    failure = found.pop("failure")
    return Finding(**found, failure=Failure(**failure) if failure else None)


def _ended(status: int, output: Path) -> Failure:
    code = os.waitstatus_to_exitcode(status)
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    said = output.read_text(errors="replace") if output.exists() else ""
    message = f"the process that loaded it ended with {how}"
    return Failure(kind="ended", message=message, trace=said[-2000:])


class _Room:
    """The interpreter that waits for visits; it ends when this process does."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        here = str(Path(__file__).resolve().parents[1])
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

    def visit(self, staged: Path, limit_s: float) -> int | None:
        """The wait status of the process that tried it, or None when time was up."""
        process = self._process
        assert process.stdin is not None  # noqa: S101 - both are pipes, see above
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(json.dumps([str(staged), *_project_folders()]).encode() + b"\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(limit_s):
                self.close()
                return None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the clean room ended with exit code {process.wait()}")
        return int(line)

    def close(self) -> None:
        """End the room and whatever runs in it."""
        if self.owner == os.getpid():
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.communicate()


_ONE_AT_A_TIME = threading.Lock()
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
    """Try what standard input names, a folder a line, each in a process of its own."""
    here, *folders = sys.argv[1:]
    _lock_the_door(here, folders)
    # What most artifacts need anyway; the forks have it without importing it again.
    import sklearn.pipeline  # noqa: F401

    from scoreline_artifacts import loading  # noqa: F401

    for line in sys.stdin:
        visitor = os.fork()
        if visitor == 0:
            _try_and_exit(*map(Path, json.loads(line)))
        print(os.waitpid(visitor, 0)[1], flush=True)  # noqa: T201 - the answer that is waited for


def _try_and_exit(staged: Path, *project: Path) -> None:
    """The whole life of a visit."""
    status = 1
    try:
        output = os.open(staged / _OUTPUT, os.O_WRONLY | os.O_CREAT)
        for stream, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
            os.dup2(target, stream)
        os.chdir(staged / "empty")
        _hide(project, but=staged)
        finding = _try_it(staged / "artifact")
        (staged / _ANSWER).write_text(json.dumps(asdict(finding)))
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _lock_the_door(here: str, folders: Sequence[str]) -> None:
    """Leave on the path what is installed, and take off what an editable installation added."""
    from scoreline_artifacts.origins import OURS

    installed = {*folders, here}
    sys.path += [folder for folder in folders if folder not in sys.path]
    sys.path[:] = [
        place
        for place in sys.path
        if place in installed
        or place.startswith(sys.base_prefix)
        or {"site-packages", "dist-packages"} & set(Path(place).parts)
        or any(Path(place, name).is_dir() for name in OURS)
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
        path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 - called for every file
        inside = next((one for one in innermost_first if path.startswith(one)), None)
        if inside is not None and not known[inside]:
            raise FileNotFoundError(errno.ENOENT, "it is a file of the training project", path)

    sys.addaudithook(refuse)


def _try_it(staged: Path) -> Finding:
    from scoreline_artifacts import golden, loading
    from scoreline_artifacts.manifest import GOLDEN, MANIFEST, Manifest

    manifest = Manifest.decode((staged / MANIFEST).read_bytes())

    def read(name: str) -> bytes:
        return (staged / name).read_bytes()

    namespace = loading.namespace_of(manifest, read)
    try:
        loaded = loading.assemble(manifest, read, namespace)
        rows = golden.decode(read(GOLDEN))
        golden.check(loaded, rows, manifest.tolerance)
        batchable = _is_batchable(loaded, rows, manifest.tolerance)
    # Whatever loading or scoring raises is what the one who publishes has to know.
    except Exception as error:  # noqa: BLE001
        return Finding(failure=_failure(error, manifest), asked=sorted(namespace.asked))
    return Finding(batchable=batchable, asked=sorted(namespace.asked))


def _failure(error: BaseException, manifest: Manifest) -> Failure:
    return Failure(
        kind=type(error).__name__,
        message=str(error),
        module=error.name if isinstance(error, ModuleNotFoundError) else None,
        file=str(error.filename or error) if isinstance(error, FileNotFoundError) else None,
        variable=_variable(error),
        place=_place(error, f"{manifest.model}@{manifest.version}".replace(".", "_") + "/sources/"),
        trace="".join(traceback.format_exception(error))[-4000:],
    )


def _variable(error: BaseException) -> str | None:
    """The environment variable that was asked for and is not set."""
    frames = traceback.extract_tb(error.__traceback__)
    in_os = bool(frames) and frames[-1].filename in {os.__file__, "<frozen os>"}
    return str(error.args[0]) if isinstance(error, KeyError) and in_os else None


def _place(error: BaseException, prefix: str) -> str | None:
    """The innermost line of the project's own code."""
    places = [
        f"{frame.filename.removeprefix(prefix)}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(prefix)
    ]
    return places[-1] if places else None


def _is_batchable(loaded: LoadedVersion, rows: Sequence[GoldenRow], tolerance: float) -> bool:
    """Whether records get the same answers alone, in company, and in another order."""
    import numpy as np

    from scoreline_artifacts import golden

    records = [row.record for row in rows]
    shuffled = np.random.default_rng(0).permutation(len(rows)).tolist()
    with suppress(Exception):  # a pipeline that fails on some company, or on none, depends on it
        alone = [loaded.score_records([record])[0] for record in records]
        mixed = loaded.score_records([records[place] for place in shuffled])
        pairs: list[tuple[Any, Any]] = [*zip(rows, alone, strict=True)]
        pairs += [(rows[place], found) for place, found in zip(shuffled, mixed, strict=True)]
        return all(golden.same_answer(want, got, tolerance) for want, got in pairs)
    return False
