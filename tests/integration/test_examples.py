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


PROXY = """
    // Passes bytes between the client and the server. `cut` closes the connections on which a command went by; what is
    // in `cutOnce` closes its connection right after it was passed on, so that its reply is lost.
    import { createServer, connect } from "node:net";
    const links = [];
    let cutOnce = null;
    const target = new URL(redisUrl);
    const proxy = createServer((near) => {
      const far = connect(Number(target.port), target.hostname);
      const link = { near, far, seen: "" };
      links.push(link);
      near.on("data", (data) => {
        link.seen += data;
        far.write(data);
        if (!cutOnce || !String(data).includes(cutOnce)) return;
        cutOnce = null;
        near.destroy();
      });
      far.on("data", (data) => near.destroyed || near.write(data));
      near.on("error", () => {}).on("close", () => far.end());
      far.on("error", () => {}).on("close", () => near.destroy());
    });
    await new Promise((listening) => proxy.listen(0, "127.0.0.1", listening));
    const proxyUrl = `redis://127.0.0.1:${proxy.address().port}/${target.pathname.slice(1)}`;
    const cut = (command) => links.filter((link) => link.seen.includes(command)).forEach(({ near }) => near.destroy());
    // The lines of a server's reply to a command of our own, over a connection of its own.
    const ask = (...parts) =>
      new Promise((done) => {
        let told = "";
        const socket = connect(Number(target.port), target.hostname).on("data", (data) => (told += data));
        socket.on("close", () => done(told.split("\\r\\n")));
        for (const command of [["SELECT", target.pathname.slice(1) || "0"], parts, ["QUIT"]]) {
          const words = command.map((word) => `$${Buffer.byteLength(word)}\\r\\n${word}\\r\\n`);
          socket.write(`*${command.length}\\r\\n${words.join("")}`);
        }
      });
    const killed = async (command) => {
      const of = (await ask("CLIENT", "LIST")).join("\\n").split("\\n").filter((line) => line.includes(`cmd=${command} `));
      for (const line of of) await ask("CLIENT", "KILL", "ID", line.match(/id=(\\d+)/)[1]);
      return of.length;
    };
    // What a request in the online lane says in a field, once it is there.
    const asked = async (field) => {
      for (;;) {
        const lines = await ask("XRANGE", "scoreline:{default}:online", "-", "+");
        if (lines.includes(field)) return lines[lines.indexOf(field) + 2];
      }
    };
    const answerTo = (id) =>
      JSON.stringify({ wire: 1, id, status: "ok", model: "stay", version: 1, records: 1, values: ["stays"] });
"""


def _node(redis_url: str, script: str, *, proxied: bool = False) -> Any:
    """What a script prints as JSON that has a client of the example, behind a proxy or not."""
    program = f"""
        import {{ Scoreline }} from {json.dumps(EXAMPLE.as_uri())};
        const good = {json.dumps(twins.GOOD)};
        const redisUrl = {json.dumps(redis_url)};
        {PROXY}
        const client = await Scoreline.open({"proxyUrl" if proxied else "redisUrl"});
        const told = await (async () => {{ {script} }})();
        console.log(JSON.stringify(told));
        await client.close();
        proxy.close();
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


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("command", ["blpop", "xadd"])
def test_node_goes_on_after_a_connection_was_killed(redis_url: str, command: str) -> None:
    told = _node(
        redis_url,
        f"""
        await client.predict("stay", good);
        const count = await killed("{command}");
        const one = await client.predict("stay", good);
        const id = await client.submit("stay", [good]);
        let result;
        while (!(result = await client.result(id))) await new Promise((wait) => setTimeout(wait, 20));
        const status = await client.status();
        return {{ count, one: one.error, jobs: result.length, processes: status.processes }};
        """,
    )
    assert told == {"count": 1, "one": None, "jobs": 1, "processes": 1}


@pytest.mark.usefixtures("served")
def test_node_goes_on_after_both_connections_were_lost_with_requests_on_them(
    redis_url: str,
) -> None:
    told = _node(
        redis_url,
        """
        await client.predict("stay", good);
        const asked = Array.from({ length: 20 }, () => client.predict("stay", good));
        cut("BLPOP");
        cut("XADD");
        return (await Promise.all(asked)).length;
        """,
        proxied=True,
    )
    assert told == 20


def test_node_repeats_a_request_under_its_id_when_the_reply_is_lost(redis_url: str) -> None:
    told = _node(
        redis_url,
        """
        cutOnce = "XADD";
        const id = await client.submit("stay", [good]);
        const ids = (await ask("XRANGE", "scoreline:{default}:bulk", "-", "+")).filter((line) => line === id);
        return ids.length;
        """,
        proxied=True,
    )
    assert told == 2


def test_node_looks_up_what_was_answered_while_its_connection_was_lost(redis_url: str) -> None:
    told = _node(
        redis_url,
        """
        const answer = client.predict("stay", good, { timeoutMs: 30000 });
        const id = await asked("id");
        await ask("SET", `scoreline:{default}:result:${id}`, answerTo(id));
        await killed("blpop");
        return (await answer).value;
        """,
    )
    assert told == "stays"


def test_node_looks_up_an_answer_when_its_time_is_over(redis_url: str) -> None:
    told = _node(
        redis_url,
        """
        const answer = client.predict("stay", good, { timeoutMs: 500 });
        const id = await asked("id");
        await ask("SET", `scoreline:{default}:result:${id}`, answerTo(id));
        return (await answer).value;
        """,
    )
    assert told == "stays"


def test_node_goes_on_after_a_note_of_an_answer_that_is_gone(redis_url: str) -> None:
    told = _node(
        redis_url,
        """
        const gone = client.predict("stay", good, { timeoutMs: 30000 }).catch((error) => error.code);
        const id = await asked("id");
        const list = `scoreline:{default}:reply:${await asked("reply_to")}`;
        await ask("RPUSH", list, JSON.stringify({ wire: 1, id, stored: true }));
        const code = await gone;
        await ask("DEL", "scoreline:{default}:online");
        const next = client.predict("stay", good, { timeoutMs: 30000 });
        await ask("RPUSH", list, answerTo(await asked("id")));
        return { code, next: (await next).value };
        """,
    )
    assert told == {"code": "NO_ANSWER", "next": "stays"}


def test_node_says_that_the_server_is_gone(redis_url: str) -> None:
    told = _node(
        redis_url,
        """
        proxy.close();
        const codeOf = (error) => error.code;
        const answer = client.predict("stay", good, { timeoutMs: 30000 }).catch(codeOf);
        await asked("id");
        cut("SELECT");
        const submitted = client.submit("stay", [good]).catch(codeOf);
        return Promise.all([answer, submitted, client.status().catch(codeOf)]);
        """,
        proxied=True,
    )
    assert told == ["E_SERVER"] * 3
