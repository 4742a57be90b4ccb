"""Another environment than training's: what is refused, what is only said."""

from __future__ import annotations

import logging
import platform
from importlib import metadata
from typing import Any

import pytest

from scoreline_artifacts import Manifest, Outputs, Schema, UnfitEnvironment, environment

HERE = platform.python_version()


def _manifest(**values: Any) -> Manifest:
    made: dict[str, Any] = {"libraries": {"python": HERE}, **values}
    return Manifest(
        model="m",
        version=1,
        created_at="",
        files={},
        schema=Schema(()),
        outputs=Outputs(method="predict"),
        **made,
    )


def test_the_environment_of_training_differs_in_nothing() -> None:
    libraries = environment.versions_of(environment.ALWAYS)
    assert set(libraries) == set(environment.ALWAYS)
    assert environment.differences(_manifest(libraries=libraries)) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"libraries": {"fancy-features": "1.2"}},
            "fancy-features 1.2 is not installed; `scoreline inspect m@1 --requirements > requirements.txt`",
        ),
        ({"libraries": {"python": "3.2.1"}, "by_value": ["__main__.f"]}, "bytecode"),
    ],
    ids=["a missing distribution", "bytecode of another Python"],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UnfitEnvironment, match=words):
        environment.check(_manifest(**values))


@pytest.mark.parametrize(
    "values",
    [
        {"libraries": {"python": "3.2.1"}},
        {"libraries": {"scikit-learn": "0.24.1"}},
        {"libraries": {"dill": "0.2"}},
    ],
    ids=["Python", "scikit-learn", "dill"],
)
def test_what_may_work_is_told_and_refused_only_if_strict(
    values: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        environment.check(_manifest(**values))
    assert "golden rows decide" in caplog.text
    with pytest.raises(UnfitEnvironment, match="trained with"):
        environment.check(_manifest(**values), strict=True)


def test_requirements_pin_what_training_had() -> None:
    libraries = {"python": "3.11.7", "scikit-learn": "1.6.1"}
    made = _manifest(libraries=libraries, imports={"six": "1.16.0"}, by_value=["__main__.f"])
    assert environment.requirements(made) == [
        "# m@1, trained with Python 3.11.7; needs Python 3.11, whose bytecode it holds",
        "scikit-learn==1.6.1",
        "six==1.16.0",
    ]


def test_a_patch_release_is_no_difference() -> None:
    here = metadata.version("scikit-learn")
    minor = ".".join(here.split(".")[:2])
    assert environment.differences(_manifest(libraries={"scikit-learn": f"{minor}.99"})) == []


def test_what_another_distribution_brings_is_not_missing() -> None:
    made = _manifest(libraries={"pandas-for-gpus": "3"}, modules={"pandas-for-gpus": "pandas"})
    (found,) = environment.differences(made)
    assert not found.fatal
    assert "the module that it provides is here" in found.reason


def test_what_only_the_sources_import_may_be_missing() -> None:
    (found,) = environment.differences(_manifest(imports={"fast-variant": "1"}))
    assert not found.fatal
    assert "fast-variant" in found.reason
