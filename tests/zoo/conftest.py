"""One run of the zoo for all tests that look at it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from rich.console import Console

from tests.zoo.zoo import PROJECTS, Zoo, run, table


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zoo]:
    """All projects trained, published without a report, which no test reads, deleted, and asked elsewhere."""
    made = run(tmp_path_factory.mktemp("zoo"), with_report=False)
    Console(width=110).print(table([made.verdicts[name] for name in PROJECTS]))
    yield made
    shutil.rmtree(made.out)
