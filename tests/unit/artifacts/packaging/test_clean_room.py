"""The clean room has what is installed, nothing of this project, and survives what is tried in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from scoreline_artifacts import KeyRing, Manifest, Outputs, Schema
from scoreline_artifacts.manifest import GOLDEN, PIPELINE
from scoreline_artifacts.packaging import clean_room, pickling
from scoreline_artifacts.store.store import describe_file


class Runs:
    """Runs code when it is loaded."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __reduce__(self) -> Any:
        return exec, (self._code,)


def _prove(code: str, limit_s: float = 60.0) -> clean_room.Proof:
    files = {PIPELINE: pickling.dump(Runs(code)).data, GOLDEN: b""}
    manifest = Manifest(
        model="m",
        version=1,
        created_at="",
        files={name: describe_file(data) for name, data in files.items()},
        schema=Schema(()),
        outputs=Outputs(method="predict"),
    )
    return clean_room.prove(manifest, files, limit_s=limit_s)


@pytest.fixture
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project whose folder is the working directory and in every variable that Python reads."""
    (tmp_path / "of_the_project.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("_project")
def test_nothing_of_the_project_is_in_reach() -> None:
    failure = _prove("import of_the_project").failure
    assert failure is not None
    assert failure.module == "of_the_project"


def test_nothing_of_an_editable_installation_is_in_reach() -> None:
    # The tests and benchmarks stand beside our own packages, which are installed as editable.
    failure = _prove("import benchmarks.celery_task").failure
    assert failure is not None
    # pyarrow 17 has a folder of that name, too.
    assert failure.module in ("benchmarks", "benchmarks.celery_task")


@pytest.mark.usefixtures("_project")
def test_a_file_of_the_project_cannot_be_opened_under_its_full_path(tmp_path: Path) -> None:
    (tmp_path / "limits.txt").write_text("4")
    failure = _prove(f"open({str(tmp_path / 'limits.txt')!r})").failure
    assert failure is not None
    assert failure.file == str(tmp_path / "limits.txt")


@pytest.mark.usefixtures("_project")
def test_an_environment_inside_the_project_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "venv" / "lib"
    (installed / "tool-1.dist-info").mkdir(parents=True)
    (installed / "tool.py").write_text("HERE = True\n")
    monkeypatch.syspath_prepend(installed)
    failure = _prove("import tool; raise ValueError(open(tool.__file__).read())").failure
    assert failure is not None
    assert failure.message == "HERE = True\n"


@pytest.mark.usefixtures("_project")
def test_a_variable_that_this_process_has_set_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGION", "north")
    failure = _prove("import os; os.environ['REGION']").failure
    assert failure is not None
    assert failure.variable == "REGION"


def test_the_working_directory_is_empty() -> None:
    failure = _prove("import os; raise ValueError(os.listdir())").failure
    assert failure is not None
    assert failure.message == "[]"


def test_nothing_of_one_visit_is_there_in_the_next() -> None:
    _prove("import os, sys; os.environ['LEFT'] = '1'; sys.path.append('/left')")
    failure = _prove("import os, sys; raise ValueError('LEFT' in os.environ, '/left' in sys.path)")
    assert failure.failure is not None
    assert failure.failure.message == "(False, False)"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os._exit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
        ("import sys; sys.exit(4)", "exit code"),
    ],
)
def test_what_ends_its_process_is_a_failure_like_others(code: str, words: str) -> None:
    failure = _prove(f"print('last words', flush=True); {code}").failure
    assert failure is not None
    assert failure.kind == "ended"
    assert words in failure.message
    assert "last words" in failure.trace


def test_what_takes_too_long_is_ended() -> None:
    failure = _prove("while True: pass", limit_s=0.5).failure
    assert failure is not None
    assert failure.kind == "timeout"
    after = _prove("raise ValueError('here')").failure
    assert after is not None
    assert after.message == "here"


def test_nothing_that_a_pipeline_has_started_outlives_the_visit(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import subprocess, pathlib; started = subprocess.Popen(['sleep', '60']); "
        f"pathlib.Path({str(note)!r}).write_text(str(started.pid))"
    )
    _prove(code)
    while _runs(int(note.read_text())):
        time.sleep(0.01)  # until the test's own limit of time


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("is_idle", [True, False], ids=["idle interpreter", "new interpreter"])
def test_an_interrupted_visit_ends_its_process_and_does_not_answer_for_the_next(
    is_idle: bool,
) -> None:
    if is_idle:
        _prove("pass")
    else:
        while clean_room._idle:
            clean_room._idle.pop().close()
    others = set(psutil.Process().children(recursive=True))
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            _prove("import time; time.sleep(50)")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert set(psutil.Process().children(recursive=True)) <= others
    after = _prove("raise ValueError('here')").failure
    assert after is not None
    assert after.message == "here"


def test_a_fork_has_a_clean_room_of_its_own() -> None:
    _prove("pass")
    child = os.fork()
    if child == 0:
        failure = _prove("raise ValueError('in the fork')").failure
        os._exit(0 if failure is not None and failure.message == "in the fork" else 1)
    assert os.waitpid(child, 0)[1] == 0
    after = _prove("raise ValueError('here')").failure
    assert after is not None
    assert after.message == "here"


def test_threads_that_publish_at_the_same_moment_get_their_own_answers() -> None:
    with ThreadPoolExecutor(4) as pool:
        failures = pool.map(lambda number: _prove(f"raise ValueError({number})").failure, range(8))
    assert [failure and failure.message for failure in failures] == [*map(str, range(8))]


def test_the_interpreter_ends_with_the_process_that_published() -> None:
    """Also when that process is killed: standard input ends."""
    script = (
        "from tests.unit.artifacts.packaging.test_clean_room import _prove; from scoreline_artifacts.packaging "
        "import clean_room; import os; _prove('pass'); "
        "print(clean_room._idle[0]._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    while _runs(int(ended.stdout)):
        time.sleep(0.01)  # until the test's own limit of time


@pytest.mark.usefixtures("_project")
def test_a_file_of_the_project_is_out_of_reach_through_a_link(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    link = tmp_path_factory.mktemp("elsewhere") / "link"
    link.symlink_to(tmp_path)
    failure = _prove(f"open({str(link / 'of_the_project.py')!r})").failure
    assert failure is not None
    assert "it is a file of the training project" in failure.message


# The keys of who publishes

KEY = "the private key"
_READS: dict[str, str] = {
    "by its path": "data = open(KEYS + '/private.pem').read()",
    "relative to it": "os.chdir(KEYS); data = open('private.pem').read()",
    "below its folder": "at = os.open(KEYS, os.O_RDONLY); data = os.read(os.open('private.pem', 0, dir_fd=at), 99)",
    "under another name": "os.link(KEYS + '/private.pem', 'mine'); data = open('mine').read()",
    "in another place": "os.rename(KEYS, 'mine'); data = open('mine/private.pem').read()",
    "through a link": "os.symlink(KEYS, 'mine'); data = open('mine/private.pem').read()",
    "wherever it is": (
        "data = [open(os.path.join(place, name)).read() for place, _, names in os.walk(ABOVE) for name in names]"
    ),
}
_PROGRAMS: dict[str, str] = {
    "by a program": "data = subprocess.run(['cat', KEYS + '/private.pem'], capture_output=True).stdout",
    "by native code": (
        "libc = ctypes.CDLL(None); data = bytearray(99); size = libc.read(libc.open((KEYS + '/private.pem').encode(), 0),"
        " (ctypes.c_char * 99).from_buffer(data), 99)"
    ),
    "of its parent": "data = open(f'/proc/{os.getppid()}/root' + KEYS + '/private.pem').read()",
    "after undoing it": (
        "libc = ctypes.CDLL(None); libc.umount(KEYS.encode()); libc.umount2(KEYS.encode(), 2);"
        "data = subprocess.run(['cat', KEYS + '/private.pem'], capture_output=True).stdout"
    ),
    "in a namespace of its own": (
        "data = subprocess.run(['unshare', '-Urm', 'sh', '-c', f'umount {KEYS}; cat {KEYS}/private.pem'], "
        "capture_output=True).stdout"
    ),
}


def _is_hidden_by_the_kernel() -> bool:
    code = (
        "import sys; from scoreline_artifacts.packaging.hidden_folders import hide; import tempfile; "
        "sys.exit(not hide([tempfile.mkdtemp()]))"
    )
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def keys(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("config") / "scoreline" / "keys"
    folder.mkdir(parents=True)
    (folder / "private.pem").write_text(KEY)
    monkeypatch.setenv("SCORELINE_KEYS", str(folder))
    KeyRing.from_environment()
    return folder


def _told(code: str, keys: Path) -> str:
    """What a version that was loaded in the clean room could tell of the keys."""
    lines = (
        "import ctypes, os, subprocess",
        f"KEYS, ABOVE = {str(keys)!r}, {str(keys.parents[1])!r}",
        code,
        "raise ValueError(data)",
    )
    failure = _prove("\n".join(lines)).failure
    assert failure is not None
    return failure.message


@pytest.mark.parametrize("code", _READS.values(), ids=_READS)
def test_no_version_reads_the_key_of_who_publishes(keys: Path, code: str) -> None:
    assert KEY not in _told(code, keys)
    assert (keys / "private.pem").read_text() == KEY


@pytest.mark.skipif(not _is_hidden_by_the_kernel(), reason="no namespaces for users are allowed")
@pytest.mark.parametrize("code", _PROGRAMS.values(), ids=_PROGRAMS)
def test_no_program_that_a_version_starts_reads_it(keys: Path, code: str) -> None:
    assert KEY not in _told(code, keys)


def test_the_folder_of_keys_is_not_named_in_the_room(tmp_path: Path) -> None:
    script = (
        "from tests.unit.artifacts.packaging.test_clean_room import _prove; "
        "print(_prove(\"import os; raise ValueError(os.environ.get('SCORELINE_KEYS'))\").failure.message)"
    )
    environment = {**os.environ, "SCORELINE_KEYS": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=True, text=True
    )
    assert done.stdout == "None\n"
