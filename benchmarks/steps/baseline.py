"""What costs are compared with, as machines and their load differ."""

from __future__ import annotations

import time
from typing import Any


def baseline_us() -> float:
    """A fixed piece of plain Python, in microseconds: make a tuple, put it in a dict, find it there."""
    found: dict[int, Any] = {}
    started = time.thread_time()
    for n in range(5_000):
        found[n & 1023] = (n, "text", None)
        found.get(n)
    return (time.thread_time() - started) / 5_000 * 1e6
