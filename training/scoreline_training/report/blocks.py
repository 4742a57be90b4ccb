"""What a page is made of; the template knows how each of these looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Chart:
    """A plot with its title, a legend, and a sentence below it."""

    title: str
    svg: Markup
    note: str = ""
    legend: Sequence[tuple[str, str]] = ()
    """Class of the mark, and what it stands for."""
    kind: str = "chart"


@dataclass(frozen=True, slots=True)
class Charts:
    """Plots side by side, as many as there is room for."""

    charts: Sequence[Chart]
    size: str = "medium"
    """`medium`, `small` for small multiples, `wide` for one over the whole width."""
    kind: str = "charts"


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell."""

    text: str
    shade: float | None = None
    """0 to 1, how strongly it is coloured."""
    detail: str = ""
    """A second, quieter line."""
    css: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under headings; the first cell of a row heads it."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    text_columns: Sequence[int] = (0,)
    """Columns that are aligned left; the others are numbers."""
    note: str = ""
    css: str = ""
    kind: str = "table"


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values."""

    items: Sequence[tuple[str, str]]
    title: str = ""
    kind: str = "facts"


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence, such as why something is not there."""

    text: str
    kind: str = "note"


@dataclass(frozen=True, slots=True)
class Columns:
    """Blocks side by side."""

    blocks: Sequence[Block]
    kind: str = "columns"


Block = Charts | Table | Facts | Note | Columns


@dataclass(frozen=True, slots=True)
class Tile:
    """A headline figure."""

    name: str
    value: str
    details: Sequence[str] = ()
    change: str = ""
    """From the version in production, in figures and words."""
    trend: str = ""
    """`better`, `worse`, `same`, `unclear`, or nothing."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading of its own."""

    key: str
    """Its anchor."""
    title: str
    lead: str = ""
    """What is seen here, in a sentence or two."""
    blocks: Sequence[Block] = field(default=())
