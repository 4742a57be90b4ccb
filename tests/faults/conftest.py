"""A ground that the faults of a file share, and what holds them to their promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.faults.ground import Ground, environment, ground, keys_and_cache
from tests.faults.table import cells, named

SEED, RATE = 7, 50.0


@pytest.fixture(scope="module")
def shared() -> Iterator[Ground]:
    """A server and a worker."""
    with ground(SEED, RATE, is_brief=True) as made:
        yield made


@pytest.fixture
def holds(shared: Ground) -> Callable[[str], None]:
    """Puts a fault to the test a few times: nothing is lost, wrong, late, or answered twice.

    How long it took is for `make faults`: a busy machine is not a bug.
    """

    def check(name: str) -> None:
        (fault,) = named([name])
        with environment(keys_and_cache(shared.folder)):
            outcome = fault.run(shared, fault.brief)
        print(*cells(fault, outcome), sep=" | ")  # noqa: T201 - pytest shows it with -rA or a failure
        failures = fault.failures(outcome, timed=False)
        assert not failures, (failures, outcome.notes, shared.fleet.log.read_text()[-3000:])

    return check
