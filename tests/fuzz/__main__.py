"""`python -m tests.fuzz SECONDS [NAME]`: looks for bytes that decoders neither read nor refuse, with atheris.

Ends with 0 if none were found, no input took longer than ten seconds, and the process never had 300 MiB more than at
its beginning. What was found is in `.fuzz/NAME`, and goes into the seeds of its target.
"""

from __future__ import annotations

import logging
import resource
import subprocess
import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found]  # make fuzz installs it in an environment of its own

with atheris.instrument_imports(
    include=["scoreline_client", "scoreline_artifacts", "scoreline_tasks", "scoreline_gateway"]
):
    from tests.fuzz.targets import TARGETS

logging.getLogger("scoreline_tasks").setLevel(logging.CRITICAL)
seconds, *names = sys.argv[1:]
if not names:  # each in a process of its own
    runs = [
        subprocess.run([sys.executable, "-m", "tests.fuzz", seconds, name]).returncode
        for name in TARGETS
    ]
    sys.exit(any(runs))
(name,) = names
target = TARGETS[name]
for seed in target.seeds:
    target(seed)
folder = Path(".fuzz") / name.replace(" ", "-")
folder.mkdir(parents=True, exist_ok=True)
for number, seed in enumerate(target.seeds):
    (folder / f"seed-{number}").write_bytes(seed)
used_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
atheris.Setup(
    [
        sys.argv[0],
        f"-max_total_time={seconds}",
        "-timeout=10",
        f"-rss_limit_mb={used_mb + 300}",
        "-max_len=65536",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
        str(folder),
    ],
    target,
)
atheris.Fuzz()
