"""The schema: what the training frame looked like."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from scoreline_artifacts import Column, ColumnType, Manifest, Schema, UnsuitableData
from tests.support.stores import manifest_of


def _one(values: object) -> Column:
    return Schema.infer(pd.DataFrame({"x": values})).columns[0]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], ColumnType.INTEGER),
        (pd.array([1, None], dtype="Int64"), ColumnType.INTEGER),
        ([1.5, 2], ColumnType.NUMBER),
        ([True, False], ColumnType.BOOLEAN),
        (["a", "b"], ColumnType.STRING),
        (pd.Series(["a", "b"], dtype=object), ColumnType.STRING),
        (pd.Categorical(["a", "b"]), ColumnType.CATEGORY),
        (pd.Categorical([True, False]), ColumnType.CATEGORY),
        (pd.to_datetime(["2024-01-01"]), ColumnType.DATETIME),
        (pd.to_datetime(["2024-01-01"]).tz_localize("UTC"), ColumnType.DATETIME),
        (pd.to_timedelta([1]), ColumnType.DURATION),
    ],
)
def test_a_columns_type_follows_its_dtype(values: object, kind: ColumnType) -> None:
    assert _one(values).type is kind


def test_a_column_is_nullable_when_training_had_a_missing_value() -> None:
    assert _one([1.5, None]).nullable
    assert not _one([1.5, 2.5]).nullable


def test_a_number_has_its_range_in_training() -> None:
    column = _one([3.0, None, -1.5])
    assert (column.minimum, column.maximum) == (-1.5, 3.0)


def test_a_category_lists_its_categories_in_order() -> None:
    assert _one(pd.Categorical(["b"], categories=["b", "a"])).categories == ("b", "a")


def test_columns_keep_their_order() -> None:
    frame = pd.DataFrame({"z": [1], "a": [2], "m": [3]})
    assert list(Schema.infer(frame).names) == ["z", "a", "m"]


def test_columns_without_a_text_as_name_are_refused() -> None:
    with pytest.raises(UnsuitableData, match="text as names"):
        Schema.infer(pd.DataFrame([[1, 2]]))


def test_columns_of_the_same_name_are_refused() -> None:
    with pytest.raises(UnsuitableData, match="duplicate columns"):
        Schema.infer(pd.DataFrame([[1, 2]], columns=["x", "x"]))


@pytest.mark.parametrize("values", [[1j], pd.period_range("2024", periods=1)], ids=type)
def test_types_that_records_cannot_have_are_refused_by_column(values: object) -> None:
    with pytest.raises(UnsuitableData, match="column 'x' has the type"):
        _one(values)


def test_a_category_of_too_many_values_is_refused() -> None:
    with pytest.raises(UnsuitableData, match="1001 categories"):
        _one(pd.Categorical([str(number) for number in range(1001)]))


@pytest.mark.parametrize("values", [[1, "a"], [1, 2], [b"a"]], ids=str)
def test_python_objects_that_are_not_all_text_are_refused(values: list[object]) -> None:
    with pytest.raises(UnsuitableData, match="neither all text"):
        _one(pd.Series(values, dtype=object))


def test_booleans_among_missing_values_are_booleans() -> None:
    assert _one(pd.Series([True, None], dtype=object)).type is ColumnType.BOOLEAN


@pytest.mark.parametrize(
    "values", [pd.to_datetime(["2024-01-01"]), pd.interval_range(0, 2)], ids=["times", "intervals"]
)
def test_categories_that_a_record_cannot_give_are_refused(values: object) -> None:
    with pytest.raises(UnsuitableData, match="Turn the categories into text"):
        _one(pd.Categorical(values))


@pytest.mark.parametrize(
    "values",
    [
        pd.arrays.SparseArray([1.0, 0.0]),
        pd.to_datetime(["2024-01-01"]).tz_localize("dateutil/Europe/Berlin"),
    ],
    ids=["sparse", "zone without a name"],
)
def test_a_type_that_cannot_be_made_from_its_name_is_refused(values: object) -> None:
    with pytest.raises(UnsuitableData, match="has the type"):
        _one(values)


def test_the_range_of_training_is_finite() -> None:
    column = _one([3.0, float("inf"), -1.5])
    assert (column.minimum, column.maximum) == (-1.5, 3.0)


def test_a_schema_is_the_same_after_its_manifest_was_read() -> None:
    schema = Schema.infer(
        pd.DataFrame({"n": [1, 2], "c": pd.Categorical(["a", None]), "s": ["x", "y"]})
    )
    manifest = replace(manifest_of({}, 1), schema=schema)
    assert Manifest.decode(manifest.encode()).schema == schema
