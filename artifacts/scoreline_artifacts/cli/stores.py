"""`scoreline copy` and `accept`: a version of another store, and another store or log than the one that was known.

Exit codes: 0 as asked; 2 it cannot be done, and the message says why; 3 a store cannot be reached.
"""

from __future__ import annotations

from dataclasses import replace

import click

from scoreline_artifacts.cli.versions import resolve
from scoreline_artifacts.errors import UnknownAliasError
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.identity import read_identity
from scoreline_artifacts.store.marks import LogMarks
from scoreline_artifacts.store.store import Store
from scoreline_client.cli.kit import command, json_option, print_json, say
from scoreline_client.protocol.names import PRODUCTION
from scoreline_client.shown import shown_name


@command()
@click.argument("model")
@click.option(
    "--from", "source", required=True, metavar="STORE", help="Folder or URL of the other store."
)
@json_option()
def copy(model: str, source: str, as_json: bool) -> None:
    """Bring a version of another store into this one, as the next version of the model, signed anew.

    MODEL is a name (what production names there), name@alias or name@version. A version is signed for one store, so
    copying its files is not enough: workers of another store refuse them.

    \b
    Examples:
      scoreline copy pima@3 --from s3://staging/models
    """
    origin, store = Store(source), Store.from_environment()
    manifest = origin.manifest(*resolve(origin, model))
    name = f"{manifest.model}@{manifest.version}"
    origin_name = shown_name(str(origin.root))
    training = manifest.training | {"copied from": f"{name} of {origin_name}"}
    copied = store.publish(replace(manifest, training=training), origin.read_all(manifest))
    if as_json:
        print_json({"model": copied.model, "version": copied.version, "copied": name})
    else:
        say(f"copied {name} of {origin_name}: here it is {copied.model}@{copied.version}")


@command()
@click.argument("model", required=False)
@click.option(
    "--alias", default=PRODUCTION, show_default=True, help="Which alias of the model's releases."
)
@json_option()
def accept(model: str | None, alias: str, as_json: bool) -> None:
    """Take the store, or the releases of MODEL, for the right ones on this machine, as they are now.

    A machine knows the store that it saw first under an address, and each alias's log of releases with its length.
    What is not the same any more is refused, since somebody may have put an old or another store's copy there. If you
    did it, say so here, and on every worker.

    \b
    Examples:
      scoreline accept
      scoreline accept pima --alias candidate
    """
    store = Store.from_environment()
    if model is None:
        identity = read_identity(store.storage, store.ring, accept=True)
        if as_json:
            print_json({"store": identity and identity.id})
        else:
            name = identity.id if identity else "a store without an identity"
            say(f"accepted: {shown_name(str(store.root))} is {name}")
        return
    release = releases.current(store, model, alias)
    if release is None:
        raise UnknownAliasError(model, alias, releases.aliases(store, model))
    store_id, number = store.known_as(), release.sequence
    LogMarks.from_environment().accept(store_id, model, alias, log=release.log, number=number)
    if as_json:
        print_json({"model": model, "alias": alias, "number": number, "version": release.version})
    else:
        say(f"accepted: {model}@{alias} ends with number {number}, version {release.version}")
