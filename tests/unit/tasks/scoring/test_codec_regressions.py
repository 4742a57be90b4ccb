"""Fail on the tree as it is, pass with bugfixes.patch; to be moved into tests/unit with it."""

from dataclasses import replace
from pathlib import Path

import pytest

from scoreline_client.errors import RequestRefused
from scoreline_client.protocol.messages import Operation
from tests.unit.tasks.scoring.csv_codec.test_codec import _score, _values
from tests.unit.tasks.scoring.csv_codec.test_scoring import StubTransport, _run, answer


def test_a_chunk_whose_rows_are_all_rejected_has_all_columns():
    assert bytes(_score("7,x,3\n").body).startswith(b"7,x,3,,,,E_TYPE")


def test_a_number_that_would_be_rounded_is_refused_whatever_its_neighbours():
    rejected = [
        _score(f"1,9007199254740993,1\n1,{other},1\n").rejected for other in ("1", "1e5", "+1")
    ]
    assert rejected == [{"E_RANGE": 1}] * 3


def test_minus_zero_is_the_same_in_plain_and_in_odd_company():
    plain = bytes(_values([1.5], ["-0"]).body)
    assert bytes(_values([1.5], ["-0", "x"]).body).startswith(plain)


def test_a_long_field_is_no_quoting_error():
    assert _score("z" * 200_000 + ",2.5,3\n" + '"",2.5,3\n').rejected == {}


def test_text_behind_a_closing_quote_is_refused():
    assert _score('"7"8,2.5,3\n7,2.5,3\n').rejected == {"E_QUOTE": 1}


def test_a_worker_that_loses_a_row_is_noticed(tmp_path: Path):
    source = tmp_path / "in.csv"
    source.write_text("id,a\n1,2\n")

    def short(request):
        given = answer(request)
        return (
            given
            if request.operation is Operation.DESCRIBE
            else replace(given, records=0, body=b"")
        )

    with pytest.raises(RequestRefused, match="0 rows for the 1 rows"):
        _run(source, tmp_path / "out.csv", StubTransport(short))
