"""Options of requests and files. Each is declared once: name, default, permitted values, flag.

A request carries only the options that differ from their defaults, under the names that they have here;
a field that is left out means what it meant before there was such a field. A field that is not known is
refused: a caller must not get an answer in which an option was ignored.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal, Self, TypeVar, get_type_hints

import msgspec
import orjson
from msgspec import Meta

from scoreline_client.codes import Code
from scoreline_client.errors import SettingsError
from scoreline_client.protocol.messages import WireError, join_frame, show, split_frame

_Options = TypeVar("_Options", bound="RequestOptions")

PERCENT_FROM_ROWS = 1000
"""A percentage of rejected rows means little before there are so many rows."""
MOST_COLUMNS = 20_000
"""A wider header means that a file is not a table."""
MOST_NULLS = 1000
"""Texts that stand for a missing value."""

_ASCII = r"[\x00-\x09\x0b\x0c\x0e-\x7f]"
_Boolean = Annotated[bool, Meta(description="true or false")]
_Count = Annotated[int, Meta(ge=0, le=1 << 53, description="a whole number from 0")]
_Character = Annotated[str, Meta(pattern=rf"\A{_ASCII}\Z", description="one ASCII character")]
_CharacterOrNothing = Annotated[
    str, Meta(pattern=rf"\A{_ASCII}?\Z", description="one ASCII character or nothing")
]
_DATE_FORMAT = r"\A(excel|([^%\x00-\x1f]|%[dmyYHIMSfpbBjz%])*)\Z"
_DATE_FORMATS = "codes such as %d.%m.%Y, or excel"
_DAY = "year, month and day in codes such as %d.%m.%Y, or excel"
_ANSWER = r"\A(prediction|probability|error|warnings)\Z|\A(prediction|probability)_"
_AnswerNames = Annotated[
    Annotated[Sequence[Annotated[str, Meta(pattern=_ANSWER)]], Meta(max_length=MOST_COLUMNS)]
    | None,
    Meta(description="names out of prediction, probability, error, warnings"),
]
FORMATS = ("csv", "jsonl", "parquet")
Format = Literal["csv", "jsonl", "parquet"] | None
_Format = Annotated[Format, Meta(description="one of csv, jsonl, parquet")]


class Policy(StrEnum):
    """What becomes of a value that the model can take but has not seen in training."""

    IGNORE = "ignore"
    """It is scored without a warning."""
    WARN = "warn"
    """It is scored, and the answer carries a warning."""
    ERROR = "error"
    """Its record is rejected."""


_Policy = Annotated[Policy, Meta(description="ignore, warn or error")]


@dataclass(frozen=True, slots=True)
class Flag:
    """How the command line offers an option."""

    help: str
    name: str | None = None
    """Without it, the option's own name with hyphens."""
    metavar: str | None = None
    show_default: bool = False


@dataclass(frozen=True, kw_only=True)
class ValueOptions:
    """How values are checked before they are scored."""

    coerce: Annotated[
        _Boolean,
        Flag(
            "Take true and false for 1 and 0 and the other way round, and text for the number that "
            "it is."
        ),
    ] = False
    """Text is read as numbers and booleans where the model expects those, in JSON, Arrow and Parquet as
    in CSV; and in every format `true` and `false` as 1 and 0, `1` and `0` as true and false."""
    unseen: _Policy = Policy.IGNORE
    """For text that training did not have, in columns whose values the schema lists."""
    out_of_range: _Policy = Policy.IGNORE
    """For numbers below the smallest or above the largest of training."""


@dataclass(frozen=True, kw_only=True)
class CsvFormat:
    """How CSV text is written."""

    delimiter: _Character = ","
    comment: Annotated[
        _CharacterOrNothing, Flag("Lines that begin so are no rows.", metavar="CHAR")
    ] = ""
    """Lines that begin with this character are not rows. Empty: there are no comments."""
    trailing_delimiter: Annotated[
        _Boolean, Flag("Read past one delimiter too many at the end of a line.")
    ] = False
    """A line may end with one delimiter more than the header has; the output has it without. False: it is rejected."""
    decimal: Annotated[
        Literal[".", ","],
        Meta(description="'.' or ','"),
        Flag("Decimal mark: . or ,", metavar="CHAR"),
    ] = "."
    thousands: Annotated[
        str,
        Meta(pattern=r"\A[\W_]?\Z", description="one character or nothing"),
        Flag("Mark between groups of digits; ' ' is any kind of space.", metavar="CHAR"),
    ] = ""
    """What may stand between groups of three digits before the decimal mark; empty for nothing. A space stands for
    every kind of space that does not break or is narrow, too."""
    date_format: Annotated[
        str,
        Meta(pattern=_DATE_FORMAT, max_length=100, description=_DATE_FORMATS),
        Flag(
            "How dates are written, such as %d.%m.%Y or '%d/%m/%Y %H:%M'; or excel, for its serial numbers. "
            "By default ISO 8601.",
            metavar="FORMAT",
        ),
    ] = ""
    """How points in time are written: Python's codes (`%d.%m.%Y`), or `excel` for the serial numbers of
    spreadsheets. Empty: ISO 8601."""
    nulls: Annotated[
        Sequence[str],
        Meta(max_length=MOST_NULLS, description=f"a list of at most {MOST_NULLS} texts"),
        Flag(
            "A field that stands for a missing value, as the empty field does; may be repeated.",
            name="--null",
            metavar="TEXT",
        ),
    ] = ("",)
    """Fields that stand for a missing value."""
    excel_safe: Annotated[
        _Boolean, Flag("Put ' before text that a spreadsheet would run as a formula.")
    ] = False
    """Text that a spreadsheet would run as a formula gets a `'` before it; numbers do not."""


@dataclass(frozen=True, kw_only=True)
class RequestOptions(ValueOptions):
    """How the records of a request are checked, and what its answer holds."""

    outputs: _AnswerNames = None
    """Codecs csv and arrow: the answer's columns in order: `prediction`, `prediction_<output>` of a version
    with several, `probability_<class>`, `probability` for all of those, `error`, `warnings`. None:
    prediction, all probabilities, error."""
    problems: _Count = 0
    """Codecs csv and arrow: of how many rejected rows the answer has the details; `rejected` counts all
    of them."""
    first_row: _Count = 1
    """Number of the body's first row; the file's first data row is 1."""

    @cached_property
    def encoded_options(self) -> bytes:
        """As the entry's field `options`: empty when every option has its default."""
        changed = _changed(self)
        return orjson.dumps(changed) if changed else b""

    @cached_property
    def checked(self) -> Self:
        """These options, whose values are all permitted: a worker would refuse others, and orjson cannot send each of them.

        Raises:
            SettingsError: one is not.
        """
        for name, hint in type_hints(type(self)).items():
            value = getattr(self, name)
            try:
                msgspec.convert(value, hint)
            except msgspec.ValidationError:
                raise SettingsError(name, value, expected_of(hint) or "another value") from None
        return self

    @classmethod
    def decode_options(cls, data: bytes) -> Self:
        """Read an entry's field `options`.

        Raises:
            WireError: an option is not known or its value not permitted; the message names it.
        """
        return _decode(cls, cls.read_object(data), "options") if data else cls()

    @staticmethod
    def read_object(data: bytes) -> dict[str, Any]:
        """The JSON object of an entry's field `options`, whatever is in it.

        Raises:
            WireError: it is none.
        """
        try:
            options = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise WireError(f"options are not JSON: {error}: {show(data)}", Code.JSON) from error
        if not isinstance(options, dict):
            raise WireError(f"options are not a JSON object: {show(data)}")
        return options


NO_OPTIONS = RequestOptions()
"""Every option has its default."""


@dataclass(frozen=True, kw_only=True)
class CsvChunk(RequestOptions, CsvFormat):
    """The head of a `csv` body: what a worker must know of a chunk of a file; the chunk's bytes follow."""

    columns: Annotated[
        Sequence[str],
        Meta(max_length=MOST_COLUMNS, description=f"a list of at most {MOST_COLUMNS} names"),
    ]
    """The file's header, decoded, in order."""
    first_row: _Count = field()  # required here, unlike in RequestOptions
    first_line: _Count
    """Physical line on which the chunk begins; the header's first line is 1."""
    quote: _CharacterOrNothing = '"'
    """Empty: quotes are characters like any other."""
    encoding: Annotated[str, Meta(max_length=40, description="the name of an encoding")] = "utf-8"
    """UTF-8, or an encoding of one byte a character that contains ASCII (latin-1, cp1252). The answer
    has the same."""
    strict: _Boolean = False
    """A quote within a field that does not begin with one is refused."""
    columns_out: Annotated[
        Annotated[Sequence[Annotated[int, Meta(ge=0)]], Meta(max_length=MOST_COLUMNS)] | None,
        Meta(description="a list of indices from 0"),
    ] = None
    """Indices of the input's columns that the output has, in order, as they are in the file. None: the
    whole line, byte for byte."""

    def encode(self, rows: bytes) -> bytes:
        """The body of a request: this as a JSON line, then the rows."""
        return join_frame(_changed(self), rows)

    @classmethod
    def decode(cls, body: bytes) -> tuple[CsvChunk, memoryview]:
        """Split a body into its head and the rows' bytes.

        Raises:
            WireError: a field of the head is missing, not known or not permitted; the message names it.
        """
        head, rows = split_frame(body)
        return _decode(cls, head, "the head of a csv body"), rows


@dataclass(frozen=True, slots=True)
class MaxErrors:
    """How many rows may be rejected before a run stops: a number, or a percentage of the rows."""

    rows: int | None = None
    percent: float | None = None

    @classmethod
    def parse(cls, text: str) -> MaxErrors:
        """Read `100` or `2.5%`.

        Raises:
            SettingsError: it is neither.
        """
        match = re.fullmatch(r"([0-9]+)|([0-9]+(?:\.[0-9]+)?)%", text.strip())
        if match is None:
            raise SettingsError("max_errors", text, "a number of rows, or a percentage like 2.5%")
        return cls(rows=int(match[1])) if match[1] else cls(percent=float(match[2]))

    def exceeded(self, rejected: int, rows: int, *, at_end: bool) -> bool:
        """Whether a run must stop; a percentage counts from 1,000 rows on, or at the end."""
        if self.rows is not None:
            return rejected > self.rows
        enough = at_end or rows >= PERCENT_FROM_ROWS
        return enough and rejected * 100 > (self.percent or 0.0) * rows

    def __str__(self) -> str:
        return str(self.rows) if self.rows is not None else f"{self.percent:g}%"


@dataclass(frozen=True, kw_only=True)
class BulkOptions(ValueOptions, CsvFormat):
    """How a file is read, what its output holds, and when to stop."""

    input_format: Annotated[
        _Format, Flag("Of the input, where its name does not tell.", name="--format")
    ] = None
    """`csv`, `jsonl` or `parquet`; None: by the file's first bytes and its name."""
    output_format: _Format = None
    """The same for the output; None: by its name, and otherwise as the input."""
    delimiter: Annotated[
        _Character | None,
        Meta(description="one ASCII character"),
        Flag("Between columns; by default found out.", metavar="CHAR"),
    ] = None  # type: ignore[assignment]
    """None: the one of `,` `;` tab `|` with which the model's columns are in the header."""
    encoding: Annotated[str, Flag("Of the input's text.", show_default=True)] = "utf-8"
    """Any encoding of text that Python knows."""
    strict: Annotated[
        _Boolean, Flag("Refuse columns that the model does not know, and stray quotes.")
    ] = False
    """Refuse columns that the model does not know, and quotes in the middle of a field."""
    unseen: Annotated[
        _Policy,
        Flag("What becomes of text that training did not have.", show_default=True),
    ] = Policy.WARN
    out_of_range: Annotated[
        _Policy,
        Flag("What becomes of numbers outside the range of training.", show_default=True),
    ] = Policy.WARN
    keep: Annotated[tuple[str, ...] | None, Flag("The input's columns that the output has.")] = None
    """Columns of the input that the output has, in this order; None: all of them."""
    drop: Annotated[tuple[str, ...], Flag("Those that it does not have.")] = ()
    """Columns of the input that the output does not have."""
    id: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="a column's name"),
        Flag("The one column before the answers.", metavar="COLUMN"),
    ] = None
    """The only column of the output before the answers, unless `keep` names more."""
    only_predictions: Annotated[_Boolean, Flag("None of the input's columns.")] = False
    """The output has no column of the input."""
    outputs: Annotated[
        tuple[str, ...] | None,
        Flag(
            "Answers, in order: prediction, prediction_<output>, probability, probability_<class>, "
            "error, warnings. By default all but warnings."
        ),
    ] = None
    """Which answers, in this order; None: prediction, all probabilities, error."""
    rename: Annotated[
        Mapping[str, str],
        Flag(
            "New name of a column, of the input or of an answer; may be repeated.",
            metavar="OLD=NEW",
        ),
    ] = field(default_factory=dict)
    """New names of the output's columns: the input's, where an answer has the same name."""
    max_errors: Annotated[
        MaxErrors | None, Flag("Stop when more rows are rejected.", metavar="N|P%")
    ] = None
    """Stop when more rows than this are rejected."""
    resume: Annotated[bool, Flag("Go on with an unfinished run, if there is one.")] = False
    """Continue an unfinished run, if there is one."""
    restart: Annotated[bool, Flag("Begin anew, and lose an unfinished run.")] = False
    """Begin anew, although there is an unfinished run."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            SettingsError: a value is not permitted, or two options exclude each other.
        """
        for name, hint in type_hints(BulkOptions).items():
            if expected := expected_of(hint):
                try:
                    msgspec.convert(getattr(self, name), hint)
                except msgspec.ValidationError:
                    raise SettingsError(name, getattr(self, name), expected) from None
        _codec_name(self.encoding)
        if self.date_format.lower() == "excel":
            object.__setattr__(self, "date_format", "excel")
        elif self.date_format and not _names_a_day(self.date_format):
            raise SettingsError("date_format", self.date_format, _DAY)
        for name, is_wrong, expected in (
            ("delimiter", self.delimiter == '"', "one ASCII character that is no quote"),
            ("comment", self.comment == '"', "one ASCII character that is no quote"),
            ("decimal", self.decimal == self.delimiter, "another character than the delimiter"),
            ("thousands", self.thousands == self.decimal, "another mark than the decimal's"),
        ):
            if is_wrong:
                raise SettingsError(name, getattr(self, name), expected)
        for name in ("keep", "drop", "outputs"):
            chosen_names = getattr(self, name) or ()
            if len(set(chosen_names)) < len(chosen_names):
                raise SettingsError(name, ",".join(chosen_names), "each name once")
        if self.outputs is not None and not self.outputs:
            raise SettingsError("outputs", "", "names such as prediction,probability")
        chosen = {
            "keep": self.keep is not None,
            "drop": bool(self.drop),
            "only_predictions": self.only_predictions,
        }
        names = [name for name, is_given in chosen.items() if is_given]
        if self.id is not None and names != ["keep"]:
            names.append("id")
        if self.resume and self.restart:
            names = ["resume", "restart"]
        if len(names) > 1:
            raise SettingsError.excluding(names)

    @property
    def is_transcoded(self) -> bool:
        """Whether the text must be turned into UTF-8 before it can be cut into rows."""
        name = _codec_name(self.encoding)
        one_byte = ("ascii", "iso8859", "cp125", "koi8", "mac")
        return name not in ("utf-8", "utf-8-sig") and not name.startswith(one_byte)

    @property
    def text_encoding(self) -> str:
        """The encoding of the text once it is cut into rows."""
        name = _codec_name(self.encoding)
        return "utf-8" if self.is_transcoded or name == "utf-8-sig" else name

    @property
    def kept(self) -> tuple[str, ...] | None:
        """Names of the input's columns that the output has, in order; None: all but `drop`."""
        if self.only_predictions:
            return ()
        if self.keep is None and self.id is None:
            return None
        return tuple(dict.fromkeys([*([self.id] if self.id else []), *(self.keep or ())]))

    def for_request(self, kind: type[_Options], **others: Any) -> _Options:
        """The options of a request: those that both have, with `others` in addition or instead."""
        shared = {option.name for option in fields(kind)} & {option.name for option in fields(self)}
        return kind(**{name: getattr(self, name) for name in shared} | others)

    def bound(self) -> dict[str, Any]:
        """The options that a resumed run must have in common with the run that began."""
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if name not in ("max_errors", "resume", "restart")
        }


def _names_a_day(date_format: str) -> bool:
    """Whether a format of dates has a year, a month and a day, and each code once, as `strptime` has it."""
    codes = [code for code in re.findall("%(.)", date_format) if code != "%"]
    is_day = "j" in codes or ("d" in codes and not {"m", "b", "B"}.isdisjoint(codes))
    return is_day and not {"y", "Y"}.isdisjoint(codes) and len(set(codes)) == len(codes)


def given_as_text(name: str, texts: Sequence[str]) -> Any:
    """An option of files that is given as text, once or several times, by a command line or a query.

    Raises:
        SettingsError: it is not written as it should be.
    """
    if name == "rename":
        for text in texts:
            old, _, new = text.partition("=")
            if not old or not new:
                raise SettingsError(name, text, "OLD=NEW")
        return dict(text.partition("=")[::2] for text in texts)
    if name == "nulls":
        # Who names another one does not mean that an empty field is a text of no characters.
        return tuple(dict.fromkeys(("", *texts)))
    if name == "max_errors":
        return MaxErrors.parse(texts[-1])
    if name == "delimiter" and texts[-1] in ("\\t", "tab"):
        return "\t"
    return texts[-1]


def _codec_name(encoding: str) -> str:
    """Python's name for an encoding of text.

    Raises:
        SettingsError: there is no such encoding, or it is not one of text, as rot13.
    """
    try:
        codec = codecs.lookup(encoding)
    except LookupError:
        raise SettingsError("encoding", encoding, "an encoding that Python knows") from None
    if not codec._is_text_encoding:  # Python has no public way to ask
        raise SettingsError("encoding", encoding, "an encoding of text")
    return codec.name


_hints: dict[type, dict[str, Any]] = {}


def type_hints(kind: type) -> dict[str, Any]:
    """The annotations of a class of options, with their `Meta` and `Flag`; read once, since that takes a third of a request's time."""
    if kind not in _hints:
        _hints[kind] = get_type_hints(kind, include_extras=True)
    return _hints[kind]


def expected_of(hint: Any) -> str | None:
    """The permitted values of an option, in words; None if its values are not checked."""
    metadata = getattr(hint, "__metadata__", ())
    return next((extra.description for extra in metadata if isinstance(extra, Meta)), None)


def _changed(options: RequestOptions) -> dict[str, Any]:
    """The fields that differ from their defaults."""
    return {
        option.name: value
        for option in fields(options)
        if (value := getattr(options, option.name)) != option.default
    }


def _decode(kind: type[_Options], head: Mapping[str, Any], where: str) -> _Options:
    unknown = sorted(head.keys() - {option.name for option in fields(kind)})
    if unknown:
        raise WireError(
            f"{where}: {unknown[0][:80]!r} is not known to this worker; update the worker"
        )
    try:
        return msgspec.convert(head, kind)
    except msgspec.ValidationError as error:
        if missing := re.search(r"missing required field `(\w+)`", str(error)):
            raise WireError(f"{where}: the field {missing[1]!r} is missing") from None
        path = re.search(r"\$\.(\w+)", str(error))
        name = path[1] if path else ""
        expected = expected_of(type_hints(kind)[name])
        message = f"{where}: {name} is {str(head[name])[:80]!r}; expected {expected}"
        raise WireError(message) from None
