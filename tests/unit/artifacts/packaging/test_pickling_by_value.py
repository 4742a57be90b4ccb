"""What only a training script holds comes out of a pickle as it went in, where there is no script."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import dill
import pytest
from dill import detect

from scoreline_artifacts.loading import artifact
from scoreline_artifacts.loading.namespace import Namespace
from scoreline_artifacts.packaging import pickling

SCRIPT = """
import enum
from functools import lru_cache
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar
from scoreline_artifacts.packaging import pickling

T = TypeVar("T")

class Planet(enum.Enum):
    EARTH = (6.0, 2)
    MARS = (1.0, 4)
    TERRA = EARTH
    def __init__(self, mass, radius):
        self.mass = mass
        self.radius = radius
    @property
    def gravity(self): return self.mass / self.radius
    @classmethod
    def home(cls): return Planet.EARTH
    def __str__(self): return f"planet {self.name}"

class Side(enum.StrEnum):
    LEFT = enum.auto()

class Rights(enum.IntFlag):
    READ = 4
    WRITE = 2

class Span(NamedTuple):
    low: float
    high: float = 9.0
    def width(self): return self.high - self.low
    def __repr__(self): return f"{self.low} to {self.high}"

class Box(Generic[T]):
    def __init__(self, content: T): self.content = content

def power(n):
    def times(x, left): return x if left <= 1 else x * times(x, left - 1)
    return lambda x: times(x, n)

def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)

@lru_cache(maxsize=7)
def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

things = dict(Planet=Planet, mars=Planet.MARS, side=Side.LEFT, rights=Rights.READ | Rights.WRITE,
              span=Span(2.0), box=Box[int](5), cube=power(3), even=even, fibonacci=fibonacci)
Path("out.dill").write_bytes(pickling.dump(things).data)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Things of a script, pickled by it."""
    folder = tmp_path_factory.mktemp("script")
    (folder / "script.py").write_text(SCRIPT)
    subprocess.run([sys.executable, "-W", "error", "script.py"], cwd=folder, check=True)
    return (folder / "out.dill").read_bytes()


@pytest.fixture
def things(data: bytes) -> Any:
    """The same things here."""
    return artifact.unpickle(data, Namespace("m@1", {}, {}))


def test_an_enum_keeps_its_members_and_methods(things: Any) -> None:
    planet = things["Planet"]
    assert [str(one) for one in planet] == ["planet EARTH", "planet MARS"]
    assert things["mars"] is planet.MARS is planet((1.0, 4))
    assert planet.TERRA is planet.EARTH is planet.home()
    assert (planet.EARTH.gravity, planet.MARS.mass) == (3.0, 1.0)


def test_enums_of_text_and_of_flags_are_text_and_numbers(things: Any) -> None:
    assert things["side"] == "left"
    assert (things["rights"] == 6, type(things["rights"])(4).name) == (True, "READ")


def test_a_named_tuple_keeps_its_methods_and_defaults(things: Any) -> None:
    assert (things["span"].width(), repr(things["span"])) == (7.0, "2.0 to 9.0")
    assert type(things["span"])(1.0).high == 9.0


def test_a_generic_class_comes_along(things: Any) -> None:
    assert things["box"].content == 5


def test_functions_that_call_themselves_or_each_other_come_along(things: Any) -> None:
    assert (things["cube"](2), things["even"](10), things["even"](7)) == (8, True, False)


def test_a_cached_function_has_an_empty_cache_of_the_same_size(things: Any) -> None:
    assert things["fibonacci"].cache_info().currsize == 0
    assert things["fibonacci"](20) == 6765
    assert things["fibonacci"].cache_info().maxsize == 7


def test_an_open_file_is_refused_rather_than_opened_again_elsewhere(tmp_path: Path) -> None:
    with (
        (tmp_path / "seen.log").open("w") as file,
        pytest.raises(TypeError, match=r"cannot pickle the open file '.*seen\.log'"),
    ):
        pickling.dump([file])


def test_dill_walks_into_functions_by_the_name_that_is_replaced() -> None:
    """Fails when dill no longer calls itself through `dill.detect.globalvars`."""
    seen: list[str] = []
    original = detect.globalvars

    def recorded(function: Any, recurse: bool = True, builtin: bool = False) -> Any:
        seen.append(function.__name__)
        return original(function, recurse, builtin)

    def inner() -> int:
        return 1

    def outer() -> int:
        return inner()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detect, "globalvars", recorded)
        dill.dumps(outer, recurse=True)
    assert {"outer", "inner"} <= set(seen)


def _uses_a_global() -> str:
    return SCRIPT


def test_dill_is_as_it_was_after_pickling_and_for_other_threads() -> None:
    original = detect.globalvars
    elsewhere: list[Any] = []
    with pickling.no_repeated_globals_walk():
        assert detect.globalvars is not original
        thread = threading.Thread(
            target=lambda: elsewhere.extend(detect.globalvars(_uses_a_global) for _ in range(2))
        )
        thread.start()
        thread.join()
    assert detect.globalvars is original
    assert elsewhere == [{"SCRIPT": SCRIPT}] * 2
