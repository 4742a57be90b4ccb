"""The fake for users' tests is held against a real worker: the same calls, the same outcomes."""

from __future__ import annotations

from pathlib import Path

from scoreline_client import Client
from scoreline_client.testing import FakeModel, FakeScoreline
from scoreline_training import publish
from tests.acceptance.conftest import Fleet
from tests.support import twins


def test_a_fake_answers_as_the_service_does(fleet: Fleet, tmp_path: Path) -> None:
    stay, money = twins.classifier(), twins.regressor()
    for alias in ("production", "candidate"):
        publish(
            money, "money", twins.FRAME, twins.TARGETS, store=fleet.store, promote=True, alias=alias
        )
    publish(stay, "stay", twins.FRAME, twins.LABELS, store=fleet.store, promote=True)
    fleet.start_worker()
    models = {
        "stay": FakeModel(stay, twins.FRAME, twins.LABELS),
        "money": FakeModel(money, twins.FRAME, twins.TARGETS),
    }
    # A worker lists the versions that may be asked for, and the commands that make it more.
    others = dict(twins.CALLS)
    del others["a version that is not there"]
    with FakeScoreline(models=models) as scoreline, Client(settings=fleet.settings) as service:
        scoreline.add("money", models["money"], alias="candidate")
        fake = scoreline.client()
        for place, (asked, call) in enumerate(others.items()):
            got = twins.outcome(call, fake, tmp_path / f"fake-{place}")
            want = twins.outcome(call, service, tmp_path / f"service-{place}")
            assert got == want, asked
