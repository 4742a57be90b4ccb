"""The examples for other languages run as they stand, against the worker's own code on a private server."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from scoreline_client import ClientSettings
from scoreline_tasks.testing import InProcessWorker
from tests.support import twins

EXAMPLE = Path(__file__).parents[2] / "examples" / "node" / "scoreline.mjs"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")


@pytest.fixture
def served(redis_client: Redis) -> Iterator[None]:
    """A worker in a thread, with a classifier and a model of two outputs, each with classes."""
    worker = InProcessWorker(redis_client, ClientSettings())
    worker.add("stay", twins.classifier(), frame=twins.FRAME, labels=twins.LABELS)
    worker.add("money", twins.regressor(), frame=twins.FRAME, labels=twins.TARGETS)
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            worker.report()
            if not worker.step():
                ended.wait(0.005)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join(20)


def _node(redis_url: str, script: str) -> Any:
    """What a script prints as JSON that has a client of the example."""
    program = f"""
        import {{ Scoreline }} from {json.dumps(EXAMPLE.as_uri())};
        const good = {json.dumps(twins.GOOD)};
        const client = await Scoreline.open({json.dumps(redis_url)});
        const told = await (async () => {{ {script} }})();
        console.log(JSON.stringify(told));
        await client.close();
    """
    command = [str(NODE), "--input-type=module", "-"]
    done = subprocess.run(
        command, input=program, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.usefixtures("served")
def test_node_asks_for_predictions(redis_url: str) -> None:
    told = _node(
        redis_url,
        """
        const one = await client.predict("stay", good);
        const many = await client.predictMany("stay", [good, { ...good, income: "much" }]);
        const all = await Promise.all(Array.from({ length: 50 }, () => client.predict("stay", good)));
        const refused = await client.predict("stay", {}).catch((error) => error.code);
        const unknown = await client.predict("nobody", {}).catch((error) => error.code);
        const large = await client.predictMany("stay", Array(3000).fill(good), { timeoutMs: 60000 });
        const two = await client.predict("money", good);
        return { one, many, all: all.length, refused, unknown, large: large.length, two: two.value };
        """,
    )
    assert told["one"]["value"] in ("stays", "leaves")
    assert sum(told["one"]["probabilities"].values()) == pytest.approx(1)
    assert told["many"][0]["value"] == told["one"]["value"]
    assert told["many"][1]["error"]["column"] == "income"
    assert (told["all"], told["large"], len(told["two"])) == (50, 3000, 2)
    assert (told["refused"], told["unknown"]) == ("E_MISSING_COLUMN", "E_UNKNOWN_MODEL")


@pytest.mark.usefixtures("served")
def test_node_submits_jobs_and_asks_what_is_served(redis_url: str) -> None:
    told = _node(
        redis_url,
        """
        const id = await client.submit("stay", [good, {}]);
        let result;
        while (!(result = await client.result(id))) await new Promise((wait) => setTimeout(wait, 20));
        const described = await client.describe("stay");
        const status = await client.status();
        const late = await client.cancel(id);
        return { result, described, status, late };
        """,
    )
    assert [one["error"] and one["error"]["code"] for one in told["result"]] == [
        None,
        "E_MISSING_COLUMN",
    ]
    assert [column["name"] for column in told["described"]["columns"]] == list(twins.FRAME.columns)
    assert told["status"] == {
        "processes": 1,
        "models": {"money@production": [1], "stay@production": [1]},
    }
    assert told["late"] is False


def test_node_says_when_nobody_answers_and_cancels_what_waits(redis_url: str) -> None:
    told = _node(
        redis_url,
        """
        const code = await client.predict("stay", good, { timeoutMs: 50 }).catch((error) => error.code);
        const id = await client.submit("stay", [good]);
        const before = await client.result(id);
        const cancelled = await client.cancel(id);
        const after = await client.result(id).catch((error) => error.code);
        return { code, before, cancelled, after };
        """,
    )
    assert told == {"code": "NO_ANSWER", "before": None, "cancelled": True, "after": "E_CANCELLED"}


@pytest.mark.usefixtures("served")
def test_node_runs_from_the_shell(redis_url: str) -> None:
    command = [str(NODE), str(EXAMPLE), redis_url, "stay", json.dumps(twins.GOOD)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    (prediction,) = json.loads(done.stdout)
    assert prediction["model"] == "stay"
