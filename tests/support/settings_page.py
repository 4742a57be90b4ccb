"""Makes docs/settings.md from the settings in the code: `python -m tests.support.settings_page > docs/settings.md`."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_type_hints

from scoreline_client.settings import (
    PREFIX,
    ArtifactSettings,
    ClientSettings,
    EnvironmentSettings,
)
from scoreline_gateway.settings import GatewaySettings
from scoreline_tasks.settings import WorkerSettings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
KINDS = (
    (ClientSettings, "Everywhere: applications, the shell, workers, gateways"),
    (ArtifactSettings, "Where artifacts are read or written: training and workers"),
    (WorkerSettings, "Workers"),
    (GatewaySettings, "Gateways"),
)
FOLDERS = {"keys": "`~/.config/scoreline/keys`", "cache": "`~/.cache/scoreline`"}
"""Defaults that depend on the user, as they mostly are."""
HEAD = """\
# Settings

All settings are environment variables. An empty variable counts as one that is not set, but for
`SCORELINE_REDIS_URL`. A value that cannot be used is refused at the start, by its name; a variable that looks like a
misspelt setting is warned of. This page is made from the code (`make settings`).
"""


def sentences(kind: type[EnvironmentSettings]) -> dict[str, str]:
    """What the class says below each of its own fields."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for one, after in zip(tree.body, tree.body[1:], strict=False):
        is_field = isinstance(one, ast.AnnAssign) and "ClassVar" not in ast.unparse(one.annotation)
        if is_field and isinstance(after, ast.Expr):
            assert isinstance(one.target, ast.Name)
            assert isinstance(after.value, ast.Constant)
            found[one.target.id] = re.sub(r"\s+", " ", str(after.value.value))
    return found


def page() -> str:
    """The page as it should be."""
    parts = [HEAD]
    for kind, title in KINDS:
        said = sentences(kind)
        hints = get_type_hints(kind)
        parts.append(f"\n## {title}\n\n| variable | default | what |\n|---|---|---|\n")
        for each in fields(kind):
            if each.name not in said:
                continue  # another class's
            default = FOLDERS.get(each.name, "–")
            if each.default is not MISSING and each.default != "":
                default = f"`{each.default}`"
            limits = []
            if hints[each.name] in (int, float):
                number = "whole number" if hints[each.name] is int else "number"
                limits.append(f"{number} from {each.metadata.get('minimum', 0)}")
            if choices := each.metadata.get("choices"):
                limits.append(f"one of {', '.join(choices)}")
            what = said[each.name].replace("|", "\\|")
            more = f" ({'; '.join(limits)})" if limits else ""
            parts.append(f"| `{PREFIX}{each.name.upper()}` | {default} | {what}{more} |\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
