"""`scoreline predict`: records given as JSON."""

from __future__ import annotations

import json
import sys

import click
import msgspec

from scoreline_client.cli.job import print_predictions
from scoreline_client.cli.kit import PARTLY, Seconds, command, json_option, print_json
from scoreline_client.client import Client


@command()
@click.argument("model")
@click.argument("text", metavar="JSON")
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the answer.",
)
@json_option("Print JSON: an object for an object.")
@click.pass_context
def predict(ctx: click.Context, model: str, text: str, timeout_s: float, as_json: bool) -> None:
    """Predict the record, or the array of records, that JSON holds; `-` reads it from stdin.

    MODEL is a name (what production names), name@alias or name@version. The exit code is 1 if a
    record was rejected; the others are predicted all the same.

    \b
    Examples:
      scoreline predict pima '{"preg": 6, "plas": 148, "pres": 72, "skin": 35,
                               "test": 0, "mass": 33.6, "pedi": 0.627, "age": 50}'
      scoreline predict pima@2 - --json < records.json
    """
    try:
        # Not orjson, which reads a number of thirty digits as another number.
        parsed = json.loads(sys.stdin.buffer.read() if text == "-" else text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"JSON cannot be read: {error}") from error
    if not isinstance(parsed, dict | list):
        kind = type(parsed).__name__
        raise click.UsageError(f"JSON must be an object or an array of objects, not {kind}")
    with Client() as client:
        records = [parsed] if isinstance(parsed, dict) else parsed
        predictions = client.predict_many(model, records, timeout=timeout_s)
    if as_json:
        printed = msgspec.to_builtins(predictions)
        print_json(printed[0] if isinstance(parsed, dict) else printed, indent=2)
    else:
        print_predictions(predictions)
    if any(prediction.error for prediction in predictions):
        ctx.exit(PARTLY)
