"""Shares of a common bucket: never more than the limit in all, and seldom a query."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from hub.errors import TooManyRequests
from hub.web.limits import SHARE_SECONDS, Limits


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
    workers = [Limits(bucket.take, clock) for _ in range(4)]
    granted = sum(spend(worker, "k", per_minute, per_minute) for worker in workers)
    assert granted == per_minute


def test_a_share_saves_queries() -> None:
    bucket, clock = Bucket(), Clock()
    assert spend(Limits(bucket.take, clock), "k", 10_000, 1_000) == 1_000
    assert bucket.calls["k"] == 10


def test_a_refusal_is_remembered_only_for_a_moment() -> None:
    bucket, clock = Bucket(), Clock()
    limits = Limits(bucket.take, clock)
    assert spend(limits, "k", 5, 50) == 5
    calls = bucket.calls["k"]
    with pytest.raises(TooManyRequests) as caught:
        limits.take("k", 5)
    assert caught.value.details["retry_after_seconds"] == 7
    assert bucket.calls["k"] == calls
    clock.now += 1.01
    bucket.left["k"] = 2
    assert spend(limits, "k", 5, 5) == 2


def test_callers_do_not_share_a_bucket() -> None:
    limits = Limits(Bucket().take, Clock())
    assert spend(limits, "a", 2, 5) == 2
    assert spend(limits, "b", 2, 5) == 2


def test_an_unspent_share_ends_after_a_while() -> None:
    bucket, clock = Bucket(), Clock()
    limits = Limits(bucket.take, clock)
    limits.take("k", 1000)
    clock.now += SHARE_SECONDS + 0.01
    limits.take("k", 1000)
    assert bucket.left["k"] == 980


def test_a_caller_far_below_the_limit_costs_no_query() -> None:
    bucket, clock = Bucket(), Clock()
    limits = Limits(bucket.take, clock)
    for _ in range(100):
        limits.take("k", 10_000, on_credit=True)
    assert bucket.calls["k"] == 0


@pytest.mark.parametrize("per_minute", [1, 50, 199])
def test_a_small_limit_gives_no_credit(per_minute: int) -> None:
    bucket, clock = Bucket(), Clock()
    workers = [Limits(bucket.take, clock) for _ in range(4)]
    granted = sum(spend(worker, "k", per_minute, per_minute, on_credit=True) for worker in workers)
    assert granted == per_minute


def test_credit_is_paid_back_and_exceeds_the_limit_by_a_share_per_worker_at_most() -> None:
    bucket, clock = Bucket(), Clock()
    workers = [Limits(bucket.take, clock) for _ in range(4)]
    granted = sum(spend(worker, "k", 1000, 1000, on_credit=True) for worker in workers)
    assert 1000 <= granted <= 1000 + 4 * 10
