"""`scoreline train`: run a training job, here or from a script."""

from __future__ import annotations

import runpy
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from scoreline_client.cli.kit import command, json_option, print_json, say
from scoreline_client.errors import ScorelineError
from scoreline_training.publishing import (
    PublishedVersion,
    promote_by_default,
    publish,
    published_by_script,
)


@command()
@click.argument("job")
@click.option("--promote", is_flag=True, help="Release the new version as production.")
@click.option(
    "--strength",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    help="pima only: value of C to try, instead of the usual four; may be repeated.",
)
@json_option("Print one JSON object for each version.")
def train(job: str, promote: bool, strength: tuple[float, ...], as_json: bool) -> None:
    """Run JOB: `pima`, or the path of a Python script that calls publish().

    \b
    Examples:
      scoreline train pima --promote
      scoreline train pima --strength 0.05 --json
      scoreline train churn/train.py --promote
    """
    if strength and job != "pima":
        raise click.UsageError("--strength is for pima; a script chooses its own parameters")
    versions = (
        _train_pima(promote, strength, as_json)
        if job == "pima"
        else _run_script(Path(job), promote)
    )
    for version in versions:
        _print(version, as_json)


def _train_pima(
    promote: bool, strength: tuple[float, ...], as_json: bool
) -> list[PublishedVersion]:
    from scoreline_training.jobs.pima import training

    trained = training.train(strength or training.STRENGTHS)
    published = publish(
        trained.pipeline,
        "pima",
        trained.split.X_train,
        trained.split.y_train,
        X_test=trained.split.X_test,
        y_test=trained.split.y_test,
        promote=promote,
        metrics=trained.metrics.to_json(),
        training=trained.parameters,
    )
    if not as_json:
        Console().print(trained.metrics)
    return [published]


def _run_script(path: Path, promote: bool) -> list[PublishedVersion]:
    """Run a script as `python script.py` does, and return the versions that it published."""
    if not path.is_file():
        raise click.BadParameter(
            f"{str(path)!r} is neither a job that comes with Scoreline (pima) nor a file",
            param_hint="JOB",
        )
    published: list[PublishedVersion] = []
    promoting, recording = promote_by_default.set(promote), published_by_script.set(published)
    arguments, folders = sys.argv, list(sys.path)
    sys.argv = [str(path)]
    sys.path.insert(0, str(path.resolve().parent))
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        # A script may end with sys.exit(); only a status says that it failed.
        if end.code not in (None, 0):
            raise
    finally:
        sys.argv = arguments
        sys.path[:] = folders
        published_by_script.reset(recording)
        promote_by_default.reset(promoting)
    if not published:
        raise ScorelineError(
            f"{path} ran to its end and published nothing; let it call scoreline_training.publish()"
        )
    return published


def _print(published: PublishedVersion, as_json: bool) -> None:
    name, version, release = published.name, published.version, published.release
    if as_json:
        print_json(
            {
                "model": name,
                "version": version,
                "path": str(published.path),
                "report": str(published.report),
                "promoted": release is not None,
                "announced": published.announced,
                "travels": published.travels,
                "warnings": [asdict(warning) for warning in published.warnings],
                "metrics": published.manifest.metrics,
            }
        )
        return
    if release is None:
        then = f"; `scoreline promote {name} {version}` releases it"
    else:
        news = (
            "workers were told"
            if published.announced
            else "Redis is not reached, workers will look"
        )
        then = f"; {name}@{release.alias} now names it ({news})"
    say(f"published {name}@{version} to {published.path}{then}")
    if published.travels:
        say(f"from the project: {', '.join(published.travels)}")
    for warning in published.warnings:
        say(f"warning {warning.code}: {warning.message}", err=True)
    say(f"training report: {published.report}")
