"""`scoreline job`: where a submitted job is, its predictions, and an end to it; for whoever has its id."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.table import Column

from scoreline_client.cli.kit import (
    PARTLY,
    REFUSED,
    Seconds,
    command,
    json_option,
    plain,
    print_json,
    print_table,
    say,
)
from scoreline_client.client import Client
from scoreline_client.errors import RequestRefused
from scoreline_client.jobs import JobStatus
from scoreline_client.predictions import Prediction
from scoreline_client.protocol.messages import check_id

_HAS_ENDED = (JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED)


@command()
@click.argument("job_id", metavar="ID")
@click.option(
    "--wait", "wait_s", type=Seconds(min=0), metavar="SECONDS", help="Wait for its result so long."
)
@click.option(
    "--cancel", "is_cancelled", is_flag=True, help="Cancel it, if no worker has answered it."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the server may take.",
)
@json_option("Print one JSON object: id, status, predictions, error.")
@click.pass_context
def job(
    ctx: click.Context,
    job_id: str,
    wait_s: float | None,
    is_cancelled: bool,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Show a job that `client.submit` has queued, by its id: its status, and its predictions once it is done.

    The exit code is 1 if some of its records were rejected, 2 if it ended without predictions or is not known
    (any more), 3 if there is no result after --wait.

    \b
    Examples:
      scoreline job 0123456789abcdef0123456789abcdef
      scoreline job 0123456789abcdef0123456789abcdef --wait 60 --json
      scoreline job 0123456789abcdef0123456789abcdef --cancel
    """
    if is_cancelled and wait_s is not None:
        raise click.UsageError("--cancel and --wait exclude each other")
    with Client() as client:
        queued = client.job(check_id(job_id))
        if is_cancelled:
            queued.cancel(timeout_s)
        status = queued.status(timeout_s)
        predictions: list[Prediction] = []
        error = None
        if wait_s is not None or status in _HAS_ENDED:
            try:
                predictions = queued.result(timeout_s if wait_s is None else wait_s)
                status = JobStatus.DONE
            except RequestRefused as refused:
                error = refused
                status = queued.status(timeout_s)
    if as_json:
        error_json = None if error is None else {"code": error.code, "message": str(error)}
        listed = [prediction.to_dict() for prediction in predictions]
        about = {"id": job_id, "status": status, "predictions": listed, "error": error_json}
        print_json(about, indent=2)
    else:
        say(f"job {job_id} is {status}" + (f": {error}" if error else ""))
        if predictions:
            print_predictions(predictions)
    if error is not None:
        ctx.exit(REFUSED)
    if any(prediction.error for prediction in predictions):
        ctx.exit(PARTLY)


def print_predictions(predictions: Sequence[Prediction]) -> None:
    """Print predictions as a table, with a column for each class."""
    by_class = [
        {
            str(name) if label is None else f"{name}_{label}": number
            for name, share in prediction.probabilities.items()
            for label, number in (share.items() if isinstance(share, dict) else [(None, share)])
        }
        for prediction in predictions
    ]
    classes = list(dict.fromkeys(name for shares in by_class for name in shares))
    numbers = ("record", "prediction", *(f"probability_{name}" for name in classes))
    columns: list[Column | str] = [Column(plain(name), justify="right") for name in numbers]
    rows = []
    for index, (prediction, shares) in enumerate(zip(predictions, by_class, strict=True)):
        probabilities = (f"{shares[name]:.4f}" if shares else "" for name in classes)
        error = prediction.error
        value = "" if error else str(prediction.value)
        reason = f"{error.code}: {error.message}" if error else ""
        rows.append((str(index), value, *probabilities, reason))
    scored = next(
        (prediction for prediction in predictions if prediction.error is None), predictions[0]
    )
    print_table(f"{scored.model}@{scored.version}", [*columns, "error"], rows)
