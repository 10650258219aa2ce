"""A few blocking jobs at once: all done, or the first error and a stop for the rest."""

from __future__ import annotations

import threading
import time

import pytest

from hub.client.parallel import Stopped, run_all


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


# --- rounds inside of rounds


@pytest.mark.timeout(30)
def test_a_round_that_failed_leaves_the_callers_event_alone_and_the_next_one_runs_whole():
    stop, done = threading.Event(), []

    def fail(_: threading.Event) -> None:
        raise ValueError("the first round")

    def wait(ours: threading.Event) -> None:
        assert ours.wait(10)

    def note(_: threading.Event) -> None:
        done.append(1)

    with pytest.raises(ValueError, match="the first round"):
        run_all([wait, fail], stop)
    assert not stop.is_set()
    run_all([note] * 6, stop, limit=2)
    assert len(done) == 6


@pytest.mark.timeout(30)
def test_a_round_that_recovers_stops_none_beside_it():
    recovered = threading.Event()

    def fail(_: threading.Event) -> None:
        raise ValueError

    def recover(stop: threading.Event) -> None:
        with pytest.raises(ValueError):
            run_all([fail, fail], stop)
        recovered.set()

    def look(stop: threading.Event) -> None:
        assert recovered.wait(10)
        assert not stop.is_set()

    run_all([recover, look])


@pytest.mark.timeout(30)
def test_jobs_hear_at_once_that_the_caller_stops():
    stop, heard, both = threading.Event(), [], threading.Barrier(3)

    def wait(ours: threading.Event) -> None:
        both.wait(10)
        heard.append(ours.wait() and ours.is_set())

    def halt() -> None:
        both.wait(10)
        stop.set()

    threading.Thread(target=halt).start()
    run_all([wait, wait], stop)
    assert heard == [True, True]


@pytest.mark.timeout(30)
def test_a_round_for_a_caller_that_stops_ends_without_beginning_a_job():
    stop, begun = threading.Event(), []

    def note(_: threading.Event) -> None:
        begun.append(1)

    stop.set()
    with pytest.raises(Stopped):
        run_all([note] * 5, stop, limit=2)
    assert begun == []


@pytest.mark.timeout(30)
def test_what_went_wrong_is_raised_rather_than_that_others_were_stopped():
    stop, first = threading.Event(), []

    def give_up(_: threading.Event) -> None:
        first.append(threading.current_thread())
        both.wait(10)
        stop.set()
        raise Stopped("the first to end")

    def fail(_: threading.Event) -> None:
        both.wait(10)
        first[0].join(10)
        raise ValueError("what went wrong")

    both = threading.Barrier(2)
    with pytest.raises(ValueError, match="what went wrong"):
        run_all([give_up, fail], stop)
