"""`scoreline train`: run a training job, here or from a script."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from scoreline_artifacts import ArtifactError
from scoreline_training.publishing import PublishedVersion, promote_by_default, publish


@click.command()
@click.argument("job")
@click.option("--promote", is_flag=True, help="Release the new version as production.")
@click.option(
    "--strength",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    help="pima only: value of C to try, instead of the usual four; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def train(job: str, promote: bool, strength: tuple[float, ...], as_json: bool) -> None:
    """Run JOB: `pima`, or the path of a Python script that calls publish().

    \b
    Examples:
      scoreline train pima --promote
      scoreline train pima --strength 0.05 --json
      scoreline train churn/train.py --promote
    """
    try:
        if job == "pima":
            _train_pima(promote, strength, as_json)
        else:
            _run_script(Path(job), promote)
    except ArtifactError as error:
        raise click.ClickException(str(error)) from error


def _train_pima(promote: bool, strength: tuple[float, ...], as_json: bool) -> None:
    from scoreline_training.jobs.pima import training

    trained = training.train(strength or training.STRENGTHS)
    published = publish(
        trained.pipeline,
        "pima",
        trained.split.X_train,
        trained.split.y_train,
        promote=promote,
        metrics=trained.metrics.to_json(),
        training=trained.parameters,
    )
    if as_json:
        click.echo(json.dumps(_summary(published)))
        return
    console = Console()
    console.print(trained.metrics)
    console.print(_sentence(published), highlight=False)


def _run_script(path: Path, promote: bool) -> None:
    if not path.is_file():
        raise click.BadParameter(
            f"{str(path)!r} is neither a job that comes with Scoreline (pima) nor a file",
            param_hint="JOB",
        )
    sys.path.insert(0, str(path.resolve().parent))
    token = promote_by_default.set(promote)
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        promote_by_default.reset(token)
        sys.path.pop(0)


def _summary(published: PublishedVersion) -> dict[str, Any]:
    return {
        "model": published.name,
        "version": published.version,
        "path": str(published.path),
        "promoted": published.release is not None,
        "announced": published.announced,
        "metrics": published.manifest.metrics,
    }


def _sentence(published: PublishedVersion) -> str:
    where = f"published {published.name}@{published.version} to {published.path}"
    if published.release is None:
        return f"{where}; `scoreline promote {published.name} {published.version}` releases it"
    news = "workers were told" if published.announced else "Redis is not reached, workers will look"
    return f"{where}; {published.name}@{published.release.alias} now names it ({news})"
