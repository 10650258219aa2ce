"""Rate limits: one bucket per caller, shared by every worker on every machine.

The buckets live in the database.  To ask it once per hundred requests and not at each, a worker takes a share of the
caller's minute at a time (a hundredth of it) and spends that from memory: all shares together never exceed the limit.

Reading must not become writing, so the first share of reads is on credit: it is taken together with the second.  A
caller far below its limit costs no query at all, and one at its limit gets at most one share per worker more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask import Flask, current_app, request

from hub.errors import TooManyRequests, Unauthenticated
from hub.settings import ServerSettings

_LIMITS = "lorahub.limits"
_NOT_COUNTED = ("/healthz", "/readyz", "/metrics", "/static/")
FAILED_LOGINS_PER_MINUTE = 30
SHARE_SECONDS = 5.0
MAX_CALLERS = 10_000


@dataclass(slots=True)
class Share:
    """What this worker may still spend for one caller, and until when; `refused` holds until then.

    owed: how much of it is on credit.
    """

    left: int
    until: float
    owed: int = 0
    refused: TooManyRequests | None = None


class Limits:
    """The shares that this worker holds.

    take_rate: the registry's bucket, which raises TooManyRequests when `cost` is not in it.
    """

    def __init__(self, take_rate: Callable[..., None], clock: Callable[[], float] = time.monotonic) -> None:
        self._take_rate = take_rate
        self._clock = clock
        self._shares: dict[str, Share] = {}
        self._lock = threading.Lock()

    def take(self, key: str, per_minute: int, *, on_credit: bool = False) -> None:
        """Spend one of `key`'s `per_minute`.  Raises TooManyRequests with the seconds to wait."""
        now, size = self._clock(), max(1, per_minute // 100)
        with self._lock:
            share = self._shares.get(key)
            if share is None or now >= share.until:
                share = Share(size, now + SHARE_SECONDS, owed=size) if on_credit and size > 1 else Share(0, now)
                self._keep(key, share)
            if share.refused:
                raise share.refused
            if share.left > 0:
                share.left -= 1
                return
        self._renew(key, per_minute, size, share.owed, now)

    def is_refused(self, key: str) -> TooManyRequests | None:
        """Return the refusal that still holds for `key`, without spending anything."""
        share = self._shares.get(key)
        return share.refused if share and share.refused and self._clock() < share.until else None

    def _renew(self, key: str, per_minute: int, size: int, owed: int, now: float) -> None:
        """Take the next share, and what is owed; when that much isn't there, just what this request costs."""
        try:
            self._take_rate(key, per_minute=per_minute, burst=per_minute, cost=owed + size)
        except TooManyRequests:
            size = 1
            self._take_one(key, per_minute, now)
        with self._lock:
            self._keep(key, Share(size - 1, now + SHARE_SECONDS))

    def _take_one(self, key: str, per_minute: int, now: float) -> None:
        try:
            self._take_rate(key, per_minute=per_minute, burst=per_minute, cost=1)
        except TooManyRequests as error:
            # Remembered for a moment, so that a caller who doesn't listen costs no query at each request.
            wait = min(1.0, float(error.details.get("retry_after_seconds", 1)))
            with self._lock:
                self._keep(key, Share(0, now + wait, refused=error))
            raise

    def _keep(self, key: str, share: Share) -> None:
        if len(self._shares) >= MAX_CALLERS:
            # Forgetting is safe: what a forgotten share held counts as spent.
            self._shares.clear()
        self._shares[key] = share


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
    """Slow down an address that keeps sending wrong tokens: past its limit the answer is 429."""
    limits: Limits = current_app.extensions[_LIMITS]
    key = f"login:{request.remote_addr}"
    if refused := limits.is_refused(key):
        raise refused
    try:
        yield
    except Unauthenticated:
        limits.take(key, FAILED_LOGINS_PER_MINUTE)
        raise
