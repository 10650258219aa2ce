"""What the local store asks of the operating system, where systems differ.

POSIX has locks on open files, reads at an offset, and folders that can be synced.  Windows has none of them; there the
server is one process, which a lock in memory is enough for, and the file system keeps its own journal of names.
"""

from __future__ import annotations

import os
import threading
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
def lock(file: int, name: str) -> Iterator[bool]:
    """Hold `file`, which all call `name`, alone for the time of the block; False, at once, where another has it.

    The lock is given up when the file is closed, or with the process that holds it.
    """
    if fcntl is None:
        with _lock_in_memory(name) as is_ours:
            yield is_ours
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True


@contextmanager
def _lock_in_memory(name: str) -> Iterator[bool]:
    with _holding:
        is_ours = name not in _held
        _held.add(name)
    try:
        yield is_ours
    finally:
        if is_ours:
            with _holding:
                _held.discard(name)


def read_at(file: int, size: int, offset: int) -> bytes:
    """Return up to `size` bytes from `offset`.  No other thread may use `file` meanwhile."""
    if hasattr(os, "pread"):
        return os.pread(file, size, offset)
    os.lseek(file, offset, os.SEEK_SET)
    return os.read(file, size)


def sync_folder(folder: Path) -> None:
    """Have the disk keep the names in `folder`."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
