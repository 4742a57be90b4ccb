"""`scoreline train`: run a training job, here or from a script; `scoreline export`: write a version for other programs"""

from __future__ import annotations

import runpy
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from scoreline_artifacts.cli.versions import resolve
from scoreline_artifacts.store.store import Store
from scoreline_client.cli.kit import PARTLY, command, json_option, print_json, print_table, say
from scoreline_client.errors import MissingDependency, ScorelineError
from scoreline_client.protocol.names import PRODUCTION
from scoreline_training.export import (
    Exported,
    StepExport,
    export_steps,
    export_version,
    verify_export,
)
from scoreline_training.export.formats import FORMATS, NotExportable
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
    try:
        from scoreline_training.jobs.pima import training
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("scoreline_"):
            raise
        package = error.name.partition(".")[0].replace("_", "-")
        raise MissingDependency("scoreline train pima", package, "training") from error

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
        then = f"; {name}@{release.alias} now names it"
    say(f"published {name}@{version} to {published.path}{then}")
    if release is not None:
        # The workers were not waited for: the next answer may be the earlier version's.
        option = "" if release.alias == PRODUCTION else f" --alias {release.alias}"
        news = "" if published.announced else "Redis is not reached; "
        say(
            f"{news}workers follow within seconds; `scoreline promote {name} {version}{option}` waits for them"
        )
    if published.travels:
        say(f"from the project: {', '.join(published.travels)}")
    for warning in published.warnings:
        say(f"warning {warning.code}: {warning.message}", err=True)
    say(f"training report: {published.report}")


@command()
@click.argument("model", required=False)
@click.option("--to", "format_name", type=click.Choice([*FORMATS]), help="What to write.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file; else MODEL-VERSION with the format's suffix, here.",
)
@click.option("--steps", is_flag=True, help="Say, step by step, what can go into which format.")
@click.option(
    "--verify",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file that was exported: check its signature, and prove it once more.",
)
@json_option("Print one JSON object, with --steps one array.")
@click.pass_context
def export(
    ctx: click.Context,
    model: str | None,
    format_name: str | None,
    output: Path | None,
    steps: bool,
    verify: Path | None,
    as_json: bool,
) -> None:
    """Write a version of MODEL as a file that other programs score with, proven to answer the same.

    MODEL is a name (what production names), name@alias or name@version. The version and the file
    score its golden rows and 10,000 others; beside the file are FILE.proof.json, which says how far
    they differ, and FILE.sig, its signature. Exit code 1: a step cannot be exported, and is named
    with its function, file and line; or the file would answer otherwise. Then nothing is written.

    \b
    Examples:
      scoreline export pima --to json
      scoreline export pima@3 --to onnx -o pima.onnx
      scoreline export pima --steps
      scoreline export --verify pima-3.json
    """
    store = Store.from_environment()
    if verify is not None:
        if model or format_name or output or steps:
            raise click.UsageError("--verify takes a file and nothing else but --json")
        _print_export(verify_export(store, verify), "proved again", as_json)
        return
    if model is None or steps == (format_name is not None):
        raise click.UsageError("give MODEL and --to FORMAT, or MODEL and --steps, or --verify FILE")
    name, version = resolve(store, model)
    if steps:
        exports = export_steps(store, name, version)
        if as_json:
            print_json([asdict(step) for step in exports])
            return
        # A step of the pipeline may be several of the plan, and is refused if one of them is.
        by_way: dict[str, list[StepExport]] = {}
        for step in exports:
            by_way.setdefault(step.way, []).append(step)
        rows = []
        for number, (way, group) in enumerate(by_way.items(), 1):
            cells = ("no" if any(step.refused[to] for step in group) else "yes" for to in FORMATS)
            rows.append((str(number), way, *cells))
        print_table(f"{name}@{version}", ("", "step", *FORMATS), rows)
        refusals = dict[str, None]()
        for step in exports:
            for reason in filter(None, step.refused.values()):
                formats = ", ".join(to for to, why in step.refused.items() if why == reason)
                refusals[f"no {formats}: {step.way}: {reason}"] = None
        for refusal in refusals:
            say(refusal)
        return
    try:
        exported = export_version(store, name, version, format_name or "", output)
    except NotExportable as error:
        if not as_json:
            raise
        listed = [asdict(step) for step in error.steps]
        print_json({"model": name, "version": version, "exported": False, "steps": listed})
        ctx.exit(PARTLY)
    _print_export(exported, "wrote", as_json)


def _print_export(exported: Exported, verb: str, as_json: bool) -> None:
    proof, path = exported.proof, exported.path
    measured = proof.measured
    if as_json:
        print_json({"path": str(path), "exported": True, "proof": asdict(proof)})
        return
    say(f"{verb}: {path} ({proof.size:,} bytes) of {proof.model}@{proof.version}")
    say(
        f"{measured.rows:,} rows, {measured.golden_rows} golden ones among them: largest error "
        f"{measured.largest_error:.2g}, {measured.label_flips} other labels"
        + (f"; {measured.refused:,} more are refused by the pipeline" if measured.refused else "")
    )
