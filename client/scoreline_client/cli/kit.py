"""What all commands share: the exit code that an error ends with, `--json`, types of values, tables.

A command of any package is made by `command()`. It raises the error it meets; here, and nowhere else, it
becomes a message on standard error and the error's `exit_status`.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from scoreline_client.errors import ScorelineError
from scoreline_client.shown import shown_text

# rich is imported where it draws: most of what a command prints is a line.
if TYPE_CHECKING:
    from rich.table import Column, Table
    from rich.text import Text

PARTLY, REFUSED, SERVICE, INTERRUPTED = 1, 2, 3, 130
"""The exit codes beside 0: done in part, refused as a whole, service trouble, Ctrl-C."""

_ALLOWED_BY_JSON = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

_MACHINE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO}
"""A full disk or quota, a disk that is read only, too many open files, a broken disk: no bug of the program."""

_F = TypeVar("_F", bound=Callable[..., Any])


class _EndsWithExitCode(click.Command):
    """Turns errors, and what the machine refuses, into messages and exit codes; any other exception is a bug and shows its
    traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ScorelineError as error:
            # The notes of an error say what there is to do.
            for line in (f"Error: {error}", *getattr(error, "__notes__", ())):
                say(line, err=True)
            ctx.exit(error.exit_status)
        except OSError as error:
            if error.errno not in _MACHINE_ERRORS:
                raise
            suffix = f": {error.filename}" if error.filename else ""
            say(f"Error: {os.strerror(error.errno)}{suffix}", err=True, in_line=True)
            ctx.exit(SERVICE)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)


class Command(_EndsWithExitCode):
    """A command."""


class Group(_EndsWithExitCode, click.Group):
    """A command that has commands."""

    command_class = Command


command = partial(click.command, cls=Command)


class Seconds(click.FloatRange):
    """A finite number of seconds: `inf` and `nan`, which are numbers to Python, are usage errors."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, in its range."""
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value} is no number of seconds", param, ctx)
        return seconds


def file_name(text: str) -> str:
    """The name of a file, of a directory, or a URL: an empty one, as an unset variable leaves it, is a usage error.

    Raises:
        BadParameter: it is empty.
    """
    if not text:
        raise click.BadParameter("it is empty; name a file")
    return text


class _VersionNumber(click.IntRange):
    name = "version number"


VERSION = _VersionNumber(min=1)


def json_option(help: str = "Print one JSON object.") -> Callable[[_F], _F]:  # noqa: A002
    """Declare `--json`, which reaches the command as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=help)


def say(text: object, *, err: bool = False, in_line: bool = False) -> None:
    """Print text that others may have written in part, with its control characters escaped.

    With `in_line` it is printed on one line, whatever it holds.
    """
    click.echo(shown_text(str(text), in_line=in_line), err=err)


def counted(number: int, noun: str) -> str:
    """A number of things: `1 row`, `2 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def cell(text: object) -> Text:
    """Such text for rich, which takes nothing in it for markup."""
    from rich.text import Text

    return Text(shown_text(str(text)))


def plain(text: object) -> str:
    """Such text for rich where it reads markup, on one line."""
    from rich.markup import escape

    return escape(shown_text(str(text), in_line=True))


def print_json(value: object, *, indent: int | None = None, err: bool = False) -> None:
    """Print a value as JSON on one line of ASCII, or indented for people to read as well."""
    say_json(json.dumps(value, indent=indent, ensure_ascii=indent is None), err=err)


def say_json(text: str, *, err: bool = False) -> None:
    """Print JSON; the control characters that JSON allows in a text become escapes of JSON."""
    click.echo(_ALLOWED_BY_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text), err=err)


def table(
    title: str | None, columns: Iterable[Column | str], rows: Iterable[Iterable[str]]
) -> Table:
    """A table whose title and cells are plain text: brackets in them are no markup."""
    from rich.table import Table

    result = Table(*columns, title=title and plain(title), show_header=any(columns))
    for row in rows:
        result.add_row(*map(cell, row))
    return result


def print_table(
    title: str | None, columns: Iterable[Column | str], rows: Iterable[Iterable[str]]
) -> None:
    """Print such a table on standard output."""
    from rich.console import Console

    Console().print(table(title, columns, rows))
