"""Run a few blocking jobs at once, and stop them all when one fails or the user presses Ctrl-C.

A job may itself run a round of jobs.  What goes wrong in that round stops that round: the job may begin another one.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Sequence

PATIENCE_SECONDS = 3.0
GLANCE_SECONDS = 0.05
Job = Callable[[threading.Event], None]


class Stopped(Exception):
    """Another job of the same operation failed, and its error is the one to show."""


def run_all(jobs: Sequence[Job], stop: threading.Event | None = None, limit: int = 4) -> None:
    """Run every job, `limit` at a time.  The first error sets the event that each job gets, and is raised.

    stop: the caller's event.  Jobs are told to stop when it is set, too; it is never set here.  Raises Stopped if it
    was set and nothing else went wrong.
    The threads are daemons, so that Ctrl-C ends the process even while one of them waits for a silent server.
    """
    ours = _Stop(stop)
    if len(jobs) == 1:
        jobs[0](ours)
        return
    todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        todo.put(job)
    outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    workers = [
        threading.Thread(target=_work, args=(todo, outcomes, ours), daemon=True) for _ in range(min(limit, len(jobs)))
    ]
    for worker in workers:
        worker.start()
    try:
        _collect(len(jobs), outcomes)
    except BaseException as error:
        ours.set()
        if isinstance(error, Exception):
            _wait_for(workers)
        raise


class _Stop(threading.Event):
    """The event of one round of jobs, which is also set as long as its caller's is."""

    def __init__(self, callers: threading.Event | None) -> None:
        super().__init__()
        self._callers = callers

    def is_set(self) -> bool:
        return super().is_set() or (self._callers is not None and self._callers.is_set())

    def wait(self, timeout: float | None = None) -> bool:
        until = math.inf if timeout is None else time.monotonic() + timeout
        # The caller's event wakes nobody who waits for this one: look at it now and then.
        while not self.is_set() and (left := until - time.monotonic()) > 0:
            super().wait(min(left, GLANCE_SECONDS))
        return self.is_set()


def _collect(count: int, outcomes: queue.SimpleQueue[BaseException | None]) -> None:
    """Wait for that many outcomes.  Raise the first error; Stopped only where there is no other."""
    stopped: Stopped | None = None
    for _ in range(count):
        error = outcomes.get()
        if isinstance(error, Stopped):
            stopped = stopped or error
        elif error is not None:
            raise error
    if stopped is not None:
        raise stopped


def _wait_for(workers: Sequence[threading.Thread]) -> None:
    """Let the others stop, so that nothing moves any more when the error is raised; not for ever, though."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))


def _work(
    todo: queue.SimpleQueue[Job], outcomes: queue.SimpleQueue[BaseException | None], stop: threading.Event
) -> None:
    """Give every job an outcome, even one that is never started: the waiter counts outcomes."""
    while True:
        try:
            job = todo.get_nowait()
        except queue.Empty:
            return
        error = _run(job, stop)
        outcomes.put(error)
        if error is not None:
            stop.set()  # after the error is queued, so that it precedes what the others raise because of it


def _run(job: Job, stop: threading.Event) -> BaseException | None:
    """Return the job's error, if it has one, for the caller's thread to raise."""
    if stop.is_set():
        return Stopped("It was not begun any more.")
    try:
        job(stop)
    except BaseException as error:  # noqa: BLE001 - raised by the caller's thread
        return error
    return None
