"""Two writers that cross: each begins before the other ends, and the catalog shows what both have left.

One is stopped at the worst moment, in the middle of its transaction; the other may wait for it, or not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from hub.errors import QuotaExceeded
from hub.registry.rights.access import ANONYMOUS
from hub.registry.values import Query
from tests.registry.world import World, named
from tests.support.threads import at_once

QA = named("task/qa")


class Crossing:
    """Runs `first` up to the function at `place`, then `second` for half a second, then both to their ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
        self._stopped, self._go_on, self._first = threading.Event(), threading.Event(), 0
        self._monkeypatch = monkeypatch
        self._place = place

    @contextmanager
    def _stop_first(self) -> Iterator[None]:
        module, _, name = self._place.rpartition(".")
        original = getattr(__import__(module, fromlist=[name]), name)

        def stop(*arguments: Any, **options: Any) -> Any:
            if threading.get_ident() == self._first and not self._stopped.is_set():
                self._stopped.set()
                assert self._go_on.wait(60)
            return original(*arguments, **options)

        with self._monkeypatch.context() as patch:
            patch.setattr(self._place, stop)
            yield

    def run(self, first: Callable[[], Any], second: Callable[[], Any]) -> None:
        def begin() -> None:
            self._first = threading.get_ident()
            first()

        with self._stop_first(), ThreadPoolExecutor(2) as pool:
            one = pool.submit(begin)
            try:
                assert self._stopped.wait(60), f"{self._place} was not come by"
                two = pool.submit(second)
                with suppress(TimeoutError):
                    two.exception(timeout=0.5)
            finally:
                self._go_on.set()
            one.result(60)
            two.result(60)


def names_shown(world: World) -> list[str]:
    return [str(item.name) for item in world.registry.adapters.search(ANONYMOUS, Query()).items]


def test_a_first_push_while_its_namespace_becomes_private_shows_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.push("task/other")
    folder = world.adapter(seed=1)
    Crossing(monkeypatch, "hub.registry.accounts.quotas.take").run(
        lambda: world.push("task/qa", folder),
        lambda: world.registry.namespaces.update(world.admin, "task", private=True),
    )
    assert names_shown(world) == []
    assert world.registry.upkeep.check().ok


def test_an_adapter_that_becomes_private_while_its_namespace_becomes_public_stays_hidden(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.namespace("task", private=True)
    world.push("task/qa")
    Crossing(monkeypatch, "hub.registry.search.facets._apply").run(
        lambda: world.registry.namespaces.update(world.admin, "task", private=False),
        lambda: world.registry.adapters.update(world.admin, QA, private=True),
    )
    assert names_shown(world) == []
    assert world.registry.upkeep.check().ok


def test_a_first_push_while_its_base_gets_another_name_is_found_by_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.push("task/other")
    base = world.registry.bases.list(ANONYMOUS)[0].id
    folder = world.adapter(seed=1)
    Crossing(monkeypatch, "hub.registry.accounts.quotas.take").run(
        lambda: world.push("task/qa", folder),
        lambda: world.registry.bases.update(world.admin, base, new_id="org/renamed"),
    )
    assert world.registry.adapters.search(ANONYMOUS, Query(having={"base": ("org/renamed",)})).total == 2
    assert world.registry.upkeep.check().ok


def test_a_quota_of_adapters_holds_for_many_that_come_at_once(world: World) -> None:
    world.namespace("task")
    world.registry.namespaces.set_quota(world.admin, "task", max_bytes=None, max_adapters=3)

    def create(number: int) -> bool:
        try:
            world.registry.adapters.create(world.admin, named(f"task/a{number}"))
        except QuotaExceeded:
            return False
        return True

    assert sum(at_once(12, create)) == 3
