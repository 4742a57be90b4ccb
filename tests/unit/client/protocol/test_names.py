"""Names of models, aliases and versions: what can be released can be asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from scoreline_artifacts import InvalidName, Store
from scoreline_artifacts.cli.versions import resolve
from scoreline_artifacts.store import releases
from scoreline_client.protocol.messages import ModelRef, WireError
from scoreline_client.protocol.names import near_name
from tests.support.stores import manifest_of

FILES = {"pipeline.dill": b"this is no pickle", "golden.jsonl": b""}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One version of the model pima, which nobody can unpickle."""
    store = Store(tmp_path)
    store.publish(manifest_of(FILES, 1), FILES)
    return store


@pytest.mark.parametrize(
    "alias", ["candidate", "v1.2", "3b", "2024-05", "a.b_c-d", "1_000", "x" * 64]
)
def test_an_alias_that_can_be_released_can_be_asked_for(store: Store, alias: str) -> None:
    releases.promote(store, "pima", 1, alias)
    assert ModelRef.parse(f"pima@{alias}") == ModelRef("pima", alias)
    assert resolve(store, f"pima@{alias}") == ("pima", 1)


@pytest.mark.parametrize("text", ["3", "03"])
def test_digits_alone_are_a_version_for_everybody(store: Store, text: str) -> None:
    assert ModelRef.parse(f"pima@{text}") == ModelRef("pima", None, 3)
    assert resolve(store, f"pima@{text}") == ("pima", 3)
    with pytest.raises(InvalidName):
        releases.promote(store, "pima", 1, text)


@pytest.mark.parametrize(
    "reference",
    [
        "pima@",
        "pima@0",
        "pima@٣",
        "pima@" + "1" * 5000,
        "pima@Candidate",
        "pima@a/b",
        "../pima",
        "@3",
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_reference_is_none_for_everybody(store: Store, reference: str) -> None:
    with pytest.raises(WireError) as refused:
        ModelRef.parse(reference)
    assert refused.value.code == "E_UNKNOWN_MODEL"
    with pytest.raises(InvalidName):
        resolve(store, reference)


def test_a_folder_whose_number_is_written_otherwise_is_no_version(store: Store) -> None:
    (store.path("pima", 1).parent / "02").mkdir()
    assert store.versions("pima") == [1]


@pytest.mark.parametrize(
    ("wanted", "near"), [("mass", " MASS "), ("pedii", "pedi"), ("xyz", None), ("", None)]
)
def test_the_name_that_was_meant_is_alike_but_for_case_and_blanks_or_close(
    wanted: str, near: str | None
) -> None:
    assert near_name(wanted, ["pedi", " MASS "]) == near


def test_a_name_of_any_length_is_compared_by_its_beginning() -> None:
    long = "x" * 1_000_000
    assert near_name(long + "y", [long]) == long
