"""Requests that cannot be read: the message names what is wrong with them."""

from __future__ import annotations

import pytest

from scoreline_client import ScorelineError
from scoreline_client.protocol.messages import Request, WireError

FIELDS = {b"wire": b"1", b"id": b"0" * 32, b"model": b"pima"}


def test_all_but_wire_id_and_model_may_be_left_out() -> None:
    request = Request.decode(FIELDS)
    assert (request.operation, request.codec, request.apart) == ("score", "json", False)


@pytest.mark.parametrize("name", [b"wire", b"id", b"model"])
def test_a_missing_field_is_named(name: bytes) -> None:
    fields = {key: value for key, value in FIELDS.items() if key != name}
    with pytest.raises(WireError, match=name.decode()):
        Request.decode(fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"wire", b"2"),
        (b"id", b"0"),
        (b"operation", b"guess"),
        (b"codec", b"pickle"),
        (b"apart", b"yes"),
        (b"expires_ms", b"soon"),
        (b"reply_to", b"scoreline:{default}:online"),
    ],
)
def test_an_unusable_value_is_shown(name: bytes, value: bytes) -> None:
    with pytest.raises(WireError) as caught:
        Request.decode(FIELDS | {name: value})
    assert value.decode() in str(caught.value)
    assert "b'" not in str(caught.value)  # no notation of Python's
    assert isinstance(caught.value, ScorelineError)
