"""`scoreline keygen` and `scoreline keys`: whose artifacts are believed on this machine.

Exit codes: 0 as asked; 2 it cannot be done, and the message says why.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import IO

import click

from scoreline_artifacts.store.signing import KeyRing
from scoreline_client.cli.kit import Group, command, json_option, print_json, print_table, say

_json = json_option("Print JSON.")


@command()
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
    ring = KeyRing.from_environment()
    fingerprint, is_new = ring.generate(rotate=rotate)
    if as_json:
        print_json({"key": fingerprint, "made": is_new, "folder": str(ring.folder)})
        return
    state = "made" if is_new else "there already (--rotate makes another one):"
    say(f"{state} key {fingerprint} in {ring.folder}")


@click.group(cls=Group, invoke_without_command=True)
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
    ring = KeyRing.from_environment()
    known_keys = ring.known()
    if as_json:
        print_json(
            [
                {"key": key.fingerprint, "revoked": key.revoked, "signs": key.signs}
                | asdict(key.limits)
                for key in known_keys
            ]
        )
        return
    say(f"keys in {ring.folder}")
    if not known_keys:
        say("none: `scoreline keygen` makes a pair, `scoreline keys trust FILE` adds a public key")
        return
    signs = ", signs what is published here"
    rows = (
        (
            key.fingerprint,
            ("revoked" if key.revoked else "trusted") + (signs if key.signs else ""),
            str(key.limits) or "all models and aliases",
        )
        for key in known_keys
    )
    print_table(None, ("key", "is", "for"), rows)


@keys.command()
@click.argument("fingerprint", required=False)
def show(fingerprint: str | None) -> None:
    """Print a public key, to be trusted elsewhere: FINGERPRINT's, or the one that signs here.

    \b
    Examples:
      scoreline keys show > publisher.pem
      scoreline keys show | ssh worker scoreline keys trust -
    """
    click.echo(KeyRing.from_environment().export(fingerprint), nl=False)


@keys.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "--models",
    multiple=True,
    metavar="PATTERN",
    help="Only for these models, such as fraud-*; may be given several times.",
)
@click.option(
    "--aliases",
    multiple=True,
    metavar="PATTERN",
    help="Its releases only for these aliases; may be given several times.",
)
@_json
def trust(
    file: IO[bytes], models: tuple[str, ...], aliases: tuple[str, ...], as_json: bool
) -> None:
    """Believe from now on what the public key in FILE (`-`: standard input) has signed.

    With --models and --aliases only about these. Without them a known key is trusted for all again.

    \b
    Examples:
      scoreline keys trust publisher.pem
      scoreline keys trust staging.pem --models 'fraud-*' --aliases staging --aliases candidate
    """
    ring = KeyRing.from_environment()
    fingerprint = ring.trust(file.read(), models=models, aliases=aliases)
    _print(fingerprint, "trusted", as_json)


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
    _print(KeyRing.from_environment().revoke(fingerprint), "revoked", as_json)


def _print(fingerprint: str, state: str, as_json: bool) -> None:
    if as_json:
        print_json({"key": fingerprint})
    else:
        say(f"{state}: {fingerprint}")
