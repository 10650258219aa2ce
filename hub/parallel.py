"""Run a few blocking jobs at once, and stop them all when one fails or the user presses Ctrl-C."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence

PATIENCE_SECONDS = 3.0
Job = Callable[[threading.Event], None]


def run_all(jobs: Sequence[Job], stop: threading.Event | None = None, limit: int = 4) -> None:
    """Run every job, `limit` at a time.  The first error sets the event that each job gets, and is raised.

    The threads are daemons, so that Ctrl-C ends the process even while one of them waits for a silent server.
    """
    stop = stop or threading.Event()
    if len(jobs) == 1:
        jobs[0](stop)
        return
    todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        todo.put(job)
    outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    workers = [
        threading.Thread(target=_work, args=(todo, outcomes, stop), daemon=True) for _ in range(min(limit, len(jobs)))
    ]
    for worker in workers:
        worker.start()
    try:
        for _ in jobs:
            error = outcomes.get()
            if error is not None:
                raise error
    except BaseException as error:
        stop.set()
        if isinstance(error, Exception):
            _wait_for(workers)
        raise


def _wait_for(workers: Sequence[threading.Thread]) -> None:
    """Let the others stop, so that nothing moves any more when the error is raised; not for ever, though."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))


def _work(
    todo: queue.SimpleQueue[Job], outcomes: queue.SimpleQueue[BaseException | None], stop: threading.Event
) -> None:
    while not stop.is_set():
        try:
            job = todo.get_nowait()
        except queue.Empty:
            return
        try:
            job(stop)
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
            outcomes.put(error)
            return
        outcomes.put(None)
