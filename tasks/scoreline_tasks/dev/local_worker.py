"""Runs a worker on this machine as a child process, for the demo and the benchmarks, and `scoreline up`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from redis import Redis
from rich.console import Console

from scoreline_client import fleet
from scoreline_client.errors import MissingDependency, ScorelineError
from scoreline_client.protocol.keys import Keys
from scoreline_client.settings import ClientSettings
from scoreline_client.shown import shown_url
from scoreline_tasks.dev.processes import running
from scoreline_tasks.dev.server import (
    EmbeddedServerError,
    PortTaken,
    data_of,
    embedded_server,
    password_of,
    port_of,
)

START_S = 60.0
"""Seconds that a worker may take from its start to its first report."""


class WorkerEnded(ScorelineError):
    """Raised when the worker's process ended by itself."""

    exit_status = 1

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"the worker ended by itself with exit code {exit_code}; its log says why")
        self.exit_code = exit_code


class WorkerSilent(ScorelineError):
    """Raised when a worker that was started does not report a version that it serves."""

    exit_status = 1

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"the worker does not serve after {timeout_s:g} s; its log says why")
        self.timeout_s = timeout_s


@dataclass(frozen=True, kw_only=True)
class WorkerEnvironment:
    """The server, store and queue that a worker and its callers share.

    A field that is None is as this process's environment says.
    """

    redis_url: str
    artifacts: Path | str | None = None
    """The artifact store, a folder or a URL."""
    queue: str | None = None
    """The queue's name."""
    own: Path | None = None
    """A folder for keys and cache of their own."""

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of a child process."""
        artifacts, own = self.artifacts, self.own and self.own.resolve()
        named = {
            "SCORELINE_REDIS_URL": self.redis_url,
            "SCORELINE_ARTIFACTS": artifacts.resolve()
            if isinstance(artifacts, Path)
            else artifacts,
            "SCORELINE_QUEUE": self.queue,
            "SCORELINE_KEYS": own and own / "keys",
            "SCORELINE_CACHE": own and own / "cache",
            # On this machine the caller is who publishes, and tries a version before releasing it.
            "SCORELINE_SERVE_UNRELEASED": 1,
        }
        return {name: str(value) for name, value in named.items() if value is not None}


def scoreline(*arguments: str) -> list[str]:
    """A `scoreline` command of this installation, as a program and its arguments."""
    code = "import sys; from scoreline_client.cli.main import main; sys.exit(main())"
    return [sys.executable, "-c", code, *arguments]


@contextmanager
def local_worker(
    where: WorkerEnvironment,
    *options: str,
    concurrency: int | None = None,
    loglevel: str = "INFO",
    output: IO[bytes] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `celery -A scoreline_tasks worker`, with its options, for as long as the block lasts.

    Raises:
        MissingDependency: Celery is not installed.
    """
    if importlib.util.find_spec("celery") is None:
        raise MissingDependency("A worker", "celery", "worker")
    command = [sys.executable, "-m", "celery", "-A", "scoreline_tasks", "worker"]
    command += ["--loglevel", loglevel, *options]
    if concurrency is not None:
        command += ["--concurrency", str(concurrency)]
    with running(command, where.environment, output) as child:
        yield child


def wait_until_reporting(
    child: subprocess.Popen[bytes],
    redis: Redis,
    keys: Keys,
    *,
    processes: int = 1,
    model: str | None = None,
    timeout_s: float = START_S,
) -> list[fleet.ProcessReport]:
    """Wait until that many processes of a worker report, and all of them serve `model` if given.

    Reports of other workers do not count, such as those of one that was killed some seconds ago.

    Raises:
        WorkerEnded: it ended instead.
        WorkerSilent: time is up.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise WorkerEnded(child.returncode)
        own = [
            report
            for report in fleet.read_reports(redis, keys)
            if report.scores and (report.parent or report.name).endswith(f"/{child.pid}")
        ]
        served = [report.models.get(f"{model}@production") for report in own]
        ready = sum(
            model is None or (state is not None and state.serving is not None) for state in served
        )
        if ready >= processes and ready == len(own):
            return own
        time.sleep(0.05)
    raise WorkerSilent(timeout_s)


_NEXT = """
[bold]The worker is ready.[/bold] In another terminal:
{setting}{train}
  scoreline status                    what waits, who serves what
Ctrl-C here stops both.
"""
_TRAIN = """\
  scoreline train pima --promote      train a first model and release it
  scoreline predict pima '{"preg": 6, "plas": 148, "pres": 72, "skin": 35, "test": 0, "mass": 33.6, "pedi": 0.627, "age": 50}'\
"""
_TRAIN_OWN = """\
  scoreline train SCRIPT.py --promote run a script that calls publish(), such as README's, and release the model
  scoreline models                    what may be asked for; `describe MODEL` says with which columns\
"""
_INSTALL = "  pip install 'scoreline\\[publishing]'  what publish() needs, to make a first model"


def first_steps() -> str:
    """The commands that bring a first model, as far as they work with what is installed."""
    installed = importlib.util.find_spec
    if not all(map(installed, ("dill", "jinja2", "matplotlib", "scipy"))):
        return _INSTALL
    return _TRAIN if installed("sklearn_pandas") else _TRAIN_OWN


def serve_here(console: Console, port: int | None, concurrency: int | None, data: Path) -> None:
    """Run both until the worker ends or KeyboardInterrupt is raised.

    Raises:
        SettingsError: a setting is unusable.
        EmbeddedServerError: the server cannot be started; the message says what to do.
        WorkerEnded: the worker ended by itself.
    """
    settings = ClientSettings.from_environment()
    settings.check_redis_url()
    number = port or port_of(settings.redis_url)
    password = password_of(settings.redis_url)
    try:
        with (
            embedded_server(port=number, data=data_of(number, data), password=password) as url,
            Redis.from_url(url) as redis,
            local_worker(
                WorkerEnvironment(redis_url=url), concurrency=concurrency, loglevel="WARNING"
            ) as worker,
        ):
            console.print(
                f"an embedded Redis server listens on {shown_url(url)}; starting a worker"
            )
            wait_until_reporting(worker, redis, Keys(settings.queue))
            exported = shown_url(url).replace("://", "://:PASSWORD@") if password else url
            is_set = url == settings.redis_url
            setting = "" if is_set else f"  export SCORELINE_REDIS_URL={exported}\n"
            console.print(
                _NEXT.format(setting=setting, train=first_steps()), highlight=False, soft_wrap=True
            )
            raise WorkerEnded(worker.wait())
    except PortTaken as error:
        advice = (
            "To use it, start only a worker: celery -A scoreline_tasks worker. "
            if error.is_redis
            else ""
        )
        raise EmbeddedServerError(
            f"{error}. {advice}To start another server: scoreline up --port {number + 1}"
        ) from error
