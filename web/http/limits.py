"""Rate limits: one bucket per caller, shared by every worker on every machine.

The buckets live in the database.  To ask it once per hundred requests and not at each, a worker takes a share of the
caller's minute at a time (a hundredth of it, of a busy caller's up to a twentieth) and spends that from memory.  The
next share is taken in the background while a quarter of this one is left.  What is taken never exceeds the limit.

Reading must not become writing, so the first share of reads is on credit: it is taken together with the second.  A
caller far below its limit costs no query at all.  One that is never refused may keep that credit: at most a share per
worker and 5 seconds beyond the limit.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import Flask, current_app, request

from hub.errors import HubError, TooManyRequests, Unauthenticated
from hub.settings import ServerSettings

_LIMITS = "lorahub.limits"
_NOT_COUNTED = ("/healthz", "/readyz", "/metrics", "/static/")
FAILED_LOGINS_PER_MINUTE = 30
SHARE_SECONDS = 5.0
MAX_CALLERS = 10_000


@dataclass(slots=True)
class Share:
    """What this worker may still spend for one caller, and until when; `refused` holds until then.

    size, since: how much it was when it was taken, and when that was.  owed: how much of it is on credit.
    refilling: whether the next share was asked for already.
    """

    left: int
    until: float
    size: int = 0
    since: float = 0.0
    owed: int = 0
    refilling: bool = False
    refused: TooManyRequests | None = None

    def runs_low(self) -> bool:
        return self.size > 1 and not self.refilling and self.left * 4 <= self.size


class Limits:
    """The shares that this worker holds.

    take_rate: the registry's bucket, which raises TooManyRequests when `cost` is not in it.
    later: runs something soon, in a thread of its own; one thread for all unless told otherwise.
    """

    def __init__(
        self,
        take_rate: Callable[..., None],
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self._take_rate = take_rate
        self._clock = clock
        self._later = later or ThreadPoolExecutor(1, "lorahub-limits").submit
        self._shares: dict[str, Share] = {}
        self._lock = threading.Lock()
        # Of the threads that find a share spent, one takes the next; the others wait for it.
        self._turns = [threading.Lock() for _ in range(64)]

    def take(self, key: str, per_minute: int, *, on_credit: bool = False) -> None:
        """Spend one of `key`'s `per_minute`.  Raises TooManyRequests with the seconds to wait."""
        if self.take_held(key, per_minute, on_credit=on_credit):
            return
        with self._turn(key):
            if not self.take_held(key, per_minute, on_credit=on_credit):
                self._renew(key, per_minute)

    def take_held(self, key: str, per_minute: int, *, on_credit: bool = False) -> bool:
        """Spend one of the share that this worker holds, without waiting; False where there is none left.

        Raises TooManyRequests while a refusal holds.
        """
        now = self._clock()
        with self._lock:
            share = self._shares.get(key)
            if share is None or now >= share.until:
                # A caller refused a moment ago gets no credit: ask the bucket first.
                trusted = on_credit and not (share and share.refused)
                share = self._keep(key, _first_share(per_minute, now, trusted))
            if share.refused:
                raise share.refused
            if share.left <= 0:
                return False
            share.left -= 1
            runs_low = share.runs_low()
            share.refilling = share.refilling or runs_low
        if runs_low:
            self._later(partial(self._refill, key, per_minute))
        return True

    def _turn(self, key: str) -> threading.Lock:
        return self._turns[hash(key) % len(self._turns)]

    def _renew(self, key: str, per_minute: int) -> None:
        """Take the next share, and what is owed; when that much isn't there, just what this request costs."""
        now = self._clock()
        size, owed = self._next_share(key, per_minute, now)
        try:
            self._take_rate(key, per_minute=per_minute, burst=per_minute, cost=owed + size)
        except TooManyRequests:
            size = 1
            self._take_one(key, per_minute, now)
        with self._lock:
            self._keep(key, Share(size - 1, now + SHARE_SECONDS, size, now))

    def _refill(self, key: str, per_minute: int) -> None:
        """Take the next share before this one is spent, so that nobody waits for the database."""
        with self._turn(key):
            now = self._clock()
            size, owed = self._next_share(key, per_minute, now)
            try:
                self._take_rate(key, per_minute=per_minute, burst=per_minute, cost=owed + size)
            except HubError:
                return  # whoever finds the share spent asks again, and is told
            with self._lock:
                share = self._shares.get(key)
                left = share.left if share and now < share.until else 0
                self._keep(key, Share(left + size, now + SHARE_SECONDS, size, now))

    def _next_share(self, key: str, per_minute: int, now: float) -> tuple[int, int]:
        """Return the size of the next share, and what is owed.

        A share that was spent within a second is followed by one twice as large, so a busy caller asks seldom, too.
        What nobody spends in the end is lost to the caller: at most what a second took.
        """
        size = _share_size(per_minute)
        with self._lock:
            last = self._shares.get(key)
        if last is None:
            return size, 0
        if last.size and now - last.since < 1.0:
            size = max(size, min(2 * last.size, per_minute // 20))
        return size, last.owed

    def _take_one(self, key: str, per_minute: int, now: float) -> None:
        try:
            self._take_rate(key, per_minute=per_minute, burst=per_minute, cost=1)
        except TooManyRequests as error:
            # Cache the refusal for a moment, so that a caller who ignores it doesn't cost a query per request.
            wait = min(1.0, float(error.details.get("retry_after_seconds", 1)))
            with self._lock:
                self._keep(key, Share(0, now + wait, refused=error))
            raise

    def _keep(self, key: str, share: Share) -> Share:
        if len(self._shares) >= MAX_CALLERS:
            # Forgetting is safe: what a forgotten share held counts as spent.
            self._shares.clear()
        self._shares[key] = share
        return share


def address_key(address: str | None) -> str:
    """Return an address's bucket: an IPv6 client usually owns a whole /64, so that counts as one."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return str(address)
    if found.version == 4:
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False).network_address)


def _share_size(per_minute: int) -> int:
    return max(1, per_minute // 100)


def _first_share(per_minute: int, now: float, on_credit: bool) -> Share:
    size = _share_size(per_minute)
    return (
        Share(size, now + SHARE_SECONDS, size, now, owed=size)
        if on_credit and size > 1
        else Share(0, now + SHARE_SECONDS)
    )


def register_limits(
    app: Flask,
    take_rate: Callable[..., None],
    settings: ServerSettings,
    caller_key: Callable[[Mapping[str, Any]], str],
) -> Limits:
    """Count every request of `app` against its caller's buckets before its route runs."""
    limits = Limits(take_rate)
    app.extensions[_LIMITS] = limits
    allowed = {"read": settings.reads_per_minute, "write": settings.writes_per_minute}

    @app.before_request
    def count_request() -> None:
        if request.path.startswith(_NOT_COUNTED):
            return
        kind = "read" if request.method in {"GET", "HEAD", "OPTIONS"} else "write"
        if allowed[kind]:
            limits.take(f"{kind}:{caller_key(request.environ)}", allowed[kind], on_credit=kind == "read")

    return limits


@contextmanager
def watch_logins() -> Iterator[None]:
    """Slow down an address that keeps sending wrong tokens: past its limit the answer to those is 429.

    A token is checked first, so a good one works even if others behind the same address guess.
    """
    limits: Limits = current_app.extensions[_LIMITS]
    try:
        yield
    except Unauthenticated:
        limits.take(f"login:{address_key(request.remote_addr)}", FAILED_LOGINS_PER_MINUTE)
        raise
