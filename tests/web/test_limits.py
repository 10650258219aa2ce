"""Shares of a common bucket: never more than the limit in all, and seldom a query."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from hub.errors import TooManyRequests
from hub.web.http.limits import SHARE_SECONDS, Limits


class Bucket:
    """A token bucket that several workers share; what the registry keeps in its database."""

    def __init__(self) -> None:
        self.left: dict[str, float] = {}
        self.calls: Counter[str] = Counter()
        self.lock = threading.Lock()

    def take(self, key: str, *, per_minute: int, burst: int, cost: float = 1.0) -> None:
        with self.lock:
            self.calls[key] += 1
            left = self.left.setdefault(key, burst)
            if left < cost:
                raise TooManyRequests("slow down", retry_after_seconds=7)
            self.left[key] = left - cost


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run_now(work: Callable[[], None]) -> None:
    """What Limits does later, done at once: as if the background were always quick."""
    work()


def spend(limits: Limits, key: str, per_minute: int, tries: int, *, on_credit: bool = False) -> int:
    granted = 0
    for _ in range(tries):
        try:
            limits.take(key, per_minute, on_credit=on_credit)
            granted += 1
        except TooManyRequests:
            pass
    return granted


@pytest.mark.parametrize("per_minute", [1, 3, 99, 100, 250, 1000])
def test_workers_together_grant_exactly_the_limit(per_minute: int) -> None:
    bucket, clock = Bucket(), Clock()
    workers = [Limits(bucket.take, clock, run_now) for _ in range(4)]
    granted = sum(spend(worker, "k", per_minute, per_minute) for worker in workers)
    assert granted == per_minute


def test_a_share_saves_queries() -> None:
    bucket, clock = Bucket(), Clock()
    limits = Limits(bucket.take, clock, run_now)
    for _ in range(10):
        assert spend(limits, "k", 10_000, 100) == 100
        clock.now += 1.0
    assert bucket.calls["k"] <= 11


def test_a_busy_caller_takes_larger_shares_up_to_a_twentieth() -> None:
    bucket, clock = Bucket(), Clock()
    assert spend(Limits(bucket.take, clock, run_now), "k", 10_000, 9_000) == 9_000
    # 100, 200, 400, then 500 each.
    assert 18 <= bucket.calls["k"] <= 22


def test_what_a_busy_caller_loses_is_what_a_second_took() -> None:
    bucket, clock = Bucket(), Clock()
    limits = Limits(bucket.take, clock, run_now)
    spend(limits, "k", 10_000, 2_000)
    assert 10_000 - bucket.left["k"] <= 2_000 + 500 + 125
    clock.now += SHARE_SECONDS + 0.01
    limits.take("k", 10_000)
    assert 10_000 - bucket.left["k"] <= 2_000 + 500 + 125 + 100


def test_the_next_share_is_there_before_this_one_is_spent() -> None:
    bucket, clock = Bucket(), Clock()
    limits = Limits(bucket.take, clock, run_now)
    limits.take("k", 10_000)
    assert all(limits.take_held("k", 10_000) for _ in range(5_000))


def test_threads_that_find_a_share_spent_ask_once() -> None:
    bucket, clock = Bucket(), Clock()
    asking, answered = threading.Barrier(2), threading.Event()

    def slow(key: str, **taken: Any) -> None:
        bucket.take(key, **taken)
        asking.wait(10)
        answered.wait(10)

    limits = Limits(slow, clock, lambda _work: None)
    threads = [threading.Thread(target=limits.take, args=("k", 10_000)) for _ in range(16)]
    for thread in threads:
        thread.start()
    asking.wait(10)
    answered.set()
    for thread in threads:
        thread.join(10)
    assert bucket.calls["k"] == 1
    assert bucket.left["k"] == 9_900


def test_without_the_background_the_limit_is_the_same() -> None:
    """A database that doesn't answer in the background is asked in the foreground."""
    bucket, clock = Bucket(), Clock()
    assert spend(Limits(bucket.take, clock, lambda _work: None), "k", 1_000, 2_000) == 1_000


def test_a_refusal_is_remembered_only_for_a_moment() -> None:
    bucket, clock = Bucket(), Clock()
    limits = Limits(bucket.take, clock, run_now)
    assert spend(limits, "k", 5, 50) == 5
    calls = bucket.calls["k"]
    with pytest.raises(TooManyRequests) as caught:
        limits.take("k", 5)
    assert caught.value.details["retry_after_seconds"] == 7
    assert bucket.calls["k"] == calls
    clock.now += 1.01
    bucket.left["k"] = 2
    assert spend(limits, "k", 5, 5) == 2


def test_who_keeps_asking_after_a_refusal_gets_nothing_on_credit() -> None:
    """The bucket is empty and stays so: each worker gives its first share on credit, once, and no more."""
    bucket, clock = Bucket(), Clock()
    workers = [Limits(bucket.take, clock, run_now) for _ in range(4)]
    granted = 0
    for _ in range(60):
        granted += sum(spend(worker, "k", 300, 30, on_credit=True) for worker in workers)
        clock.now += 1.01
    assert granted <= 300 + 4 * 3


def test_callers_do_not_share_a_bucket() -> None:
    limits = Limits(Bucket().take, Clock(), run_now)
    assert spend(limits, "a", 2, 5) == 2
    assert spend(limits, "b", 2, 5) == 2


def test_an_unspent_share_ends_after_a_while() -> None:
    bucket, clock = Bucket(), Clock()
    limits = Limits(bucket.take, clock, run_now)
    limits.take("k", 1000)
    clock.now += SHARE_SECONDS + 0.01
    limits.take("k", 1000)
    assert bucket.left["k"] == 980


def test_a_caller_far_below_the_limit_costs_no_query() -> None:
    bucket, clock = Bucket(), Clock()
    limits = Limits(bucket.take, clock, run_now)
    for _ in range(70):
        limits.take("k", 10_000, on_credit=True)
    assert bucket.calls["k"] == 0


@pytest.mark.parametrize("per_minute", [1, 50, 199])
def test_a_small_limit_gives_no_credit(per_minute: int) -> None:
    bucket, clock = Bucket(), Clock()
    workers = [Limits(bucket.take, clock, run_now) for _ in range(4)]
    granted = sum(spend(worker, "k", per_minute, per_minute, on_credit=True) for worker in workers)
    assert granted == per_minute


def test_credit_is_paid_back_and_exceeds_the_limit_by_a_share_per_worker_at_most() -> None:
    bucket, clock = Bucket(), Clock()
    workers = [Limits(bucket.take, clock, run_now) for _ in range(4)]
    granted = sum(spend(worker, "k", 1000, 1000, on_credit=True) for worker in workers)
    assert 1000 <= granted <= 1000 + 4 * 10
