"""What calls take is learned from calls of different sizes, whatever comes first."""

from __future__ import annotations

import random

import pytest

from scoreline_tasks.scoring.batch import COSTS_KEPT, CallCosts


@pytest.mark.parametrize(
    ("call_s", "row_s"), [(0.0, 0.05), (0.3, 0.0001), (0.1, 0.005), (0.001, 0.000002)]
)
@pytest.mark.parametrize("first", [1, 64])
def test_the_two_parts_are_told_apart(call_s: float, row_s: float, first: int) -> None:
    dice, costs = random.Random(0), CallCosts()
    for rows in (first, *(dice.randint(1, 64) for _ in range(60))):
        costs.note("m@1", rows, (call_s + row_s * rows) * dice.uniform(1.0, 1.02))
    cost = costs.of("m@1")
    assert cost is not None
    for rows in (1, 10, 100):
        assert cost.expected_s(rows) == pytest.approx(call_s + row_s * rows, rel=0.3)


def test_a_slow_first_call_is_forgotten_also_where_all_calls_are_of_one_row() -> None:
    costs = CallCosts()
    costs.note("m@1", 1, 2.0)
    for _ in range(40):
        costs.note("m@1", 1, 0.001)
    cost = costs.of("m@1")
    assert cost is not None
    assert cost.expected_s(10) < 0.02


def test_a_version_that_becomes_slower_is_seen() -> None:
    costs = CallCosts()
    for took_s in (*[0.001] * 10, *[0.2] * 20):
        costs.note("m@1", 2, took_s)
    cost = costs.of("m@1")
    assert cost is not None
    assert cost.expected_s(2) == pytest.approx(0.2, rel=0.1)


def test_a_bounded_number_of_versions_is_remembered() -> None:
    costs = CallCosts()
    for number in range(3 * COSTS_KEPT):
        costs.note(f"m@{number}", 1, 0.1)
    assert len(costs._costs) <= COSTS_KEPT
    assert costs.of(f"m@{3 * COSTS_KEPT - 1}") is not None
