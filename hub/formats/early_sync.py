"""Sync a file in the background while it is written, so that the final fsync is short.

Starting the writeback early (sync_file_range) was measured too and gains nothing where the disk has a cache of its
own: it is the flush of that cache that takes the time, and only a sync asks for it.  Hashing in a thread of its own
gained nothing that could be told from the noise of two cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

STEP_BYTES = 16 * 1024 * 1024
"""How much is written between two syncs.  A smaller file is synced by its owner alone, at its end."""

_sync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)  # macOS and Windows have only the second


class EarlySync:
    """The helper thread of one writer, in a `with`.  It may miss the last bytes: the writer still syncs at the end.

    A failed sync is raised in the writer, as an OSError.  The kernel reports lost bytes only once, so the writer's own
    sync could succeed after this one failed.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._unsynced = 0
        self._helper = ThreadPoolExecutor(1, "early-sync")  # its thread starts with the first sync
        self._running: Future[None] | None = None

    def __enter__(self) -> EarlySync:
        return self

    def __exit__(self, *_: object) -> None:
        self._helper.shutdown()
        self._raise_error()

    def write(self, data: bytes) -> None:
        """Write all of it: a disk that fills up takes a part without an error, and only the next write raises one."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self.wrote(len(data))

    def wrote(self, count: int) -> None:
        """Note that `count` more bytes were written.  Never waits for the disk."""
        self._unsynced += count
        if self._unsynced < STEP_BYTES or (self._running is not None and not self._running.done()):
            return
        self._raise_error()
        self._unsynced = 0
        self._running = self._helper.submit(_sync, self._file)

    def _raise_error(self) -> None:
        if self._running is not None:
            self._running.result()
