"""What a process does with memory that it does not need any more."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

BATCHES = 50
PAGES_A_BATCH = 1000
"""Of the four megabytes that a batch takes."""
_FAULTS = """
import resource
import numpy as np
from scoreline_tasks.system.memory import keep_freed

def batch():
    parts = [np.ones(62_500) for _ in range(8)]
    return np.concatenate(parts).sum()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

keep_freed()
batch()
before = faults()
for _ in range({batches}):
    batch()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's malloc that is told")
def test_a_batch_takes_the_memory_of_the_one_before() -> None:
    code = _FAULTS.format(batches=BATCHES)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < BATCHES * PAGES_A_BATCH / 10
