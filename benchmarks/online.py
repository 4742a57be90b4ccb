"""Single records, 64 and 1 in flight: Scoreline's AsyncClient against one Celery task per record."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from benchmarks.measures import Rate, Spread
from benchmarks.stage import MODEL, PROCESSES, QUEUE, Stage
from scoreline_client import AsyncClient
from scoreline_tasks.children import running
from scoreline_tasks.sample_rows import records

REPEATS = 7
IN_FLIGHT = (64, 1)
WARM_UP_S = 0.7
REPEAT_S = 3.0
