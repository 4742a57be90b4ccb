"""A worker of a store with many models serves before it has loaded them, and only those that it is set to serve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from scoreline_artifacts.store import releases
from scoreline_client import Client
from scoreline_client.errors import UnknownModel
from scoreline_client.fleet import ProcessReport, read_reports, unloaded
from tests.acceptance.conftest import MODEL, Fleet

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

MANY = 60


@pytest.fixture
def many(fleet: Fleet) -> Fleet:
    """A store with copies of the model under other names, all released."""
    like = fleet.store.manifest(MODEL, 1)
    files = fleet.store.read_all(like)
    for number in range(MANY):
        name = f"copy-{number:02}"
        fleet.store.publish(replace(like, model=name), files)
        releases.promote(fleet.store, name, 1)
    return fleet


def test_a_worker_serves_what_is_asked_for_before_it_has_loaded_many_models(
    many: Fleet, eventually: Callable[..., Any]
) -> None:
    many.start_worker(2, model=None)
    with Client(settings=many.settings) as client:
        # The last one of all, in the order of their names.
        assert client.predict(MODEL, {"x": 1.0}, timeout=60).version == 1
        assert unloaded(read_reports(many.redis, many.keys))
        assert "more aliases are to be loaded" in many.scoreline("status").stdout
        eventually(lambda: not unloaded(_mains(many)))
        for number in range(MANY):
            assert client.predict(f"copy-{number:02}", {"x": 1.0}, timeout=60).version == 1


def test_a_worker_serves_the_models_that_it_is_set_to_serve(
    many: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORELINE_MODELS", f"{MODEL}, copy-1?")
    many.start_worker(1)
    with Client(settings=many.settings) as client:
        assert client.predict("copy-17", {"x": 1.0}, timeout=60).version == 1
        with pytest.raises(UnknownModel, match="no worker serves 'copy-20'"):
            client.predict("copy-20", {"x": 1.0}, timeout=60)
    assert "alone (SCORELINE_MODELS)" in many.scoreline("status").stdout
    promoted = many.scoreline("promote", "copy-20", "1")
    assert promoted.returncode == 1
    assert "nobody serves copy-20@1" in promoted.stdout


def _mains(fleet: Fleet) -> list[ProcessReport]:
    reports = [one for one in read_reports(fleet.redis, fleet.keys) if not one.scores]
    assert reports
    return reports
