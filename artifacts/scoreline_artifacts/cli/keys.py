"""`scoreline keygen` and `scoreline keys`: whose artifacts are believed on this machine.

Exit codes: 0 as asked; 2 it cannot be done, and the message says why.
"""

from __future__ import annotations

import json
from typing import IO

import click
from rich.console import Console
from rich.table import Table

from scoreline_artifacts.cli.explained import explained
from scoreline_artifacts.store.signing import KeyRing

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.option("--rotate", is_flag=True, help="Make another key, to sign with from now on.")
@_json
def keygen(rotate: bool, as_json: bool) -> None:
    """Make the key pair that signs what is published and released here.

    The first publish() does that by itself. After --rotate the key before stays trusted here, so that
    what it signed goes on serving; let the workers trust the new one before you publish with it.

    \b
    Examples:
      scoreline keygen
      scoreline keygen --rotate
      scoreline keys show > publisher.pem     and on each worker:
      scoreline keys trust publisher.pem
    """
    with explained():
        ring = KeyRing.from_environment()
        fingerprint, made = ring.generate(rotate=rotate)
    if as_json:
        click.echo(json.dumps({"key": fingerprint, "made": made, "folder": str(ring.folder)}))
        return
    what = "made" if made else "there already (--rotate makes another one):"
    click.echo(f"{what} key {fingerprint} in {ring.folder}")


@click.group(invoke_without_command=True)
@click.pass_context
def keys(ctx: click.Context) -> None:
    """List, show, trust and revoke the keys that sign artifacts and releases.

    A worker believes what the keys in its own folder have signed, and nothing else. The folder is
    SCORELINE_KEYS, else scoreline/keys under the user's configuration.

    \b
    Examples:
      scoreline keys
      scoreline keys show > publisher.pem
      scoreline keys trust publisher.pem
      scoreline keys revoke 3f0a9c21
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_keys)


@keys.command("list")
@_json
def list_keys(as_json: bool = False) -> None:
    """List the keys that are trusted or were revoked here.

    \b
    Examples:
      scoreline keys list --json
    """
    with explained():
        ring = KeyRing.from_environment()
        found = ring.known()
    if as_json:
        rows = [
            {"key": one.fingerprint, "revoked": one.revoked, "signs": one.signs} for one in found
        ]
        click.echo(json.dumps(rows))
        return
    click.echo(f"keys in {ring.folder}")
    table = Table("key", "is")
    for one in found:
        state = "revoked" if one.revoked else "trusted"
        table.add_row(one.fingerprint, state + (", signs what is published here" * one.signs))
    if found:
        Console().print(table)
    else:
        click.echo(
            "none: `scoreline keygen` makes a pair, `scoreline keys trust FILE` adds a public key"
        )


@keys.command()
@click.argument("fingerprint", required=False)
def show(fingerprint: str | None) -> None:
    """Print a public key, to be trusted elsewhere: FINGERPRINT's, or the one that signs here.

    \b
    Examples:
      scoreline keys show > publisher.pem
      scoreline keys show | ssh worker scoreline keys trust -
    """
    with explained():
        click.echo(KeyRing.from_environment().export(fingerprint), nl=False)


@keys.command()
@click.argument("file", type=click.File("rb"))
@_json
def trust(file: IO[bytes], as_json: bool) -> None:
    """Believe from now on what the public key in FILE (`-`: standard input) has signed.

    \b
    Examples:
      scoreline keys trust publisher.pem
    """
    with explained():
        fingerprint = KeyRing.from_environment().trust(file.read())
    click.echo(json.dumps({"key": fingerprint}) if as_json else f"trusted: {fingerprint}")


@keys.command()
@click.argument("fingerprint")
@_json
def revoke(fingerprint: str, as_json: bool) -> None:
    """Believe no longer, on this machine, what a key has signed or will sign.

    FINGERPRINT may be the first digits of a known one. What is being served goes on being served until
    its process ends; nothing more that this key signed is loaded.

    \b
    Examples:
      scoreline keys revoke 3f0a9c21
    """
    with explained():
        found = KeyRing.from_environment().revoke(fingerprint)
    click.echo(json.dumps({"key": found}) if as_json else f"revoked: {found}")
