"""A process that follows release logs of which one is not right."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from scoreline_artifacts import KeyRing, Store
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.marks import LogMarks
from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused
from scoreline_client.protocol.messages import ModelRef
from scoreline_tasks.models.registry import Models
from scoreline_training import publish


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Models `bad` and `good`, versions 1 and 2 each, of which 1 is released."""
    store = Store(tmp_path)
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
    for model in ("bad", "good"):
        for shift in (1.0, 2.0):
            fitted = LinearRegression().fit(frame, frame["x"] + shift)
            publish(fitted, model, frame, store=store, promote=False)
        releases.promote(store, model, 1)
    return store


@pytest.fixture
def models(store: Store) -> Models:
    models = _started(store)
    assert models.follow()
    return models


def _started(store: Store) -> Models:
    """As a worker's process has them."""
    return Models(store, max_versions=8, seen=LogMarks.from_environment())


def _entry(store: Store, number: int) -> Path:
    return Path(store.root, "bad", "releases", "production", f"{number:08d}.json")


def _serving(models: Models, model: str) -> int:
    return models.resolve(ModelRef(name=model, alias="production")).version


def test_an_alias_whose_log_is_not_right_keeps_what_it_has_and_the_others_go_on(
    store: Store, models: Models
) -> None:
    _entry(store, 2).write_bytes(b"nobody signed this")
    releases.promote(store, "good", 2)
    assert models.follow()
    assert (_serving(models, "bad"), _serving(models, "good")) == (1, 2)


def test_the_report_says_why_and_says_so_once_in_the_log(
    store: Store, models: Models, caplog: pytest.LogCaptureFixture
) -> None:
    _entry(store, 2).write_bytes(b"nobody signed this")
    with caplog.at_level(logging.ERROR):
        assert [models.follow() for _ in range(3)] == [True, False, False]
    served = models.report()["bad@production"]
    assert (served.serving, served.wanted) == (1, None)
    assert "it is not signed" in str(served.refused)
    assert caplog.text.count("log_refused") == 1


def test_a_log_that_is_right_again_is_followed(store: Store, models: Models) -> None:
    _entry(store, 2).write_bytes(b"nobody signed this")
    models.follow()
    _entry(store, 2).unlink()
    assert models.follow()
    assert models.report()["bad@production"].refused is None
    releases.promote(store, "bad", 2)
    assert models.follow()
    assert _serving(models, "bad") == 2


def test_a_log_whose_end_was_taken_away_is_reported_also_by_a_process_that_starts(
    store: Store, models: Models
) -> None:
    releases.promote(store, "bad", 2)
    models.follow()
    _entry(store, 2).unlink()
    started = _started(store)
    for process in (models, started):
        process.follow()
        assert "LogTruncated" in str(process.report()["bad@production"].refused)
    assert _serving(models, "bad") == 2
    with pytest.raises(RequestRefused, match="number 2 was seen here") as refused:
        _serving(started, "bad")
    assert refused.value.code == Code.NOT_LOADED


def test_a_caller_is_not_told_where_store_and_keys_are_and_an_operator_is(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = tmp_path / "no keys"
    stranger = Models(Store(store.root, KeyRing(keys)), max_versions=8)
    with caplog.at_level(logging.ERROR):
        stranger.follow()
    for place in (str(store.root), str(keys)):
        assert place in str(stranger.report()["good@production"].refused)
        assert place in caplog.text
    with pytest.raises(RequestRefused, match=r"scoreline keys trust.*The worker's log") as refused:
        _serving(stranger, "good")
    assert str(tmp_path) not in str(refused.value)
    assert "no keys" not in str(refused.value)


def test_a_process_that_trusts_nobody_says_what_to_do(store: Store, tmp_path: Path) -> None:
    stranger = Models(Store(store.root, KeyRing(tmp_path / "none")), max_versions=8)
    stranger.follow()
    for _ in range(2):
        with pytest.raises(RequestRefused, match="scoreline keys trust"):
            _serving(stranger, "good")


def test_a_key_that_is_revoked_loads_nothing_more(store: Store, models: Models) -> None:
    store.ring.revoke(str(store.ring.own_fingerprint()))
    store.ring.generate(rotate=True)
    assert _serving(models, "good") == 1
    with pytest.raises(RequestRefused, match="was revoked here"):
        models.resolve(ModelRef(name="good", alias=None, version=2))


def test_whatever_is_harmed_in_a_released_version_the_one_before_serves(store: Store) -> None:
    releases.promote(store, "good", 2)
    chance = random.Random(7)
    files = sorted(store.path("good", 2).iterdir())
    for _ in range(40):
        path = chance.choice(files)
        whole = path.read_bytes()
        at = chance.randrange(len(whole))
        path.write_bytes(
            whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :]
        )
        models = _started(store)
        models.follow()
        assert _serving(models, "good") == 1
        assert models.report()["good@production"].refused
        path.write_bytes(whole)
