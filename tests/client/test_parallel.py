"""A few blocking jobs at once: all done, or the first error and a stop for the rest."""

from __future__ import annotations

import threading
import time

import pytest

from hub.parallel import run_all


def test_every_job_runs_and_no_more_than_the_limit_at_once():
    running, most, done = [0], [0], []
    lock = threading.Lock()

    def job(number: int):
        def run(stop: threading.Event) -> None:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            time.sleep(0.01)
            with lock:
                running[0] -= 1
                done.append(number)

        return run

    run_all([job(number) for number in range(12)], limit=3)
    assert sorted(done) == list(range(12))
    assert 1 < most[0] <= 3


def test_the_first_error_is_raised_and_the_others_are_told_to_stop():
    stopped = threading.Event()

    def fail(_: threading.Event) -> None:
        raise ValueError("the first")

    def wait(stop: threading.Event) -> None:
        assert stop.wait(10)
        stopped.set()

    with pytest.raises(ValueError, match="the first"):
        run_all([wait, fail, wait])
    assert stopped.is_set(), "nothing runs on after the error"


def test_jobs_that_had_not_begun_never_begin():
    begun = []

    def fail(_: threading.Event) -> None:
        raise ValueError

    def note(_: threading.Event) -> None:
        begun.append(1)

    with pytest.raises(ValueError):
        run_all([fail, fail, *[note] * 50], limit=2)
    assert len(begun) < 50


def test_nothing_to_do_is_done():
    stop, before = threading.Event(), set(threading.enumerate())
    run_all([], stop)
    assert set(threading.enumerate()) <= before
    assert not stop.is_set(), "having nothing to do is no error"
