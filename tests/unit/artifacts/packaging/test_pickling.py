"""What goes into a pickle comes out of it in a process that never saw where it came from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scoreline_artifacts.loading import artifact
from scoreline_artifacts.loading.namespace import Namespace
from scoreline_artifacts.packaging import pickling

SCRIPT = """
from functools import partial
from pathlib import Path
from scoreline_artifacts.packaging import pickling

FACTOR = 3
UNRELATED = open(__file__)  # cannot be pickled, and nothing that is pickled uses it

def scale(x, *, factor): return x * factor + offset(x)
def offset(x): return FACTOR
def closure(limit): return lambda x: x > limit

class Doubler:
    def __call__(self, x): return 2 * x

things = [partial(scale, factor=2), lambda x: x + FACTOR, closure(4), Doubler()]
Path("out.dill").write_bytes(pickling.dump(things).data)
UNRELATED.close()
"""


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    """A partial, a lambda, a closure and an object of a class, all from a script's __main__."""
    (tmp_path / "script.py").write_text(SCRIPT)
    subprocess.run([sys.executable, "-W", "error", "script.py"], cwd=tmp_path, check=True)
    return (tmp_path / "out.dill").read_bytes()


def test_what_a_script_defines_travels_by_value(data: bytes) -> None:
    assert [thing(5) for thing in artifact.unpickle(data, Namespace("m@1", {}, {}))] == [
        13,
        8,
        True,
        10,
    ]


def test_nothing_tells_where_the_script_lay(data: bytes, tmp_path: Path) -> None:
    assert str(tmp_path).encode() not in data
    assert b"script.py" in data  # its name, for tracebacks


def test_what_cannot_be_pickled_raises() -> None:
    with pytest.raises(TypeError, match="generator"):
        pickling.dump(number for number in range(3))
