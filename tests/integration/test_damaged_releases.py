"""Three hundred damaged versions are released one after the other, and nobody who asks notices."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from scoreline_artifacts import Store
from scoreline_artifacts.store import releases
from scoreline_client.testing import FakeScoreline
from scoreline_training import publish


@pytest.mark.parametrize("damaged", [60, pytest.param(300, marks=pytest.mark.exhaustive)])
def test_damaged_versions_are_refused_and_the_one_before_answers_on(
    tmp_path: Path, eventually: Callable[[Callable[[], Any]], Any], damaged: int
) -> None:
    store = Store(tmp_path / "store")
    frame = pd.DataFrame({"x": [float(one) for one in range(40)]})
    good = publish(
        LinearRegression().fit(frame, frame["x"] + 1), "shift", frame, store=store
    ).manifest
    releases.promote(store, "shift", 1)
    files = store.read_all(good)
    dice = random.Random(7)
    with FakeScoreline(store=tmp_path / "store") as scoreline:
        client = scoreline.client()
        for number in range(2, damaged + 2):
            store.publish(good, files)
            _damage(store.path("shift", number), dice)
            _release(store, number)
            answer = client.predict("shift", {"x": float(number)})
            assert answer.version == 1
            assert abs(answer.value - (number + 1)) < 1e-6
        # And a version that is right is followed again.
        last = store.publish(good, files)
        releases.promote(store, "shift", last.version)
        eventually(lambda: client.predict("shift", {"x": 1.0}).version == last.version)


def _release(store: Store, version: int) -> None:
    """Release a version, also one that `promote` itself would refuse."""
    before = releases.current(store, "shift")
    assert before is not None
    following = before.sequence + 1
    values = {"version": version, "sequence": following, "log": before.log}
    assert releases._append(store, "shift", "production", None, **values) is not None


def _damage(folder: Path, dice: random.Random) -> None:
    """Flip one bit of one file, or cut it short."""
    path = dice.choice(sorted(one for one in folder.rglob("*") if one.is_file()))
    data = bytearray(path.read_bytes())
    place = dice.randrange(len(data))
    if dice.random() < 0.3:
        del data[place:]
    else:
        data[place] ^= 1 << dice.randrange(8)
    path.chmod(0o644)
    path.write_bytes(data)
