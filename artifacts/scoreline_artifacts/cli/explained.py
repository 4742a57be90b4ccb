"""Errors of artifacts on the command line: their message, and the exit code for what was asked wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from scoreline_artifacts.errors import ArtifactError, StoreUnreachable


class Refused(click.ClickException):
    """Raised to end a command that cannot do what it was asked for."""

    exit_code = 2


class Unreachable(click.ClickException):
    """Raised to end a command that cannot reach the store."""

    exit_code = 3


class _VersionNumber(click.IntRange):
    """A version's number on the command line; says so of what is none."""

    name = "version number"


VERSION = _VersionNumber(min=1)


@contextmanager
def explained() -> Iterator[None]:
    """Show an error of this package as its message alone."""
    try:
        yield
    except StoreUnreachable as error:
        raise Unreachable(str(error)) from error
    except ArtifactError as error:
        raise Refused(str(error)) from error
