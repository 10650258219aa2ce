"""What the local store asks of the operating system, where systems differ.

POSIX has locks on open files, reads at an offset, and folders that can be synced.  Windows has none of them; there the
server is one process, which a lock in memory is enough for, and the file system keeps its own journal of names.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:
    fcntl = None

BINARY: int = getattr(os, "O_BINARY", 0)
"""For `os.open`: Windows would translate line ends without it."""

_held: set[str] = set()
_holding = threading.Lock()


@contextmanager
def lock(file: int, name: str, wait: float = 0.0) -> Iterator[bool]:
    """Hold `file`, which all call `name`, alone for the time of the block; False where another keeps it.

    It is asked for once, or again and again for `wait` seconds.  The lock is given up at the end of the block or when
    the file is closed, and with the process that holds it.
    """
    until = time.monotonic() + wait
    while not (is_ours := _take(file, name)) and time.monotonic() < until:
        time.sleep(0.001)
    try:
        yield is_ours
    finally:
        if is_ours:
            _give_back(file, name)


def _take(file: int, name: str) -> bool:
    if fcntl is None:
        with _holding:
            is_free = name not in _held
            _held.add(name)
        return is_free
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _give_back(file: int, name: str) -> None:
    if fcntl is None:
        with _holding:
            _held.discard(name)
    else:
        fcntl.flock(file, fcntl.LOCK_UN)


def sync_folder(folder: Path) -> None:
    """Have the disk keep the names in `folder`."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
