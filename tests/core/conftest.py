"""Fixtures of the core's tests."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

Work = Callable[[], object]


def _shortest(work: Work, rounds: int = 5) -> float:
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


@pytest.fixture
def benchmark_ratio() -> Callable[[Work, Work], float]:
    """Return a function that says how many times as long the first work takes as the second, measured side by side."""
    return lambda first, second: _shortest(first) / _shortest(second)
