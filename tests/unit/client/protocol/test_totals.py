"""What processes count, and how it travels."""

from __future__ import annotations

from collections import Counter

from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.totals import MOST_FAULTS, NOBODY, Counted, Totals, decode_totals

PIMA: Counted = ("pima", "3", Lane.ONLINE)


def _stored(*taken: list[tuple[str, str, int]]) -> dict[bytes, bytes]:
    """The hash to which these were added."""
    stored: dict[str, int] = {}
    for version, rest, number in (one for each in taken for one in each):
        name = f"{version}|{rest}"
        stored[name] = stored.get(name, 0) + number
    return {name.encode(): str(number).encode() for name, number in stored.items()}


def _add(totals: Totals, counted: Counted = PIMA, **other: object) -> None:
    batch: dict[str, object] = {"waited_ms": [3], "scored_us": 1500, "busy_us": 1500, "records": 1}
    totals.add_batch(counted, **{**batch, "rejected": Counter(), **other})  # type: ignore[arg-type]


def test_what_was_counted_is_read() -> None:
    totals = Totals()
    _add(
        totals,
        waited_ms=[0, 3, 20_000],
        records=10,
        rejected=Counter({("E_TYPE", "pl|as"): 1, ("E_TYPE", None): 1}),
    )
    _add(totals)
    totals.add_request("E_TOO_LARGE", PIMA)
    totals.add_request("E_WIRE", (NOBODY, NOBODY, Lane.BULK))
    read = decode_totals(_stored(totals.take()))
    pima = read[PIMA]
    assert pima.requests == {"ok": 4, "E_TOO_LARGE": 1}
    assert pima.records == {"ok": 9, "E_TYPE": 2}
    assert pima.columns == {("E_TYPE", "pl|as"): 1}
    assert (pima.batches, pima.busy_us) == (2, 3000)
    assert [pima.waited.buckets[at] for at in (0, 3, -1)] == [1, 2, 1]
    assert pima.waited.sum == 20_006_000
    assert (pima.scored.buckets[2], pima.scored.sum) == (4, 6000)
    assert (pima.size.buckets[0], pima.size.buckets[4], pima.size.sum) == (1, 1, 11)
    assert read[NOBODY, NOBODY, Lane.BULK].requests == {"E_WIRE": 1}


def test_what_was_taken_is_not_taken_again() -> None:
    totals = Totals()
    _add(totals)
    totals.take()
    assert totals.take() == []
    _add(totals)
    assert decode_totals(_stored(totals.take()))[PIMA].batches == 1
    assert (totals.records, totals.batches) == (2, 2)


def test_what_another_process_has_taken_is_counted() -> None:
    others, totals = Totals(), Totals()
    for each in (others, totals):
        _add(each, rejected=Counter({("E_NULL", "pl|as"): 1}))
    totals.add_fields(others.take())
    read = decode_totals(_stored(totals.take()))[PIMA]
    assert (read.records, read.columns) == ({"E_NULL": 2}, {("E_NULL", "pl|as"): 2})
    assert (read.requests, read.waited.sum) == ({"ok": 2}, 6000)


def test_a_process_counts_by_no_more_columns_than_may_be() -> None:
    totals = Totals()
    for number in range(MOST_FAULTS + 2):
        _add(totals, rejected=Counter({("E_TYPE", f"x{number}"): 1}))
        totals.take()
    _add(totals, rejected=Counter({("E_TYPE", "x0"): 1, ("E_TYPE", f"x{MOST_FAULTS}"): 1}))
    read = decode_totals(_stored(totals.take()))[PIMA]
    assert read.records["E_TYPE"] == 2
    assert read.columns == {("E_TYPE", "x0"): 1}


def test_fields_that_no_release_has_written_are_left_out() -> None:
    assert (
        decode_totals(
            {
                b"seen|pima|3": b"17",
                b"pima|3|online|batches|": b"-7",
                b"pima|3|nowhere|batches|": b"7",
                b"pima|3|online|batches|" + b"|" * 9: b"7",
                b"\xff": b"7",
            }
        )
        == {}
    )
    made_up = {
        b"pima|3|online|requests|made up": b"7",
        b"pima|3|online|waited|0.7": b"7",
        b"pima|3|online|columns|made up|x": b"7",
        b"pima|3|online|fields|": b"7",
    }
    assert decode_totals(made_up)[PIMA].fields() == {}
