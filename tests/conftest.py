"""What holds for all tests."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import settings

Work = Callable[[], object]

# A busy machine must not fail a test for being slow.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


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
