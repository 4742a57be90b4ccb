"""`make audit`: known vulnerabilities of what is installed, by pip-audit.

pip-audit asks the index of advisories about each version. A mirror of the package index often has the page of a project
and none of its versions; the page tells of the newest version, and so of what is pinned to it. What is known of neither
way is named, and is no good end.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

PAGES_AT_ONCE = 8
PAGE_S = 30.0


def main() -> int:
    """Print what is known; 0 if that is of every package that it has no vulnerability."""
    parser = argparse.ArgumentParser(prog="python -m tests.audit", description=__doc__)
    parser.add_argument("pip_audit", help="the command pip-audit")
    parser.add_argument("packages", type=Path, help="the folder site-packages")
    parser.add_argument("--pages", help="where the index has NAME/json, the page of a project")
    chosen, others = parser.parse_known_args()
    found = subprocess.run(
        [
            *(chosen.pip_audit, "--path", str(chosen.packages), "--skip-editable"),
            *("--progress-spinner", "off", "--format", "json"),
            *others,
        ],
        stdout=subprocess.PIPE,
        check=False,
        text=True,
    )
    if not found.stdout:
        return found.returncode or 1
    audited: dict[str, list[str]] = {}
    skipped: list[str] = []
    for each in json.loads(found.stdout)["dependencies"]:
        if "skip_reason" not in each:
            audited[each["name"]] = [one["id"] for one in each["vulns"]]
        elif "not found" in each["skip_reason"]:
            skipped.append(each["name"])
    installed = {
        re.sub("[-_.]+", "-", one.metadata["Name"]).lower(): one.version
        for one in distributions(path=[str(chosen.packages)])
    }
    newest = _by_pages(chosen.pages, {name: installed[name] for name in skipped})
    unknown = sorted(f"{name} {installed[name]}" for name in {*skipped} - {*newest})
    vulnerable = {name: ids for name, ids in (audited | newest).items() if ids}
    told = [
        f"{name} {installed[name]}: {', '.join(ids)}" for name, ids in sorted(vulnerable.items())
    ]
    told += [
        f"{len(audited)} packages audited by their versions, {len(newest)} as the newest of their projects",
        f"{len(vulnerable)} vulnerable; nothing is known of {', '.join(unknown) or 'none'}",
    ]
    sys.stdout.write("\n".join(told) + "\n")
    return 1 if vulnerable or unknown else 0


def _by_pages(pages: str | None, versions: Mapping[str, str]) -> dict[str, list[str]]:
    """The advisories on packages whose version is the newest, by the page of each project."""
    if pages is None:
        return {}
    with ThreadPoolExecutor(PAGES_AT_ONCE) as pool:
        told = pool.map(lambda name: _page(f"{pages}/{name}/json"), versions)
        return {
            name: [one["id"] for one in page["vulnerabilities"] if not one.get("withdrawn")]
            for name, page in zip(versions, told, strict=True)
            if page and page["info"]["version"] == versions[name] and "vulnerabilities" in page
        }


def _page(url: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(url, timeout=PAGE_S) as answer:
            page: dict[str, Any] = json.load(answer)
            return page
    except (urllib.error.URLError, TimeoutError, ValueError):
        return None


if __name__ == "__main__":
    sys.exit(main())
