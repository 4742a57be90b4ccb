"""What a request may ask for beside predictions, and the head of a `csv` body. Part of the wire format.

Every field but a chunk's `columns`, `first_row` and `first_line` may be left out, and then means what
it meant before there was such a field. A field that is not known here is refused: who asks for
something must not get an answer in which it was forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from typing import Any, Self, TypeVar

import orjson

from scoreline_client.protocol.messages import WireError, join_frame, split_frame

_Options = TypeVar("_Options", bound="RequestOptions")

OUTPUT_NAMES = ("prediction", "probability", "error", "warnings")
"""What `outputs` may name, beside `probability_<class>`; `probability` is all of those."""


class Policy(StrEnum):
    """What becomes of a value that the model can take but has not seen in training."""

    IGNORE = "ignore"
    """It is scored, and nothing is said."""
    WARN = "warn"
    """It is scored, and the answer carries a warning."""
    ERROR = "error"
    """Its record is rejected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """How records are judged, and what the answer tells of them."""

    coerce: bool = False
    """Text is read as numbers and booleans where the model expects those: in JSON and Arrow as in a
    CSV file, and anywhere `true` and `false` as 1 and 0, `1` and `0` as true and false."""
    unseen: Policy = Policy.IGNORE
    """For text that training did not have, in columns whose values the schema lists."""
    out_of_range: Policy = Policy.IGNORE
    """For numbers below the smallest or above the largest of training."""
    outputs: Sequence[str] | None = None
    """Codecs csv and arrow: which columns the answer has, in which order; see OUTPUT_NAMES. None: the
    prediction, all probabilities and the error."""
    problems: int = 0
    """Codecs csv and arrow: of how many rejected rows the answer gives the particulars; `rejected`
    counts all of them."""
    first_row: int = 1
    """Number of the first row of the body; the file's first data row is 1."""

    def encode_options(self) -> bytes:
        """As the entry's field `options`: empty when nothing special is asked."""
        if self is NO_OPTIONS:  # nearly always
            return b""
        asked = _asked(self)
        return orjson.dumps(asked) if asked else b""

    @classmethod
    def decode_options(cls, data: bytes) -> Self:
        """Read an entry's field `options`.

        Raises:
            WireError: the bytes are no options.
        """
        if not data:
            return cls()
        return _read(cls, split_frame(data)[0], "options")


NO_OPTIONS = RequestOptions()
"""Nothing special is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvChunk(RequestOptions):
    """What a worker must know of a slice of a CSV file; the slice's bytes follow."""

    columns: Sequence[str]
    """The file's header, decoded, in order."""
    first_row: int
    first_line: int
    """Physical line on which the slice begins; the header's first line is 1."""
    delimiter: str = ","
    """One ASCII character."""
    quote: str = '"'
    """One ASCII character, or empty: then quotes are characters like any other."""
    comment: str = ""
    """One ASCII character: lines that begin with it are no rows. Empty: there are no comments."""
    encoding: str = "utf-8"
    """UTF-8, or an encoding of one byte a character that has ASCII in it (latin-1, cp1252). The
    answer is in the same."""
    decimal: str = "."
    """`.` or `,`."""
    thousands: str = ""
    """What may stand between groups of three digits before the decimal mark; empty for nothing."""
    nulls: Sequence[str] = ("",)
    """Fields that stand for a missing value."""
    strict: bool = False
    """A quote within a field that does not begin with one is refused."""
    columns_out: Sequence[int] | None = None
    """Places (from 0) of the input's columns that the output has, in order, as they stand in the file.
    None: the whole line, byte for byte."""
    excel_safe: bool = False
    """Text that a spreadsheet would run as a formula gets a `'` before it; numbers do not."""

    def encode(self, rows: bytes) -> bytes:
        """The body of a request: this as a JSON line, then the rows."""
        return join_frame(_asked(self), rows)

    @classmethod
    def decode(cls, body: bytes) -> tuple[CsvChunk, memoryview]:
        """Split a body into its head and the rows' bytes.

        Raises:
            WireError: the head is not as above; the message names the field.
        """
        head, rows = split_frame(body)
        return _read(cls, head, "the head of a csv body"), rows


def _asked(options: RequestOptions) -> dict[str, Any]:
    """The fields that differ from their defaults."""
    return {
        one.name: value
        for one in fields(options)
        if (value := getattr(options, one.name)) != one.default
    }


def _read(cls: type[_Options], head: Mapping[str, Any], where: str) -> _Options:
    known = {one.name: one for one in fields(cls)}
    for name, value in head.items():
        if name not in known:
            raise WireError(f"{where}: {name!r} is not known to this worker; update the worker")
        fits, expected = _RULES[name]
        if not fits(value):
            raise WireError(f"{where}: {name} is {str(value)[:80]!r}; expected {expected}")
    missing = [name for name, one in known.items() if one.default is MISSING and name not in head]
    if missing:
        raise WireError(f"{where}: the field {missing[0]!r} is missing")
    given = dict(head)
    for name in ("unseen", "out_of_range"):
        if name in given:
            given[name] = Policy(given[name])
    return cls(**given)


_Fits = Callable[[Any], bool]


def _is_list_of(kind: type) -> _Fits:
    return lambda value: isinstance(value, list) and all(type(one) is kind for one in value)


def _is_character(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 1 and value.isascii() and value not in "\r\n"


def _is_character_or_nothing(value: Any) -> bool:
    return value == "" or _is_character(value)


def _is_short_or_nothing(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 1 and not value.isalnum()


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_boolean(value: Any) -> bool:
    return type(value) is bool


def _is_policy(value: Any) -> bool:
    return isinstance(value, str) and value in tuple(Policy)


def _is_outputs(value: Any) -> bool:
    return value is None or (
        _is_list_of(str)(value)
        and all(one in OUTPUT_NAMES or one.startswith("probability_") for one in value)
    )


def _is_places(value: Any) -> bool:
    return value is None or (_is_list_of(int)(value) and all(one >= 0 for one in value))


_BOOLEAN: tuple[_Fits, str] = (_is_boolean, "true or false")
_COUNT: tuple[_Fits, str] = (_is_count, "a whole number from 0")
_POLICY: tuple[_Fits, str] = (_is_policy, "ignore, warn or error")
_RULES: dict[str, tuple[_Fits, str]] = {
    "coerce": _BOOLEAN,
    "unseen": _POLICY,
    "out_of_range": _POLICY,
    "outputs": (_is_outputs, "names out of prediction, probability, error, warnings"),
    "problems": _COUNT,
    "first_row": _COUNT,
    "columns": (_is_list_of(str), "a list of names"),
    "first_line": _COUNT,
    "delimiter": (_is_character, "one ASCII character"),
    "quote": (_is_character_or_nothing, "one ASCII character or nothing"),
    "comment": (_is_character_or_nothing, "one ASCII character or nothing"),
    "encoding": (lambda value: isinstance(value, str), "the name of an encoding"),
    "decimal": (lambda value: value in (".", ","), "'.' or ','"),
    "thousands": (_is_short_or_nothing, "one character or nothing"),
    "nulls": (_is_list_of(str), "a list of texts"),
    "strict": _BOOLEAN,
    "columns_out": (_is_places, "a list of places from 0"),
    "excel_safe": _BOOLEAN,
}
