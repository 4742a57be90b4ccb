"""An output has the columns that were asked for, in every format, and the rows are never touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoreline_client.errors import FileRefused
from scoreline_client.files.reader import FileSizes, missing_columns
from scoreline_client.protocol.arrow_tables import write_stream
from scoreline_client.protocol.messages import Answer, Request
from tests.support.bulk import StubTransport, answer, run

CSV = 'id,note,a\n007,"x, y",9\n12345678901234567890,,bad\n'


def _csv(tmp_path: Path, **options: Any) -> list[str]:
    (tmp_path / "in.csv").write_text(CSV)
    run(tmp_path / "in.csv", tmp_path / "out.csv", **options)
    return (tmp_path / "out.csv").read_text().splitlines()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"keep": ("a", "id")}, ["a,id,", "9,007,", "bad,12345678901234567890,"]),
        ({"drop": ("note",)}, ["id,a,", "007,9,", "12345678901234567890,bad,"]),
        ({"id": "id"}, ["id,prediction,", "007,yes,", "12345678901234567890,,"]),
        ({"id": "id", "keep": ("note",)}, ["id,note,", '007,"x, y",', "12345678901234567890,,"]),
        ({"only_predictions": True}, ["prediction,", "yes,0.25", ",,,"]),
        (
            {"only_predictions": True, "outputs": ("probability_yes", "prediction")},
            ["probability_yes,prediction", "0.75,yes", ","],
        ),
        (
            {"rename": {"id": "patient", "prediction": "answer"}},
            ["patient,note,a,answer,probability_no", '007,"x, y",9,yes', "123"],
        ),
    ],
)
def test_a_csv_file_has_the_columns_that_were_asked_for(
    tmp_path: Path, options: dict[str, Any], expected: list[str]
) -> None:
    lines = _csv(tmp_path, **options)
    assert len(lines) == len(expected)
    assert all(line.startswith(one) for line, one in zip(lines, expected, strict=True)), lines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": ("ID",)}, "no column 'ID' to keep; did you mean 'id'"),
        ({"drop": ("nothing",)}, "no column 'nothing' to drop; there are 'id', 'note', 'a'"),
        ({"outputs": ("probability_maybe",)}, "does not answer with 'probability_maybe'"),
        ({"rename": {"idd": "x"}}, "no column 'idd' to rename; did you mean 'id'"),
        ({"rename": {"id": "note"}}, "would have column 'note' 2 times.*--rename note="),
        ({"rename": {"error": "id"}}, "would have column 'id' twice: give 'error' another name"),
    ],
)
def test_columns_that_cannot_be_had_refuse_the_file(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(FileRefused, match=message):
        _csv(tmp_path, **options)


def test_an_answer_gives_way_to_a_column_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,prediction,error,prediction_2\n9,old,,x\n")
    summary = run(tmp_path / "in.csv", tmp_path / "out.csv")
    header, row = (tmp_path / "out.csv").read_text().splitlines()
    assert header == (
        "a,prediction,error,prediction_2,prediction_3,probability_no,probability_yes,error_2"
    )
    assert row == "9,old,,x,yes,0.25,0.75,"
    told = [note for note in summary.notes if "of its own" in note]
    assert told == [
        "the file has a column 'prediction' of its own: the answer is in 'prediction_3'",
        "the file has a column 'error' of its own: the answer is in 'error_2'",
    ]
    run(tmp_path / "in.csv", tmp_path / "old.csv", rename={"prediction": "old"}, drop=("error",))
    assert (tmp_path / "old.csv").read_text().startswith("a,old,prediction_2,prediction,probab")


def test_an_answer_gives_way_in_every_format(tmp_path: Path) -> None:
    (row,) = _jsonl(tmp_path, '{"a":9,"error":"none"}\n')
    assert (row["error"], row["error_2"]) == ("none", None)
    pq.write_table(pa.table({"a": [9.0], "prediction": ["old"]}), tmp_path / "in.parquet")
    summary = run(tmp_path / "in.parquet", tmp_path / "out.parquet")
    (read,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert (read["prediction"], read["prediction_2"]) == ("old", "yes")
    assert any("'prediction_2'" in note for note in summary.notes)


def test_a_later_object_with_a_field_of_its_own_decides_too(tmp_path: Path) -> None:
    first, second = _jsonl(tmp_path, '{"a":9}\n{"a":1,"error":"none"}\n')
    assert first["error_2"] is None
    assert second["error"] == "none"


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_column_is_read_under_the_name_that_it_is_given(tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "in.csv").write_text("id,A x\n1,9\n".replace(",", delimiter))
    summary = run(tmp_path / "in.csv", tmp_path / "out.csv", rename={"A x": "a"})
    lines = (tmp_path / "out.csv").read_text().replace(delimiter, ",").splitlines()
    assert lines == ["id,a,prediction,probability_no,probability_yes,error", "1,9,yes,0.25,0.75,"]
    assert summary.rejected == 0


def test_a_column_is_read_under_its_new_name_in_every_format(tmp_path: Path) -> None:
    (row,) = _jsonl(tmp_path, '{"Amount":9.50,"id":1}\n', rename={"Amount": "a"})
    assert (row["a"], row["prediction"]) == (9.5, "yes")
    pq.write_table(pa.table({"Amount": [9.0], "id": [1]}), tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "out.parquet", rename={"Amount": "a"}, drop=("id",))
    (read,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert (read["a"], read["prediction"]) == (9.0, "yes")


def test_a_column_that_the_model_has_already_is_only_called_otherwise_in_the_output(
    tmp_path: Path,
) -> None:
    (tmp_path / "in.csv").write_text("b,a\n1,9\n")
    run(tmp_path / "in.csv", tmp_path / "out.csv", rename={"a": "amount"})
    assert (tmp_path / "out.csv").read_text().startswith("b,amount,prediction")
    with pytest.raises(FileRefused, match="the output would have column 'a' 2 times"):
        run(tmp_path / "in.csv", tmp_path / "out.csv", rename={"b": "a"})


def _jsonl(tmp_path: Path, text: str, **options: Any) -> list[dict[str, Any]]:
    (tmp_path / "in.jsonl").write_text(text)
    run(tmp_path / "in.jsonl", tmp_path / "out.jsonl", **options)
    return [orjson.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]


def test_a_line_of_json_gets_its_answers_as_further_fields(tmp_path: Path) -> None:
    good, bad = _jsonl(tmp_path, '{"id":"007","a":9}\n{"id":"8","a":"x"}\n')
    assert good == {
        "id": "007",
        "a": 9,
        "prediction": "yes",
        "probability_no": 0.25,
        "probability_yes": 0.75,
        "error": None,
    }
    assert (bad["prediction"], bad["probability_no"]) == (None, None)
    assert bad["error"].startswith("E_TYPE: ")


def test_a_line_that_is_no_json_costs_that_row(tmp_path: Path) -> None:
    text = '{"a":9}\n\n{"a":9},{"a":1}\n{"a":[9\n]}\n7\n{"a":1}\n'
    rows = _jsonl(tmp_path, text)
    errors = [str(row["error"])[:6] for row in rows]
    assert errors == ["None", "E_JSON", "E_JSON", "E_JSON", "E_TYPE", "None"]
    report = (tmp_path / "out.jsonl.errors.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in report[1:]] == [
        ["2", "3"],
        ["3", "4"],
        ["4", "5"],
        ["5", "6"],
    ]


def test_a_number_of_thirty_digits_stays_what_it_is(tmp_path: Path) -> None:
    number = "123456789012345678901234567890"
    _jsonl(tmp_path, f'{{"id":{number},"f":1.10,"a":9,"b":1}}\n', keep=("id", "f", "a"))
    line = (tmp_path / "out.jsonl").read_text()
    assert line.startswith(f'{{"id":{number},"f":1.10,"a":9,"prediction":"yes"')


def test_json_objects_have_the_fields_that_were_asked_for(tmp_path: Path) -> None:
    (row,) = _jsonl(tmp_path, '{"id":1,"a":9}\n', id="id", outputs=("prediction",))
    assert row == {"id": 1, "prediction": "yes"}
    (row,) = _jsonl(tmp_path, '{"id":1,"a":9}\n', only_predictions=True, rename={"error": "why"})
    assert list(row) == ["prediction", "probability_no", "probability_yes", "why"]


def test_a_field_that_the_output_adds_must_not_be_there_already(tmp_path: Path) -> None:
    late = '{"a":1}\n' * 1000 + '{"a":1,"error":2}\n'
    with pytest.raises(FileRefused, match="line 1001: 'error' is there already"):
        _jsonl(tmp_path, late)
    (row,) = _jsonl(tmp_path, '{"a":9,"error":2}\n', rename={"error": "old"}, restart=True)
    assert (row["old"], row["error"], row["prediction"]) == (2, None, "yes")


def test_objects_with_other_fields_each_keep_their_own(tmp_path: Path) -> None:
    text = '{"a":9,"x":1}\n{"y":2,"a":1}\n{"a":1,"x":3,"id":4}\n'
    rows = _jsonl(tmp_path, text, drop=("x",), rename={"y": "z"}, outputs=("prediction",))
    assert rows == [
        {"a": 9, "prediction": "yes"},
        {"z": 2, "a": 1, "prediction": "no"},
        {"a": 1, "id": 4, "prediction": "no"},
    ]


def _parquet(tmp_path: Path, table: Any, **options: Any) -> Any:
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=2)
    run(tmp_path / "in.parquet", tmp_path / "out.parquet", **options)
    return pq.read_table(tmp_path / "out.parquet")


def test_parquet_keeps_its_types_and_gets_the_answers_as_columns(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array(["007", "8", "9"]).dictionary_encode(),
            "when": pa.array([1, 2, None], pa.timestamp("us")),
            "a": pa.array([9.0, None, 1.0]),
        }
    )
    out = _parquet(tmp_path, table)
    assert out.select(["id", "when", "a"]).to_pylist() == table.to_pylist()
    assert out.schema.field("when").type == pa.timestamp("us")
    assert out.column("prediction").to_pylist() == ["yes", None, "no"]
    assert out.column("error").to_pylist()[1].startswith("E_NULL")


def test_parquet_has_the_columns_that_were_asked_for(tmp_path: Path) -> None:
    out = _parquet(
        tmp_path, pa.table({"id": [1], "a": [9.0]}), id="id", outputs=("prediction",),
        rename={"prediction": "answer"},
    )  # fmt: skip
    assert out.to_pylist() == [{"id": 1, "answer": "yes"}]


def test_parquet_without_rows_is_a_file_without_rows(tmp_path: Path) -> None:
    out = _parquet(tmp_path, pa.table({"a": pa.array([], pa.float64())}))
    assert out.column_names == ["a", "prediction", "probability_no", "probability_yes", "error"]


def test_parquet_of_which_one_chunk_has_no_good_row_is_whole(tmp_path: Path) -> None:
    def guess_type(request: Request) -> Answer:
        """As a worker does where the pipeline raises for all rows."""
        answered = answer(request)
        table = pa.ipc.open_stream(answered.body).read_all() if answered.body else None
        if table is None or table["prediction"].null_count == 0:
            return answered
        table = table.set_column(0, "prediction", pa.nulls(len(table), pa.int64()))
        return replace(answered, body=bytes(write_stream(table)))

    pq.write_table(pa.table({"a": [None, 1.5, 9.5]}), tmp_path / "in.parquet")
    transport = StubTransport(guess_type)
    sizes = FileSizes(fewest_chunk_rows=1, largest_chunk_bytes=1)
    run(tmp_path / "in.parquet", tmp_path / "out.parquet", transport=transport, sizes=sizes)
    out = pq.read_table(tmp_path / "out.parquet")
    assert out["prediction"].to_pylist() == [None, "no", "yes"]


def test_parquet_that_lacks_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="missing: 'a'; did you mean 'A'"):
        _parquet(tmp_path, pa.table({"A": [1.0]}))


def test_parquet_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.parquet").write_bytes(b"PAR1" + b"x" * 50)
    with pytest.raises(FileRefused, match="the Parquet file cannot be read"):
        run(tmp_path / "in.parquet", tmp_path / "out.parquet")


NEEDED = ["amount", "visits", "city"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            ["id", "Amount ", "AMOUNT", "visits", "city"],
            "column missing: 'amount'; 'amount' may be 'Amount ' or 'AMOUNT': say which with --rename OLD=amount",
        ),
        (
            ["amount_old", "amount_new", "visits", "city"],
            "column missing: 'amount'; 'amount' may be 'amount_old' or 'amount_new': say which with --rename OLD=amount",
        ),
        (
            ["amounts", "amount_new", "visits", "city"],
            "column missing: 'amount'; 'amount' may be 'amounts' or 'amount_new'; did you mean 'amounts'? "
            "Read so with --rename amounts=amount",
        ),
        (
            ["Amount", "x", "city"],
            "columns missing: 'amount', 'visits'; did you mean 'Amount'? Read so with --rename Amount=amount; "
            "the file has 'Amount', 'x', 'city'",
        ),
        (["visits", "city"], "column missing: 'amount'; the file has 'visits', 'city'"),
        # A column that the model reads under its own name is not meant by another.
        (
            ["visit", "city", "amount"],
            "column missing: 'visits'; did you mean 'visit'? Read so with --rename visit=visits",
        ),
    ],
)
def test_all_that_may_have_been_meant_is_told(columns: list[str], said: str) -> None:
    missing = [name for name in NEEDED if name not in columns]
    assert missing_columns(missing, columns, NEEDED) == said


def test_a_column_to_keep_is_told_with_all_that_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,Id,ID\n9,1,2\n")
    with pytest.raises(FileRefused, match=r"did you mean 'Id' or 'ID'\?"):
        run(tmp_path / "in.csv", tmp_path / "out.csv", keep=("id",))
