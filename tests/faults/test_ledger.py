"""The checker sees what it is there for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from scoreline_client.protocol.messages import Answer
from tests.faults.ledger import JOB, MANY, PREDICT, Ledger, Verdict, Writer


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


@pytest.fixture
def writer(ledger: Ledger) -> Writer:
    return Writer(ledger.folder / "client.jsonl")


def _check(ledger: Ledger, stored: dict[str, list[float]] | None = None) -> Verdict:
    results = {
        name: Answer(id=name, version=1, values=values).encode()
        for name, values in (stored or {}).items()
    }

    def offline(version: int, xs: Sequence[float]) -> list[float]:
        return [x + version for x in xs]

    return ledger.check(lambda ids: [results.get(one) for one in ids], offline)


def test_answers_as_offline_are_right(ledger: Ledger, writer: Writer) -> None:
    for kind in (JOB, MANY, PREDICT):
        writer.asked(kind, kind, [1.0, 2.0])
        writer.answered(kind, 2, [3.0, 4.0])
    verdict = _check(ledger)
    assert (verdict.accepted, str(verdict)) == (3, "nothing")


@pytest.mark.parametrize("values", [[2.0, 3.1], [2.0], [2.0, None], [3.0, 2.0]])
def test_another_answer_is_wrong(
    ledger: Ledger, writer: Writer, values: list[float | None]
) -> None:
    writer.asked("one", MANY, [1.0, 2.0])
    writer.answered("one", 1, values)
    assert len(_check(ledger).wrong) == 1


def test_an_error_that_nobody_deserves_is_wrong(ledger: Ledger, writer: Writer) -> None:
    writer.asked("one", MANY, [1.0])
    writer.failed("one", "E_CRASHED", accepted=True)
    assert len(_check(ledger).wrong) == 1


def test_what_was_accepted_and_has_no_answer_is_lost(ledger: Ledger, writer: Writer) -> None:
    writer.asked("never fetched", JOB, [1.0])
    writer.asked("given up", MANY, [1.0])
    writer.failed("given up", "NoAnswer", accepted=True)
    writer.asked("refused", MANY, [1.0])
    writer.failed("refused", "QueueFull", accepted=False)
    assert len(_check(ledger).lost) == 2
    on_server = _check(ledger, {"never fetched": [2.0], "given up": [2.0]})
    assert (on_server.lost, len(on_server.late)) == ([], 2)


def test_what_expired_and_says_so_is_late_and_not_lost(ledger: Ledger, writer: Writer) -> None:
    writer.asked("one", MANY, [1.0])
    writer.failed("one", "RequestExpired", accepted=True)
    verdict = _check(ledger)
    assert (verdict.lost, len(verdict.late)) == ([], 1)


def test_a_second_reply_or_a_changed_result_is_an_answer_too_many(
    ledger: Ledger, writer: Writer
) -> None:
    writer.asked("replied", MANY, [1.0])
    for _ in range(2):
        writer.replied("replied")
    writer.answered("replied", 1, [2.0])
    writer.asked("changed", JOB, [1.0])
    writer.answered("changed", 1, [2.0])
    verdict = _check(ledger, {"changed": [2.5]})
    assert (len(verdict.twice), len(verdict.wrong)) == (1, 1)


def test_half_a_line_is_read_when_it_is_whole(ledger: Ledger, writer: Writer) -> None:
    path = ledger.folder / "client.jsonl"
    writer.asked("one", MANY, [1.0])
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    ledger.read()
    assert not ledger.requests
    path.write_bytes(whole)
    ledger.read()
    assert list(ledger.requests) == ["one"]
