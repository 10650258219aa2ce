"""Fair shares: no client address can take all connections or all threads.

Crowd     connections.  When all places are taken, the address with the most connections loses one.
FairPool  threads.  Work queues per address, and the queues take turns; no address may occupy every thread.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
P = TypeVar("P", bound="Place")


class Place(Protocol):
    """A connection.  `rests`: idle, no request has begun.  `waits`: for its client, idle or within a request."""

    address: str
    rests: bool
    waits: bool


class Crowd(Generic[P]):
    """The connections of a worker, by address, the oldest first."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._count = 0
        self._held: dict[str, dict[P, None]] = {}

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[P]:
        return (one for held in list(self._held.values()) for one in list(held))

    @property
    def is_full(self) -> bool:
        return self._count >= self._places

    def add(self, one: P) -> None:
        self._held.setdefault(one.address, {})[one] = None
        self._count += 1

    def remove(self, one: P) -> None:
        held = self._held.get(one.address, {})
        if one in held:
            del held[one]
            self._count -= 1
        if not held:
            self._held.pop(one.address, None)

    def who_leaves(self, newcomer: str) -> P | None:
        """Return the connection to close for a new one of `newcomer`'s; None if the new one is refused instead.

        The address with the most connections loses its oldest idle one.  If none is idle, it loses the oldest that
        waits for its client, unless the newcomer is that very address.
        """
        if not self._held:
            return None
        most = max(self._held, key=lambda address: len(self._held[address]))
        held = self._held[most]
        resting = next((one for one in held if one.rests), None)
        if resting is not None or most == newcomer:
            return resting
        return next((one for one in held if one.waits), None)


class Turns:
    """Fair shares of the event loop: each round lets only so many connections of an address start their next request.

    This keeps rounds short, so new clients are served soon, however many connections one address keeps busy.
    """

    def __init__(self, per_round: int) -> None:
        self._per_round = per_round
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}

    async def next(self, address: str) -> None:
        """Return when it is `address`'s turn again, in the next round at the earliest."""
        loop = asyncio.get_running_loop()
        if not self._lines:
            loop.call_soon(self._begin_round, loop)
        turn: asyncio.Future[None] = loop.create_future()
        self._lines.setdefault(address, deque()).append(turn)
        await turn

    def _begin_round(self, loop: asyncio.AbstractEventLoop) -> None:
        for address, line in list(self._lines.items()):
            for _ in range(min(self._per_round, len(line))):
                turn = line.popleft()
                if not turn.done():
                    turn.set_result(None)
            if not line:
                del self._lines[address]
        if self._lines:
            loop.call_soon(self._begin_round, loop)


class Full(Exception):
    """No thread is left, or none for this address."""


class FairPool:
    """A pool of threads for one event loop.

    share: how many threads one address may have at once.  Every method is for the loop's thread.
    """

    def __init__(self, threads: int, share: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = threads
        self._share = share
        self._running: Counter[str] = Counter()
        self._lines: dict[str, deque[Callable[[], None]]] = {}

    async def run(self, address: str, work: Callable[[], T]) -> T:
        """Run `work` in a thread, and return its result.

        If the caller is cancelled, work that has begun runs to its end.
        """
        return await asyncio.shield(self._take(address, work))

    async def run_now(self, address: str, work: Callable[[], T]) -> T:
        """As `run`.  Raises Full instead of waiting for a thread."""
        if not self._may_start(address):
            raise Full
        return await self.run(address, work)

    def submit(self, address: str, work: Callable[[], object]) -> None:
        """Queue `work`; nobody waits for its outcome."""
        self._take(address, work)

    def shutdown(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _take(self, address: str, work: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()

        def start() -> None:
            self._free -= 1
            self._running[address] += 1
            done = self._threads.submit(work)
            done.add_done_callback(lambda done: call_in_loop(loop, self._finish, address, done, outcome))

        if self._may_start(address):
            start()
        else:
            self._lines.setdefault(address, deque()).append(start)
        return outcome

    def _may_start(self, address: str) -> bool:
        return self._free > 0 and self._running[address] < self._share

    def _finish(self, address: str, done: Future[T], outcome: asyncio.Future[T]) -> None:
        self._free += 1
        self._running[address] -= 1
        if not self._running[address]:
            del self._running[address]
        self._start_next()
        if outcome.cancelled():
            return
        error = done.exception()
        if error is None:
            outcome.set_result(done.result())
        else:
            outcome.set_exception(error)
            outcome.exception()  # mark as retrieved: the caller may be gone

    def _start_next(self) -> None:
        """Start the first job of the first queue that may run one; that queue goes to the back."""
        for address in self._lines:
            if self._may_start(address):
                line = self._lines.pop(address)
                line.popleft()()
                if line:
                    self._lines[address] = line
                return


def call_in_loop(loop: asyncio.AbstractEventLoop, *call: object) -> None:
    """Have the loop make a call, from any thread."""
    with suppress(RuntimeError):  # the loop has ended: the worker is shutting down
        loop.call_soon_threadsafe(*call)  # type: ignore[arg-type]
