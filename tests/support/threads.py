"""Many that do the same thing in the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """Call work(0), work(1), …, each in a thread of its own and none before all are ready; return what each returned.

    An error of any of them is raised, when all are done.
    """
    start = threading.Barrier(count)

    def call(number: int) -> T:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))
