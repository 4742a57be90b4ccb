"""`scoreline dead-letters`: what was given up because its process died of it; show it, send it again, drop it."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import click
import msgspec

from scoreline_client.cli.kit import (
    PARTLY,
    VERSION,
    Group,
    Seconds,
    json_option,
    print_json,
    print_table,
    say,
)
from scoreline_client.client import Client
from scoreline_client.dead_letters import DeadLetter
from scoreline_client.protocol.json_records import predictions_of
from scoreline_client.protocol.messages import Codec, Status
from scoreline_client.shown import shown_text

_json = json_option("Print JSON.")
_SHOWN_BYTES = 100 << 10
"""Bytes of a body that are printed."""
_one_line = partial(shown_text, in_line=True)
"""Makes one line of a text that callers have sent."""


@click.group("dead-letters", cls=Group, invoke_without_command=True)
@click.pass_context
def dead_letters(ctx: click.Context) -> None:
    """List, show, send again and drop what was given up because its process died of it.

    A worker keeps them for seven days: the newest 1,000, up to 32 MiB together.

    \b
    Examples:
      scoreline dead-letters
      scoreline dead-letters show 1732811523456-0
      scoreline dead-letters replay 1732811523456-0 --version 4
      scoreline dead-letters drop --all
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_letters)


@dead_letters.command("list")
@_json
def list_letters(as_json: bool = False) -> None:
    """List dead letters, the newest first.

    \b
    Examples:
      scoreline dead-letters list --json
    """
    with Client() as client:
        letters = client.dead_letters()
    if as_json:
        print_json([_described(letter) for letter in letters])
    elif letters:
        rows = (
            (
                letter.id,
                time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(letter.died_at)),
                _one_line(letter.model),
                _one_line(letter.codec),
                f"{letter.size:,}",
                _one_line(letter.reason),
            )
            for letter in letters
        )
        print_table(None, ("id", "died (UTC)", "model", "codec", "bytes", "reason"), rows)
    else:
        click.echo("none")


@dead_letters.command()
@click.argument("letter_id", metavar="ID")
@_json
def show(letter_id: str, as_json: bool) -> None:
    """Show the dead letter ID with its records, as far as they are text.

    \b
    Examples:
      scoreline dead-letters show 1732811523456-0
    """
    with Client() as client:
        letter = client.dead_letter(letter_id)
    body = letter.fields.get(b"body", b"")[:_SHOWN_BYTES].decode(errors="backslashreplace")
    described = _described(letter) | {"body": body}
    if as_json:
        print_json(described)
        return
    for name, value in described.items():
        click.echo(f"{name + ':':<12}{_one_line(str(value))}")


@dead_letters.command()
@click.argument("letter_id", metavar="ID")
@click.option("--version", type=VERSION, help="Of its model; by default what the request named.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the answer.",
)
@_json
@click.pass_context
def replay(
    ctx: click.Context, letter_id: str, version: int | None, timeout_s: float, as_json: bool
) -> None:
    """Send the dead letter ID again, and print the answer; it stays among the dead letters.

    The exit code is 1 if it was not scored this time either. What kills its process again costs a
    worker some throw-away processes, and becomes another dead letter.

    \b
    Examples:
      scoreline dead-letters replay 1732811523456-0 --version 4
    """
    with Client() as client:
        answer = client.replay(client.dead_letter(letter_id), version=version, timeout=timeout_s)
    records: list[Any]
    if answer.codec is Codec.JSON or answer.status is Status.ERROR:
        # `predictions_of` raises the error with which a request was refused.
        records = msgspec.to_builtins(predictions_of(answer))
    elif answer.codec is Codec.CSV:
        records = bytes(answer.body).decode(errors="backslashreplace").splitlines()
    else:
        # Imported only here: the smallest install has no pyarrow, and its dead letters are mostly JSON.
        from scoreline_client.protocol.arrow_tables import read_stream

        records = read_stream(answer.body).to_pylist()
    if as_json:
        print_json({"model": answer.model, "version": answer.version, "records": records})
    else:
        say(f"{answer.model}@{answer.version}", in_line=True)
        for record in records:
            click.echo(json.dumps(record, default=str))
    if answer.errors or answer.rejected:
        ctx.exit(PARTLY)


@dead_letters.command()
@click.argument("letter_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="Drop every dead letter of the queue.")
@_json
def drop(letter_ids: tuple[str, ...], is_all: bool, as_json: bool) -> None:
    """Drop the dead letters that are named, or all of them.

    \b
    Examples:
      scoreline dead-letters drop 1732811523456-0 1732811523999-0
      scoreline dead-letters drop --all
    """
    if is_all == bool(letter_ids):
        raise click.UsageError("name dead letters, or --all")
    with Client() as client:
        count = client.drop_dead_letters(None if is_all else letter_ids)
    if as_json:
        print_json({"dropped": count})
    else:
        click.echo(f"dropped {count:,}")


def _described(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "died_at": letter.died_at,
        "request": letter.request,
        "model": letter.model,
        "lane": letter.lane,
        "codec": letter.codec,
        "bytes": letter.size,
        "cut": letter.is_cut,
        "reason": letter.reason,
    }
