"""Damaged bytes are refused as what they are by everything that decodes some."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

EXAMPLES = 25
"""Of each decoder; `make fuzz` tries many more."""
_BITS = st.binary(max_size=6) | st.sampled_from(
    [b'"', b"\n", b"\r", b",", b"\0", b"[", b"{", b"}", b"\xff\xff\xff\xff", b"1" * 30, b"null"]
)


@st.composite
def _damaged(draw: st.DrawFn, seed: bytes) -> bytes:
    """An example with some bytes replaced, left out, repeated or put in, or cut off."""
    data = seed
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 8)))
        data = data[:start] + draw(_BITS | st.just(data[start:stop] * 3)) + data[stop:]
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_is_decoded_is_read_or_refused(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds:
        target(seed)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(target.seeds).flatmap(_damaged) | st.binary(max_size=200))
    def check(data: bytes) -> None:
        target(data)

    check()
