"""The `scoreline` program: what it prints, and what its exit codes mean."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points

import click
import orjson
import pytest
from click.testing import CliRunner, Result
from fakeredis import FakeRedis
from redis import Redis

from scoreline_artifacts.errors import PartlyPruned, StoreUnreachable, UnknownModelError
from scoreline_client import (
    Client,
    FileRefused,
    JobLost,
    MissingDependency,
    NoAnswer,
    QueueFull,
    RecordRejected,
    ScorelineError,
    ServerUnreachable,
    SettingsError,
    UnknownModel,
)
from scoreline_client.cli import main as cli
from scoreline_client.cli.kit import command
from scoreline_client.fleet import ProcessReport, ServedModel, send_report
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.protocol.messages import Answer, Request
from scoreline_client.testing import FakeRedisServer
from scoreline_tasks.settings import WorkerSettings
from tests.support.worker import StubWorker

KEYS = Keys("default")
COMMANDS = sorted(entry.name for entry in entry_points(group="scoreline.commands"))

Run = Callable[..., Result]


@pytest.fixture
def server() -> FakeRedisServer:
    return FakeRedisServer()


@pytest.fixture
def redis(server: FakeRedisServer) -> Iterator[Redis]:
    with server.client() as client:
        yield client


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, server: FakeRedisServer) -> Run:
    """Run the program with a fake server where the real one would be."""

    def client() -> Client:
        return Client(connection=server.async_client)

    monkeypatch.setattr("scoreline_client.cli.predict.Client", client)
    monkeypatch.setattr(
        "scoreline_client.cli.status.blocking_redis", lambda *_, **__: server.client()
    )
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: str, given: str | None = None) -> Result:
        return CliRunner().invoke(cli.main, arguments, input=given)

    return invoke


@pytest.fixture
def worker(redis: Redis) -> Iterator[StubWorker]:
    with StubWorker(redis).serving() as worker:
        yield worker


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecordRejected("E_TYPE", "m"), 1),
        (UnknownModel("E_UNKNOWN_MODEL", "m"), 2),
        (FileRefused("E_QUOTE", "a.csv", "m"), 2),
        (SettingsError("SCORELINE_QUEUE_LIMIT", "x", "a number"), 2),
        (MissingDependency("f", "p", "e"), 2),
        (JobLost("id"), 2),
        (ServerUnreachable("redis://h", "r"), 3),
        (NoAnswer("id", 1, "d"), 3),
        (QueueFull("q", "r", 1), 3),
        (UnknownModelError("m", "store", []), 2),
        (PartlyPruned("m", [1], "r"), 1),
        (StoreUnreachable("s3://b", "r"), 3),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_command_ends_with_the_exit_code_of_its_error(error: ScorelineError, code: int) -> None:
    @command()
    def fail() -> None:
        raise error

    done = CliRunner().invoke(fail)
    assert (done.exit_code, done.stderr) == (code, f"Error: {error}\n")


def test_what_the_machine_refuses_is_a_line_and_not_a_traceback() -> None:
    @command()
    def fill() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/scoreline-x/model")

    done = CliRunner().invoke(fill)
    assert done.exit_code == 3
    assert done.stderr == "Error: No space left on device: /tmp/scoreline-x/model\n"

    @command()
    def confuse() -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file", "ours")

    assert isinstance(CliRunner().invoke(confuse).exception, FileNotFoundError)


def test_help_lists_every_installed_command_with_a_sentence(run: Run) -> None:
    lines = {line.split()[0]: line for line in run("--help").output.splitlines() if line.split()}
    assert [name for name in COMMANDS if not lines.get(name, "").endswith(".")] == []


def test_help_explains_the_exit_codes(run: Run) -> None:
    assert "some records were rejected" in run("--help").output


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_help_shows_examples(run: Run, command: str) -> None:
    assert f"scoreline {command}" in run(command, "--help").output.partition("Example")[2]


def test_a_misspelt_command_is_told_with_the_one_that_was_meant(run: Run) -> None:
    done = run("statu")
    assert done.exit_code == 2
    assert "no command 'statu'; did you mean 'status'?" in done.stderr
    assert "no command 'qqqq'\n" in run("qqqq").stderr


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from scoreline_client.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print(*{'pandas', 'numpy', 'celery', 'sklearn', 'pyarrow'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_a_command_whose_package_lacks_something_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = EntryPoint("train", "package_that_is_not_there.cli:train", "scoreline.commands")
    monkeypatch.setattr(cli, "entry_points", lambda **_: [broken])
    done = run("train", "pima", "--promote")
    assert done.exit_code == 2
    assert "scoreline train needs package_that_is_not_there" in done.stderr
    assert "pip install 'scoreline[training]'" in done.stderr


def test_our_own_broken_import_is_not_taken_for_a_missing_package(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = EntryPoint("train", "scoreline_client.not_there:train", "scoreline.commands")
    monkeypatch.setattr(cli, "entry_points", lambda **_: [broken])
    assert isinstance(run("train").exception, ModuleNotFoundError)


def test_ctrl_c_ends_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def stuck() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_load", lambda _: stuck)
    assert run("predict").exit_code == 130


def test_predict_prints_an_object_for_an_object(run: Run, worker: StubWorker) -> None:
    done = run("predict", "pima", '{"x": 21}', "--json")
    assert done.exit_code == 0
    shown = orjson.loads(done.stdout)
    assert (shown["value"], shown["model"], shown["version"]) == (42, "pima", 7)


def test_predict_prints_an_array_for_an_array_and_ends_with_1_for_a_rejected_record(
    run: Run, worker: StubWorker
) -> None:
    done = run("predict", "pima", '[{"x": 1}, {"y": 2}, {"x": 3}]', "--json")
    assert done.exit_code == 1
    shown = orjson.loads(done.stdout)
    assert [row["value"] for row in shown] == [2, None, 6]
    assert shown[1]["error"]["column"] == "x"


def test_predict_reads_stdin(run: Run, worker: StubWorker) -> None:
    assert (
        orjson.loads(run("predict", "pima", "-", "--json", given='{"x": 4}').stdout)["value"] == 8
    )


def test_predict_prints_a_table_for_people(run: Run, worker: StubWorker) -> None:
    done = run("predict", "pima", '[{"x": 1}, {"y": "[red]"}]')
    assert "pima@7" in done.stdout
    assert "E_MISSING_COLUMN: column 'x' is missing" in done.stdout


def test_predict_prints_probabilities_of_several_outputs_in_columns(run: Run, redis: Redis) -> None:
    def answer(request: Request) -> Answer:
        outputs = [
            {"name": "size", "classes": ["big", "low"]},
            {"name": "much", "classes": [False]},
        ]
        return Answer(
            id=request.id, model="m", version=7, records=1, values=[["low", False]],
            outputs=outputs, probabilities=[[0.25, 0.75, 1.0]],
        )  # fmt: skip

    with StubWorker(redis).serving(answer):
        shown = run("predict", "m", '{"x": 1}').stdout
    assert "probability_size_low" in shown
    assert "probability_much_False" in shown
    assert "0.7500" in shown


@pytest.mark.parametrize("text", ["{", "5", '"text"', "null", "[" * 100_000])
def test_what_is_no_json_object_is_a_usage_error(run: Run, text: str) -> None:
    done = run("predict", "pima", text)
    assert done.exit_code == 2
    assert "Usage:" in done.stderr


@pytest.mark.parametrize("arguments", [("Pima!", '{"x": 1}'), ("pima", "[]")])
def test_what_is_refused_ends_with_2(run: Run, arguments: tuple[str, str]) -> None:
    assert run("predict", *arguments).exit_code == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCORELINE_REDIS_URL", "nonsense"),
        ("SCORELINE_REDIS_URL", "redis://host:port/0"),
        ("SCORELINE_RESULT_TTL_S", "abc"),
    ],
)
@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "m", "{}"),
        ("score", "m", "in.csv", "out.csv"),
        ("check", "m", "in.csv"),
        ("status",),
        ("up",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_setting_that_is_unusable_ends_with_2_and_is_named(
    arguments: tuple[str, ...], name: str, value: str
) -> None:
    done = CliRunner().invoke(cli.main, arguments, env={name: value})
    assert (done.exit_code, name in done.stderr) == (2, True)


def test_a_password_in_an_unusable_address_is_not_shown() -> None:
    address = {"SCORELINE_REDIS_URL": "http://:p@ss@host/0"}
    done = CliRunner().invoke(cli.main, ["predict", "m", "{}"], env=address)
    assert done.exit_code == 2
    assert "ss@" not in done.stderr


@pytest.mark.parametrize("seconds", ["inf", "nan", "-1", "x"])
@pytest.mark.parametrize(
    "arguments", [("predict", "m", "{}"), ("promote", "m", "1"), ("rollback", "m")]
)
def test_a_timeout_that_is_no_number_of_seconds_is_a_usage_error(
    arguments: tuple[str, ...], seconds: str
) -> None:
    done = CliRunner().invoke(cli.main, [*arguments, "--timeout", seconds])
    assert done.exit_code == 2
    assert "Invalid value for '--timeout'" in done.stderr


@pytest.mark.parametrize("seconds", ["inf", "nan", "-1"])
def test_a_setting_in_seconds_is_a_number_of_them(seconds: str) -> None:
    with pytest.raises(SettingsError, match="SCORELINE_POLL_S"):
        WorkerSettings.from_environment({"SCORELINE_POLL_S": seconds})


def test_a_number_of_thirty_digits_travels_with_all_of_them(run: Run, redis: Redis) -> None:
    run("predict", "pima", '{"x": 123456789012345678901234567890}', "--timeout", "0.05")
    ((_, fields),) = redis.xrange(KEYS.lane(Lane.ONLINE))
    assert fields[b"body"] == b'[{"x":123456789012345678901234567890}]'


def test_no_answer_ends_with_3_and_advice(run: Run) -> None:
    done = run("predict", "pima", '{"x": 1}', "--timeout", "0.05")
    assert done.exit_code == 3
    assert "celery -A scoreline_tasks worker" in done.stderr


def test_status_without_a_worker_ends_with_3(run: Run) -> None:
    done = run("status")
    assert done.exit_code == 3
    assert "no worker is alive" in done.stdout


@pytest.fixture
def _two_processes(redis: Redis) -> None:
    for number, (serving, refused) in enumerate([(2, None), (1, "golden row 3 differs")]):
        model = ServedModel(serving=serving, wanted=2, refused=refused)
        report = ProcessReport(
            name=f"w@h/{number}", host="h", pid=number, started_at=1.0, reported_at=1.0,
            models={"pima@production": model}, requests=10, records=50, batches=5,
        )  # fmt: skip
        send_report(redis, KEYS, report)


@pytest.mark.usefixtures("_two_processes")
def test_status_shows_who_serves_what_and_who_refuses_why(run: Run) -> None:
    done = run("status")
    assert done.exit_code == 0
    for text in ("pima@production", "golden row 3 differs", "w@h/1", "10.0"):
        assert text in done.stdout


@pytest.mark.usefixtures("_two_processes")
def test_status_is_one_json_object_for_a_script(run: Run, worker: StubWorker) -> None:
    shown = orjson.loads(run("status", "--json").stdout)
    assert shown["waiting"] == {"online": 0, "bulk": 0}
    assert [process["name"] for process in shown["processes"]] == ["w@h/0", "w@h/1"]


@pytest.mark.parametrize(
    ("info", "shown"),
    [
        ({"redis_version": "7.0.15"}, "Redis 7.0.15"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "Valkey 9.1.2"),
    ],
)
def test_status_shows_the_servers_version(
    run: Run,
    worker: StubWorker,
    monkeypatch: pytest.MonkeyPatch,
    info: dict[str, str],
    shown: str,
) -> None:
    monkeypatch.setattr(FakeRedis, "info", lambda *_: info)
    assert orjson.loads(run("status", "--json").stdout)["server"] == shown
    assert shown in " ".join(run("status").stdout.split())


def test_status_refuses_a_server_that_is_too_old_by_its_name(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeRedis, "info", lambda *_: {"redis_version": "6.2.14"})
    done = run("status")
    assert done.exit_code == 2
    assert "the server is Redis 6.2.14, and Scoreline needs Redis 7.0 or newer" in done.stderr


def test_status_of_an_unreachable_server_ends_with_3_and_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCORELINE_REDIS_URL", "redis://me:secret@127.0.0.1:1/0")
    done = CliRunner().invoke(cli.main, ["status"])
    assert done.exit_code == 3
    assert "cannot reach Redis at redis://127.0.0.1:1/0" in done.stderr
    assert "secret" not in done.output
