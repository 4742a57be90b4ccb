"""A step that hands its frame on, unless a row of it springs a trap: what pipelines do at their worst."""

import ctypes
import os
import time

EXIT, SEGFAULT, NATIVE_LOOP, PYTHON_LOOP, MEMORY = 1, 2, 3, 4, 5
SLEEP = 100
"""From here on a trap sleeps for what is over it, in seconds."""
PAUSE_S = 0.004
"""What a call takes: a process can be met in the middle of a batch."""


def spring(frame):
    """Return the frame as it is, or never."""
    traps = set(frame["trap"])
    if EXIT in traps:
        os._exit(1)
    if SEGFAULT in traps:
        ctypes.string_at(0)
    if NATIVE_LOOP in traps:
        ctypes.PyDLL(None).sleep(3600)  # with Python's lock: no signal handler of Python runs
    while PYTHON_LOOP in traps:
        pass
    if MEMORY in traps:
        return [bytearray(1 << 26) for _ in range(128)] and frame
    time.sleep(max([PAUSE_S, *(trap - SLEEP for trap in traps)]))
    return frame
