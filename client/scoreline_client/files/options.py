"""What a caller may ask for when a file is scored."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from scoreline_client.errors import SettingsError
from scoreline_client.options import Policy

FORMATS = ("csv", "jsonl", "parquet")

_MAX_ERRORS = re.compile(r"([0-9]+)|([0-9]+(?:\.[0-9]+)?)%")
_ONE_BYTE = ("ascii", "iso8859", "cp125", "koi8", "mac")
_NOT_BOUND = frozenset({"max_errors", "resume", "restart"})
PERCENT_FROM_ROWS = 1000
"""A share of rejected rows means little before there are so many rows."""


@dataclass(frozen=True, slots=True)
class MaxErrors:
    """How many rows may be rejected before a run stops: a number, or a share in percent."""

    rows: int | None = None
    percent: float | None = None

    @classmethod
    def parse(cls, text: str) -> MaxErrors:
        """Read `100` or `2.5%`.

        Raises:
            SettingsError: it is neither.
        """
        match = _MAX_ERRORS.fullmatch(text.strip())
        if match is None:
            raise SettingsError("max_errors", text, "a number of rows, or a percentage like 2.5%")
        if match[1]:
            return cls(rows=int(match[1]))
        return cls(percent=float(match[2]))

    def exceeded(self, rejected: int, rows: int, *, at_end: bool) -> bool:
        """Whether a run is to stop; a share counts from 1,000 rows on, or at the end."""
        if self.rows is not None:
            return rejected > self.rows
        enough = at_end or rows >= PERCENT_FROM_ROWS
        return enough and rejected * 100 > (self.percent or 0.0) * rows

    def __str__(self) -> str:
        return str(self.rows) if self.rows is not None else f"{self.percent:g}%"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOptions:
    """How a file is read, what its output holds, and when to stop."""

    input_format: str | None = None
    """`csv`, `jsonl` or `parquet`; None: by the file's first bytes and its name."""
    output_format: str | None = None
    """The same for the output; None: by its name, and otherwise as the input."""
    delimiter: str | None = None
    """One character; None: the one of `,` `;` tab `|` with which the model's columns are found."""
    encoding: str = "utf-8"
    decimal: str = "."
    """`.` or `,`."""
    thousands: str = ""
    """What may stand between groups of three digits; empty for nothing."""
    nulls: tuple[str, ...] = ("",)
    """Fields that stand for a missing value."""
    comment: str = ""
    """Lines that begin with this character are no rows."""
    strict: bool = False
    """Refuse columns that the model does not know, and quotes in the middle of a field."""
    unseen: Policy = Policy.WARN
    """What becomes of text that training did not have."""
    out_of_range: Policy = Policy.WARN
    """What becomes of numbers outside the range of training."""
    coerce: bool = False
    """Take `true` and `false` for 1 and 0 where a number is expected, and the other way round; in JSON
    Lines and Parquet, read text as a file of text is read."""
    keep: tuple[str, ...] | None = None
    """Columns of the input that the output has, in this order; None: all of them."""
    drop: tuple[str, ...] = ()
    """Columns of the input that the output does not have."""
    id: str | None = None
    """The one column that the output has before the answers, if `keep` does not name more."""
    only_predictions: bool = False
    """No column of the input at all."""
    outputs: tuple[str, ...] | None = None
    """Which answers, in this order: `prediction`, `probability`, `probability_<class>`, `error`,
    `warnings`; None: prediction, all probabilities, error."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """New names of the output's columns; the input's, where an answer has the same name."""
    excel_safe: bool = False
    """Text that a spreadsheet would run as a formula gets a `'` before it."""
    max_errors: MaxErrors | None = None
    """Stop when more rows than this are rejected."""
    resume: bool = False
    """Go on with an unfinished run, if there is one."""
    restart: bool = False
    """Begin anew, although there is an unfinished run."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            SettingsError: an option has no usable value, or two do not go together.
        """
        for name in ("delimiter", "comment"):
            value = getattr(self, name)
            if value and (len(value) != 1 or not value.isascii() or value in '\r\n"'):
                raise SettingsError(name, value, "one ASCII character that is no quote")
        if self.decimal not in (".", ","):
            raise SettingsError("decimal", self.decimal, "'.' or ','")
        if self.decimal == self.delimiter:
            raise SettingsError("decimal", self.decimal, "another character than the delimiter")
        if self.decimal == self.thousands:
            raise SettingsError("thousands", self.thousands, "another mark than the decimal's")
        for name in ("input_format", "output_format"):
            if getattr(self, name) not in (None, *FORMATS):
                raise SettingsError(name, getattr(self, name), f"one of {', '.join(FORMATS)}")
        _check_encoding(self.encoding)
        if self.resume and self.restart:
            raise SettingsError("resume", True, "either resume or restart")
        self._check_selection()

    def _check_selection(self) -> None:
        chosen = {
            "keep": self.keep is not None,
            "drop": bool(self.drop),
            "only_predictions": self.only_predictions,
        }
        given = [name for name, is_given in chosen.items() if is_given]
        if len(given) > 1 or (self.id is not None and given in (["drop"], ["only_predictions"])):
            names = [*given, *(["id"] if self.id is not None else [])]
            raise SettingsError(names[0], True, f"it without {' and '.join(names[1:])}")

    @property
    def is_transcoded(self) -> bool:
        """Whether the text must be turned into UTF-8 before it can be cut into rows."""
        name = codecs.lookup(self.encoding).name
        return name not in ("utf-8", "utf-8-sig") and not name.startswith(_ONE_BYTE)

    @property
    def text_encoding(self) -> str:
        """The encoding of the text once it is cut into rows."""
        name = codecs.lookup(self.encoding).name
        return "utf-8" if self.is_transcoded or name == "utf-8-sig" else name

    def bound(self) -> dict[str, Any]:
        """What a run that is resumed must have in common with the one that began."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if name not in _NOT_BOUND
        }


def _check_encoding(name: str) -> None:
    try:
        found = codecs.lookup(name)
    except LookupError:
        raise SettingsError("encoding", name, "an encoding that Python knows") from None
    # There is no public way to ask: rot13 and the like are no encodings of text.
    if not found._is_text_encoding:
        raise SettingsError("encoding", name, "an encoding of text")
