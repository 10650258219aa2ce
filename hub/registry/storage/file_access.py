"""The local store's system calls that differ between operating systems.

POSIX has locks on open files, reads at an offset, and fsync of folders.  Windows has none of them.  There the server is
one process, so a lock in memory is enough, and the file system journals names itself.
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
    """Hold an exclusive lock on `file`, known as `name`, during the block; yields False if somebody else holds it.

    Tries once, or repeatedly for `wait` seconds.  The lock ends with the block, with the file, or with the process that
    holds it.
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
    """Make the names in `folder` durable."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
