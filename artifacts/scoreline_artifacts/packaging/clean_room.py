"""Loads a version in a clean room, an isolated interpreter without the training project, and proves its answers.

The interpreter runs in isolated mode (no PYTHON… variable, no user's site, no working directory on the path)
with a path of installed distributions alone: folders that an editable installation or a .pth file adds are out
of reach. It imports the libraries that most artifacts need, and runs nothing itself: each visit is a fork of it, with
an empty working directory, so that a visit leaves nothing behind for the next. Files of the training project
and of the folders of keys cannot be opened, and environment variables that the training process has set itself are not
set. It is no sandbox: code in it has the publisher's rights, and only the keys are put out of its reach.
"""

from __future__ import annotations

import atexit
import errno
import importlib
import json
import multiprocessing
import os
import selectors
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from scoreline_artifacts.dependencies import SCORELINE_PACKAGES
from scoreline_artifacts.manifest import GOLDEN, MANIFEST, SOURCES, Manifest
from scoreline_artifacts.packaging.hidden_folders import hide
from scoreline_artifacts.store.signing import key_folders

if TYPE_CHECKING:
    from types import FrameType

    from scoreline_artifacts.golden import GoldenRow
    from scoreline_artifacts.loading.namespace import Namespace
    from scoreline_artifacts.loading.version import LoadedVersion

LIMIT_S = 600.0
"""Seconds that starting, loading and scoring some golden rows may take."""
ARTIFACT = "artifact"
"""The folder of the artifact's files, below the folder that a visit is given."""
_WORKING_DIRECTORY, _RESULT, _OUTPUT = "empty", "result.json", "output.txt"
_MORE_ROWS, _LISTED, _TRAINING = "more-rows.jsonl", "listed.json", "training.pickle"
_PLAN_PROOF_S = "plan-proof-s.json"
_WITHOUT_PLAN = "without-plan.json"
"""The proof of a version without its plan, written before the plan is proved: the made-up rows may end the process."""
_OVERTIME = 5
"""The proof of a plan may take so many times its limit: a call of the pipeline cannot be cut short, and some made-up row
may keep it for ever."""
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from scoreline_artifacts.packaging import clean_room; clean_room.main(*sys.argv[1:])"
)
_STARTS_OF_PROCESSES = frozenset({"os.fork", "os.forkpty", "os.posix_spawn", "subprocess.Popen"})
_REACHES_FILES = frozenset({"open", "os.link", "os.rename"})
"""Audit events of what reads a file, or gives it a name under which it can be read."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Numeric libraries get one thread each, as in a worker."""


class CleanRoomFailed(Exception):
    """Raised when the process of a visit ended without a result; `kind` is `ended` or `timeout`."""

    def __init__(self, kind: str, message: str, output: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.output = output
        """The end of what the process printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanRoomFailure:
    """Why a version does not work in the clean room."""

    kind: str
    """The exception's class, or how the process ended."""
    message: str
    module: str | None = None
    """The module that was not found, if that was the reason."""
    file: str | None = None
    """The file that was not found, if that was the reason."""
    variable: str | None = None
    """The environment variable that is not set, if that was the reason."""
    location: str | None = None
    """`file:line` of the training project's code that was running, if any was."""
    trace: str = ""
    """The lines of the project's code that led there, or the last output of a process that ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The outcome of loading a version in the clean room and scoring its golden rows there."""

    failure: CleanRoomFailure | None = None
    batchable: bool = True
    """Whether golden rows got the same answers one by one, together and shuffled."""
    unused: list[str] = field(default_factory=list)
    """Columns without which golden rows got the same answers."""
    missing: list[str] = field(default_factory=list)
    """Modules and data files that its code asked for and that did not travel with it."""
    processes: list[str] = field(default_factory=list)
    """Where it started processes of its own."""
    plan: dict[str, Any] | None = None
    """The fields of a `PlanProof`; None where it was given no time, or the version failed."""


def prove(
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    more_rows: bytes = b"",
    listed: Sequence[str] = (),
    training: bytes = b"",
    plan_proof_s: float = 0.0,
    limit_s: float = LIMIT_S,
) -> Proof:
    """Load a version in the clean room and score its golden rows there.

    `more_rows` are further rows with their answers, as `golden.encode` writes them, which do not travel; `listed`
    are data files of the project that its code may see there, and that are missing once it opens them. `training` is
    a pickled frame of training's columns, with which its plan is proved, for `plan_proof_s` seconds at the most.
    A version that ends its process, or takes longer than `limit_s` seconds, is a failure like others.
    """
    with staged(manifest, files) as folder:
        (folder / _MORE_ROWS).write_bytes(more_rows)
        (folder / _LISTED).write_text(json.dumps(listed))
        (folder / _TRAINING).write_bytes(training)
        (folder / _PLAN_PROOF_S).write_text(json.dumps(plan_proof_s))
        try:
            fields = run_in_clean_room(f"{__name__}:load_and_score", folder, limit_s)
        except CleanRoomFailed as end:
            try:
                fields = json.loads((folder / _WITHOUT_PLAN).read_bytes())
            except OSError:
                failure = CleanRoomFailure(kind=end.kind, message=end.message, trace=end.output)
                return Proof(failure=failure)
            from scoreline_artifacts.loading.planned import PlanProof

            is_late = end.message.endswith(f"signal {signal.SIGALRM:d}")
            late = f"made-up rows took longer than {_OVERTIME * plan_proof_s:g} s"
            reason = f"it could not be proved: {late if is_late else end.message}"
            fields["plan"] = asdict(PlanProof(reason=reason))
    if fields["failure"] is not None:
        fields["failure"] = CleanRoomFailure(**fields["failure"])
    return Proof(**fields)


@contextmanager
def staged(manifest: Manifest, files: Mapping[str, bytes]) -> Iterator[Path]:
    """A folder for a visit, with an artifact's files under `artifact`; deleted at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="scoreline-") as name:
        folder = Path(name)
        for file, data in {**files, MANIFEST: manifest.encode()}.items():
            path = folder / ARTIFACT / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (folder / _WORKING_DIRECTORY).mkdir()
        yield folder


def run_in_clean_room(work: str, folder: Path, limit_s: float) -> Any:
    """Call a function in a visit to the clean room and return its result, as JSON carries it.

    `work` is `module:function` of a package that workers have; the function is called with `folder`.

    Raises:
        CleanRoomFailed: the process ended before the function did, or was not done after `limit_s` seconds.
    """
    # Folders of the project's files. A home folder also holds the settings and caches of libraries, which
    # workers have of their own.
    project = {str(Path.cwd()), *(str(Path(entry).resolve()) for entry in sys.path if entry)}
    project -= {os.sep, os.path.expanduser("~"), sys.prefix, sys.base_prefix}  # noqa: PTH111
    keys = sorted(filter(os.path.isdir, map(os.path.realpath, key_folders())))
    visit = [work, str(folder), sorted(filter(os.path.isdir, project)), keys]
    room = _Room.take()
    try:
        status = room.visit(visit, limit_s)
    except BaseException:
        # Also after Ctrl-C: the answer that is still to come is not that of the next visit.
        room.close()
        raise
    _idle.append(room)
    try:
        return json.loads((folder / _RESULT).read_bytes())
    except (OSError, ValueError) as error:
        code = os.waitstatus_to_exitcode(status)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        last_output = (folder / _OUTPUT).read_text(errors="replace")[-2000:]
        message = f"the process that loaded it ended with {how}"
        raise CleanRoomFailed("ended", message, last_output) from error


class _Room:
    """An interpreter that waits for visits. Its standard input ends with this process, and so does it."""

    def __init__(self, installed: Sequence[str]) -> None:
        source_root = str(Path(__file__).resolve().parents[2])
        self.owner, self.installed = os.getpid(), installed
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and the program above
            [sys.executable, "-I", "-c", _PROGRAM, source_root, *installed],
            env={**_environment_at_start(), **dict.fromkeys(_THREADS, "1")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # a line that is read ahead would be hidden from the selector
            start_new_session=True,
        )
        self._visitor: int | None = None
        atexit.register(self.close)

    @classmethod
    def take(cls) -> _Room:
        """A room without a visit: an idle one, or a new one."""
        # Folders that `pip install --target` filled: a worker has them as well.
        installed = [entry for entry in sys.path if entry and any(Path(entry).glob("*.dist-info"))]
        while True:
            try:
                room = _idle.pop()
            except IndexError:
                return cls(installed)
            if room.owner == os.getpid() and room.installed == installed:
                return room
            room.close()

    def visit(self, visit: Sequence[Any], limit_s: float) -> int:
        """Have a fork do some work; returns its wait status."""
        assert self._process.stdin is not None  # noqa: S101 - both are pipes, see above
        assert self._process.stdout is not None  # noqa: S101
        deadline = time.monotonic() + limit_s
        try:
            self._process.stdin.write(json.dumps(visit).encode() + b"\n")
            self._process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(self._process.stdout, selectors.EVENT_READ)
                lines = []
                for _ in ("its process id", "its wait status"):
                    if not selector.select(max(0.0, deadline - time.monotonic())):
                        raise CleanRoomFailed("timeout", f"it was not done after {limit_s:g} s")
                    lines.append(int(self._process.stdout.readline()))
                    self._visitor = lines[0]
        except (OSError, ValueError) as error:
            raise CleanRoomFailed("ended", f"the clean room itself ended: {error}") from error
        self._visitor = None
        return lines[1]

    def close(self) -> None:
        """End the interpreter and the visit that it may have."""
        atexit.unregister(self.close)
        if self.owner != os.getpid():
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        unread, _ = self._process.communicate()
        visitor = self._visitor or int(unread.partition(b"\n")[0] or 0)
        if visitor:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(visitor, signal.SIGKILL)


_idle: list[_Room] = []
"""Rooms without a visit. Taking one and giving it back are single operations, so threads have rooms of their own."""


def _environment_at_start() -> dict[str, str]:
    """The variables that this process was started with, without those that it has set itself."""
    try:
        block = Path("/proc/self/environ").read_bytes()
    except OSError:  # there is no /proc on macOS
        return {name: os.environ[name] for name in os.environ if name != "SCORELINE_KEYS"}
    pairs = (os.fsdecode(entry).partition("=") for entry in block.split(b"\0") if entry)
    return {name: value for name, _, value in pairs if name != "SCORELINE_KEYS"}


# Everything below runs inside the clean room.


def main(source_root: str, *installed: str) -> None:
    """Carry out the visits that standard input asks for, one a line, each in a process of its own."""
    # Only installed packages stay on the path, without the project that an editable installation added.
    paths = sysconfig.get_paths()
    archive = str(Path(paths["stdlib"]).with_name("python{}{}.zip".format(*sys.version_info)))
    standard_library = {paths["stdlib"], paths["platstdlib"], archive}
    sys.path[:] = [
        entry
        for entry in dict.fromkeys([*sys.path, *installed])
        if entry in {*installed, source_root}
        or any(Path(entry).is_relative_to(root) for root in standard_library)
        or {"site-packages", "dist-packages"} & set(Path(entry).parts)
        or any(Path(entry, name).is_dir() for name in SCORELINE_PACKAGES)
    ]
    sys.meta_path[:] = [
        finder
        for finder in sys.meta_path
        if "__editable__" not in getattr(finder, "__module__", "")
    ]
    # Most artifacts need these; forks have them without importing them again.
    import sklearn.pipeline  # noqa: F401

    from scoreline_artifacts.loading import artifact  # noqa: F401

    for line in sys.stdin:
        visitor = os.fork()
        if visitor == 0:
            _visit(*json.loads(line))
        status = os.waitpid(visitor, 0)[1]
        # Processes that the pipeline has started and left behind.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(visitor, signal.SIGKILL)
        print(status, flush=True)  # noqa: T201 - read by `_Room`


def _visit(work: str, folder: str, project: Sequence[str], keys: Sequence[str]) -> NoReturn:
    """Call the function that `work` names with a folder, write its result there, and end the process."""
    status = 1
    try:
        os.setpgid(0, 0)
        print(os.getpid(), flush=True)  # noqa: T201 - read by `_Room`
        output = os.open(Path(folder, _OUTPUT), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
            os.dup2(target, stream)
        # As in a worker's pool, whose processes may not have children of their own.
        multiprocessing.current_process().daemon = True
        module, _, function = work.partition(":")
        call = getattr(importlib.import_module(module), function)
        os.chdir(Path(folder, _WORKING_DIRECTORY))
        hide(keys)
        _block_project_files([*project, *keys], but=folder)
        Path(folder, _RESULT).write_text(json.dumps(call(Path(folder)), default=str))
        status = 0
    except BaseException:  # noqa: BLE001 - the caller reports the exit code and this output
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Neither threads nor exit handlers of the pipeline's libraries may hold up the result.
        os._exit(status)


def _block_project_files(folders: Sequence[str], but: str) -> None:
    """Let opening a file of these folders fail, as it does where workers run."""
    allowed = {
        str(Path(folder).resolve())
        for folder in (but, sys.prefix, sys.base_prefix, *sys.path)
        if folder
    }
    # An environment may lie in a project, and a project in a folder that holds an interpreter: the innermost
    # folder of a file decides.
    is_allowed = {f"{folder}{os.sep}": folder in allowed for folder in {*folders, *allowed}}
    innermost_first = sorted(is_allowed, key=len, reverse=True)

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _REACHES_FILES:
            return
        for name in arguments[: 1 if event == "open" else 2]:
            if not isinstance(name, str | bytes):
                continue
            path = os.path.realpath(os.fsdecode(name))
            # A folder that is opened gives access to its files, too.
            above = (folder for folder in innermost_first if f"{path}{os.sep}".startswith(folder))
            folder = next(above, None)
            if folder is not None and not is_allowed[folder]:
                reason = "it is a file of the training project, or a key"
                raise FileNotFoundError(errno.ENOENT, reason, path)

    sys.addaudithook(refuse)


def load_and_score(folder: Path) -> dict[str, Any]:
    """Load the artifact in a folder and score its golden rows; returns the fields of a `Proof`."""
    from scoreline_artifacts import golden
    from scoreline_artifacts.loading.artifact import assemble, namespace_of
    from scoreline_artifacts.loading.columns import is_batchable, unused_columns

    artifact = folder / ARTIFACT
    manifest = Manifest.decode((artifact / MANIFEST).read_bytes())

    def read(name: str) -> bytes:
        return (artifact / name).read_bytes()

    namespace = namespace_of(manifest, read, json.loads((folder / _LISTED).read_bytes()))
    unused: list[str] = []
    failure, batchable = None, False
    processes = _noted_processes(namespace)
    try:
        loaded = assemble(manifest, read, namespace)
        rows = golden.decode(read(GOLDEN))
        loaded.check_golden_rows(rows, manifest.tolerance)
        batchable = is_batchable(loaded, rows, manifest.tolerance)
        if more_rows := golden.decode((folder / _MORE_ROWS).read_bytes()):
            loaded.check_golden_rows(more_rows, manifest.tolerance)
        unused = unused_columns(loaded, rows, manifest.tolerance)
    # Whatever loading or scoring raises, the caller of publish() has to know it.
    except Exception as error:  # noqa: BLE001
        failure = _describe(error, manifest)
    proof = Proof(
        failure=failure,
        batchable=batchable,
        unused=unused,
        missing=sorted(namespace.missing),
        processes=sorted(processes),
    )
    fields = asdict(proof)
    # Afterwards: what code asks for because of made-up rows need not travel.
    plan_proof_s = json.loads((folder / _PLAN_PROOF_S).read_bytes())
    if failure is None and not proof.missing and plan_proof_s:
        (folder / _WITHOUT_PLAN).write_text(json.dumps(fields, default=str))
        batched = replace(loaded, batchable=batchable)
        # Not by a handler in Python, which waits for the end of a call in C.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, _OVERTIME * plan_proof_s)
        fields["plan"] = _proven_plan(batched, rows, folder / _TRAINING, plan_proof_s)
        signal.setitimer(signal.ITIMER_REAL, 0)
    return fields


def _proven_plan(
    loaded: LoadedVersion, rows: Sequence[GoldenRow], training: Path, limit_s: float
) -> dict[str, Any]:
    """The fields of a `PlanProof`."""
    import pandas as pd

    from scoreline_artifacts.loading.planned import PlanProof
    from scoreline_artifacts.packaging.plan_proof import prove_plan
    from scoreline_artifacts.validation import frame_of_records

    try:
        golden_frame = frame_of_records([row.record for row in rows], loaded.schema).frame
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # rows unlike those of training are no news
            frame = pd.read_pickle(training)  # noqa: S301 - of this publisher
            return asdict(prove_plan(loaded, golden_frame, frame, limit_s))
    # No pipeline is refused because its plan cannot be proved.
    except Exception as error:  # noqa: BLE001
        return asdict(PlanProof(reason=f"it could not be proved: {type(error).__name__}: {error}"))


def _noted_processes(namespace: Namespace) -> set[str]:
    """Where private code starts processes, by itself or by the standard library, from now on."""
    lines: set[str] = set()
    standard_library = sysconfig.get_paths()["stdlib"]
    prefix = f"{namespace.label}/{SOURCES}"

    def note(event: str, _: tuple[Any, ...]) -> None:
        if event not in _STARTS_OF_PROCESSES:
            return
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename.startswith((standard_library, "<")):
            frame = frame.f_back
        if frame is not None and frame.f_globals.get("__builtins__") is namespace.builtins:
            lines.add(f"line {frame.f_code.co_filename.removeprefix(prefix)}:{frame.f_lineno}")

    sys.addaudithook(note)
    return lines


def _describe(error: Exception, manifest: Manifest) -> CleanRoomFailure:
    """What a person needs to know of an exception, and where in the project's code it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    prefix = f"{manifest.model}@{manifest.version}".replace(".", "_") + "/sources/"
    project = [frame for frame in frames if frame.filename.startswith(prefix)]
    # `os.environ["NAME"]` raises a KeyError in the os module.
    is_variable = isinstance(error, KeyError) and frames[-1].filename in {
        os.__file__,
        "<frozen os>",
    }
    return CleanRoomFailure(
        kind=type(error).__name__,
        message=str(error),
        module=error.name if isinstance(error, ModuleNotFoundError) else None,
        file=str(error.filename or error) if isinstance(error, FileNotFoundError) else None,
        variable=str(error.args[0]) if is_variable else None,
        location=(
            f"{project[-1].filename.removeprefix(prefix)}:{project[-1].lineno}" if project else None
        ),
        trace="".join(traceback.format_list(project))[-4000:],
    )
