"""Pipelines of the zoo answer from a real worker, bit for bit, as they did in training."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis

from scoreline_artifacts.store import releases
from scoreline_client import Client, Prediction
from scoreline_client.protocol.keys import Keys
from scoreline_client.settings import ClientSettings
from scoreline_tasks.dev.local_worker import WorkerEnvironment, local_worker, wait_until_reporting
from tests.zoo.loader import bits
from tests.zoo.zoo import STORE, Zoo

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

SERVED = (
    "column_transformer",
    "data_files",
    "dates",
    "feature_union",
    "grid_search_itself",
    "imputers",
    "main_functions",
    "multi_label",
    "not_batchable",
    "notebook",
    "pricing_2023",
    "pricing_2024",
    "random_forest",
    "sparse_transform",
    "tfidf_tokenizer",
)
"""With n_jobs, text, data files, code of a script and of a notebook, one by one, two versions."""


@pytest.fixture(scope="module")
def client(zoo: Zoo, valkey_server: Any) -> Iterator[Client]:
    """A client of a real worker that has never seen a project, with the zoo's store."""
    url = f"redis://{valkey_server.host}:{valkey_server.port}/0"
    releases.promote(zoo.store, "pricing", 1)
    where = WorkerEnvironment(redis_url=url, artifacts=zoo.out / STORE, own=zoo.out)
    with (
        Redis.from_url(url) as redis,
        (zoo.out / "worker.log").open("ab") as output,
        local_worker(where, concurrency=1, output=output) as worker,
    ):
        wait_until_reporting(worker, redis, Keys("default"), processes=1, model="pricing")
        with Client(settings=ClientSettings(redis_url=url)) as made:
            yield made
        worker.terminate()
        worker.wait(30)
        redis.flushall()


@pytest.mark.parametrize("name", SERVED)
def test_a_worker_answers_as_training_did(zoo: Zoo, client: Client, name: str) -> None:
    note = zoo.note(name)
    answers = _asked(client, f"{note['model']}@{note['version']}", note)
    assert [answer.error for answer in answers if answer.error] == []
    assert [bits(answer.value) for answer in answers] == [bits(one) for one in _values(note)]
    if note["has_classes"]:
        found = [list((answer.probabilities or {}).values()) for answer in answers]
        assert bits(found) == bits(note["probabilities"].tolist())


def _asked(client: Client, model: str, note: dict[str, Any]) -> list[Prediction]:
    if note["batchable"]:
        return client.predict_many(model, note["records"], timeout=60)
    # All at the same moment: whoever scored them together would answer otherwise.
    with ThreadPoolExecutor(len(note["records"])) as callers:
        return list(
            callers.map(lambda one: client.predict(model, one, timeout=60), note["records"])
        )


def _values(note: dict[str, Any]) -> list[Any]:
    values = note["values"]
    answers: list[Any] = (values[:, 0] if values.shape[1:] == (1,) else values).tolist()
    return answers
