"""gunicorn's worker process: the arbiter starts and stops it; it serves through `front.Front`.

gunicorn provides the arbiter, the parser and the framing of answers.  The front decides who gets a thread, and how slow
a client may be.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from contextlib import suppress
from typing import Any

from gunicorn.workers.base import Worker

from ..api.fast_lane import QUICK_ANSWERS
from .answers import Site
from .front import Front
from .quick import Quick

SPARE_HANDLES = 200
"""What a worker needs besides connections: files that are sent, the database, the store."""


class FrontWorker(Worker):
    """One process: an event loop, and the threads that it hands requests to."""

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        answers = self.wsgi.extensions.get(QUICK_ANSWERS)
        front = Front(
            Site(self._call, self.cfg, self.log, lambda: not self.alive),
            Quick(answers) if answers else None,
            [listener.sock for listener in self.sockets],
            threads=self.cfg.threads,
            places=connection_places(self.cfg.worker_connections),
            hops=self.wsgi.config["TRUSTED_PROXIES"],
        )
        await front.run(self._is_over, self.cfg.graceful_timeout)

    def _call(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.nr += 1
        if self.nr >= self.max_requests:
            self.alive = False
        return self.wsgi(environ, start_response)

    def _stop(self) -> None:
        self.alive = False

    def _is_over(self) -> bool:
        """Tell the arbiter that we are alive; say whether to stop."""
        self.notify()
        if self.ppid != os.getppid():
            self.alive = False
        return not self.alive


def connection_places(wanted: int) -> int:
    """Raise the descriptor limit as far as the system allows; return how many connections that leaves room for."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = wanted + SPARE_HANDLES if most == resource.RLIM_INFINITY else min(most, wanted + SPARE_HANDLES)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < enough:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (enough, most))
            soft = enough
    return wanted if soft == resource.RLIM_INFINITY else max(16, min(wanted, soft - SPARE_HANDLES))
