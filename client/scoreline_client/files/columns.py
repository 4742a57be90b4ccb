"""Which columns an output has, in which order, and what they are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.files.formats.csv_header import nearest
from scoreline_client.files.formats.pieces import Described
from scoreline_client.options import BulkOptions

DEFAULT_OUTPUTS = ("prediction", "probability", "error")


@dataclass(frozen=True, slots=True)
class OutputColumns:
    """The columns of an output."""

    places: tuple[int, ...] | None
    """Places of the input's columns, in the output's order; None: all, as they are."""
    kept: tuple[str, ...]
    """What those columns are called in the output."""
    answers: tuple[str, ...]
    """The answers that are asked for, by the names that they have on the wire."""
    added: tuple[str, ...]
    """What the answers are called in the output."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in order."""
        return self.kept + self.added


def choose_columns(
    path: str, columns: Sequence[str], described: Described, options: BulkOptions
) -> OutputColumns:
    """What the options make of an input's columns and a version's answers.

    Raises:
        FileRefused: a column that is named is not there, or two would have the same name.
    """
    places = _places(path, columns, options)
    answers = choose_answers(path, described, options)
    here = columns if places is None else [columns[place] for place in places]
    unknown = [name for name in options.rename if name not in (*here, *answers)]
    if unknown:
        raise _not_there(path, unknown[0], (*here, *answers), "rename")
    kept = tuple(options.rename.get(name, name) for name in here)
    # A name that the input has too means the input's: the answer can then keep it.
    added = tuple(name if name in here else options.rename.get(name, name) for name in answers)
    _check_once(path, kept, added)
    return OutputColumns(places, kept, answers, added)


def check_strict(path: str, columns: Sequence[str], described: Described) -> None:
    """Refuse columns that the model does not know.

    Raises:
        FileRefused: there is one.
    """
    extra = extra_columns(columns, described)
    if extra:
        listed = ", ".join(map(repr, extra[:12]))
        message = f"columns that {described.ref} does not know (strict): {listed}"
        raise FileRefused(Code.EXTRA_COLUMN, path, message, extra[0])


def extra_columns(columns: Sequence[str], described: Described) -> list[str]:
    """The columns that a model does not need."""
    return [name for name in columns if name not in described.needed]


def _places(path: str, columns: Sequence[str], options: BulkOptions) -> tuple[int, ...] | None:
    if options.only_predictions:
        return ()
    if options.drop:
        dropped = {_place(path, columns, name, "drop") for name in options.drop}
        return tuple(place for place in range(len(columns)) if place not in dropped)
    if options.keep is None and options.id is None:
        return None
    names = dict.fromkeys([*([options.id] if options.id else []), *(options.keep or ())])
    return tuple(_place(path, columns, name, "keep") for name in names)


def _place(path: str, columns: Sequence[str], name: str, option: str) -> int:
    try:
        return columns.index(name)
    except ValueError:
        raise _not_there(path, name, columns, option) from None


def choose_answers(path: str, described: Described, options: BulkOptions) -> tuple[str, ...]:
    """The names on the wire of the answers that are asked for, in order.

    Raises:
        FileRefused: the version has no such answer.
    """
    shares = tuple(f"probability_{label}" for label in described.classes)
    known = ("prediction", *shares, "error", "warnings")
    found: list[str] = []
    for name in options.outputs or DEFAULT_OUTPUTS:
        if name == "probability":
            found += shares
        elif name in known:
            found.append(name)
        else:
            raise _not_there(path, name, known, "outputs")
    return tuple(dict.fromkeys(found))


def _not_there(path: str, name: str, names: Sequence[str], option: str) -> FileRefused:
    near = nearest(name, list(names))
    advice = f"did you mean {near!r}?" if near else f"there are {', '.join(map(repr, names[:12]))}"
    message = f"there is no column {name!r} to {option}; {advice}"
    if option == "outputs":
        message = f"the model does not answer with {name!r}; {advice}"
    return FileRefused(Code.MISSING_COLUMN, path, message, name)


def _check_once(path: str, kept: Sequence[str], added: Sequence[str]) -> None:
    for name, count in Counter((*kept, *added)).items():
        if name and count > 1:
            message = f"the output would have column {name!r} {count} times"
            if name in added:
                message = f"column {name!r} is there already, and the output adds one"
            advice = f"rename it (--rename {name}=…) or leave it out (--drop {name})"
            raise FileRefused(Code.DUPLICATE_COLUMN, path, f"{message}: {advice}", name)
