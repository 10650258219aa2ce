"""The adapters that are in memory: a fixed number of slots, and the least recently used one goes first."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any

from hub.errors import Unavailable
from hub.runtime.loaded import Loaded

if TYPE_CHECKING:
    from hub.runtime.compiled import SlotBank

log = logging.getLogger("hub.runtime")


class Slots:
    """At most `count` adapters.  Those in use (active, or in a running generation) are pinned and never go."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.lock = RLock()
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()  # the least recently used one first
        self._pins: dict[str, int] = {}
        self.bank: SlotBank | None = None  # of compiled code

    def __contains__(self, ref: str) -> bool:
        return ref in self._loaded

    def __iter__(self) -> Iterator[Loaded]:
        return iter(tuple(self._loaded.values()))

    def __len__(self) -> int:
        return len(self._loaded)

    def get(self, ref: str) -> Loaded | None:
        """Return the adapter, which is now the most recently used one, or None."""
        with self.lock:
            found = self._loaded.get(ref)
            if found is not None:
                self._loaded.move_to_end(ref)
            return found

    def put(self, adapter: Loaded) -> list[Loaded]:
        """Take an adapter in; return those that had to go.  Raises Unavailable if all the others are in use."""
        with self.lock:
            if self.bank is not None:
                self.bank.check(adapter)
            gone = [self.drop(ref) for ref in self._to_evict(1)]
            if self.bank is not None:
                self.bank.put(adapter)
            self._loaded[adapter.ref] = adapter
        for old in gone:
            log.info("%s left its slot for %s: least recently used of %d", old.ref, adapter.ref, self.count)
        return gone

    def check_room(self) -> None:
        """Raise Unavailable if no adapter could be taken in now: asked before anything is read."""
        with self.lock:
            self._to_evict(1)

    def replace(self, adapter: Loaded) -> None:
        """Let `adapter` stand for the one of the same ref, in its place."""
        with self.lock:
            self._loaded[adapter.ref] = adapter

    def drop(self, ref: str) -> Loaded:
        with self.lock:
            if self.bank is not None:
                self.bank.drop(ref)
            return self._loaded.pop(ref)

    def is_pinned(self, ref: str) -> bool:
        return self._pins.get(ref, 0) > 0

    @contextmanager
    def pinned(self, refs: Iterable[str]) -> Iterator[None]:
        """Keep these adapters while the block runs."""
        held = tuple(refs)
        self.pin(held)
        try:
            yield
        finally:
            self.unpin(held)

    def pin(self, refs: Iterable[str]) -> None:
        with self.lock:
            for ref in refs:
                self._pins[ref] = self._pins.get(ref, 0) + 1

    def unpin(self, refs: Iterable[str]) -> None:
        with self.lock:
            for ref in refs:
                self._pins[ref] -= 1
                if not self._pins[ref]:
                    del self._pins[ref]

    def keep_pinned(self, refs: Iterable[str]) -> None:
        """Let these alone be pinned: nothing runs in a copy yet."""
        self._pins = {}
        self.pin(refs)

    def __getstate__(self) -> dict[str, Any]:
        # A copy has a lock of its own.
        with self.lock:
            return {name: value for name, value in self.__dict__.items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, lock=RLock())

    def _to_evict(self, wanted: int) -> list[str]:
        excess = len(self._loaded) + wanted - self.count
        free = [ref for ref in self._loaded if not self.is_pinned(ref)]
        if excess > len(free):
            raise Unavailable(
                f"All {self.count} slots hold adapters that are in use. Load the model with more: "
                f"hub.load(…, slots={self.count + excess - len(free)})."
            )
        return free[: max(excess, 0)]
