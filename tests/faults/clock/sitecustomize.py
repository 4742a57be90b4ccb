"""Sets a Python process's clock forward by CLOCK_OFFSET_S seconds; for a process started with this folder on PYTHONPATH."""

import os
import time

_offset_s = float(os.environ["CLOCK_OFFSET_S"])
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + _offset_s
time.time_ns = lambda: _time_ns() + int(_offset_s * 1e9)
