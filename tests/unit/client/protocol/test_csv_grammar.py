"""Rows and fields are those of Python's csv module, whatever the delimiter, quote and comment are."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline_client.protocol.csv_grammar import Grammar, quote_field

TEXTS = st.text(alphabet="ab;;''\n\r#", max_size=30)


def _texts(grammar: Grammar, data: bytes) -> list[str]:
    return [data[row.start() : row.start("end")].decode() for row in grammar.rows(data)]


@given(TEXTS)
def test_a_row_of_the_grammar_is_a_row_of_the_csv_module(text: str) -> None:
    options = {"delimiter": ";", "quotechar": "'"}
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), **options) if row]
    grammar = Grammar.of(";", quote="'")
    each = [
        next(csv.reader(io.StringIO(row, newline=""), **options))
        for row in _texts(grammar, text.encode())
    ]
    if grammar.unclosed(text.encode()) is None:
        assert each == rows


@given(TEXTS)
def test_without_a_quote_character_every_line_with_text_is_a_row(text: str) -> None:
    grammar = Grammar.of(";", quote="")
    assert _texts(grammar, text.encode()) == [line for line in text.splitlines() if line]
    assert grammar.is_tidy(text.encode())
    assert grammar.unclosed(text.encode()) is None


@given(TEXTS)
def test_rows_are_counted_as_they_are_listed(text: str) -> None:
    data = text.encode()
    for grammar in (Grammar.of(";"), Grammar.of(";", "#"), Grammar.of(";", "#", "'")):
        end, tidy = grammar.last_row_end(data)
        assert grammar.count(data[:end], tidy)[0] == len(_texts(grammar, data[:end]))


@pytest.mark.parametrize(
    ("row", "is_tidy"),
    [
        (b'a,"b,""c""",d', True),
        (b'"",a', True),
        (b'a"b,c', False),
        (b'"a"b,c', False),
        (b'"a,b', False),
    ],
)
def test_a_row_is_tidy_where_every_quote_is_in_its_place(row: bytes, is_tidy: bool) -> None:
    assert Grammar.of(",").is_tidy(row) is is_tidy


def test_a_comment_may_hold_quotes_and_delimiters() -> None:
    assert _texts(Grammar.of(",", "#"), b'# "a, b\n1,2\n#\n3,"4\n5"\n') == ["1,2", '3,"4\n5"']


def test_a_field_is_quoted_only_where_it_must_be() -> None:
    assert [quote_field(text, ";") for text in ("a,b", "a;b", 'a"b', "a\nb")] == [
        "a,b",
        '"a;b"',
        '"a""b"',
        '"a\nb"',
    ]
