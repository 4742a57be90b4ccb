"""The records of a request's body, cut out of it without being read."""

from __future__ import annotations

import pytest

from scoreline_tasks.scoring.json_codec import raw_records


def test_records_are_cut_out_as_they_were_written() -> None:
    body = b' [ {"x" : 1e400} ,\n{"x":1, "x":2}, {"x":"\\ud800],["}, null, [1,[2]],12345678901234567890 ] '
    assert raw_records(body) == [
        b'{"x" : 1e400}',
        b'{"x":1, "x":2}',
        b'{"x":"\\ud800],["}',
        b"null",
        b"[1,[2]]",
        b"12345678901234567890",
    ]


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b"[1,", b"[{]", b"\xff[1]", b"[" * 100_000])
def test_what_cannot_be_divided_has_no_records(body: bytes) -> None:
    assert raw_records(body) == []
