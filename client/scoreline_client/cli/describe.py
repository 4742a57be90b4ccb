"""`scoreline describe`: what a model takes and gives, as a worker that serves it says."""

from __future__ import annotations

from dataclasses import asdict

import click

from scoreline_client.cli.kit import Seconds, command, json_option, print_json, print_table
from scoreline_client.client import Client


@command()
@click.argument("model")
@click.option("--schema", "as_schema", is_flag=True, help="Print a JSON Schema of its records.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the answer.",
)
@json_option("Print one JSON object: model, version, columns, outputs, classes.")
def describe(model: str, as_schema: bool, timeout_s: float, as_json: bool) -> None:
    """Show the columns that a model takes, and what it answers with.

    MODEL is a name (what production names), name@alias or name@version. A worker is asked: no artifact store is
    needed. What the artifact itself holds, `scoreline inspect` shows where the store is.

    \b
    Examples:
      scoreline describe pima
      scoreline describe pima@candidate --json
      scoreline describe pima --schema > record.schema.json
    """
    if as_schema and as_json:
        raise click.UsageError("--schema and --json exclude each other")
    with Client() as client:
        description = client.describe(model, timeout=timeout_s)
    if as_schema:
        print_json(description.record_schema(), indent=2)
    elif as_json:
        print_json(asdict(description), indent=2)
    else:
        print_table(
            description.ref, ("column", "type", "in a record", "values"), description.rows()
        )
        print_table("answers", ("output", "type", "classes"), description.answers())
