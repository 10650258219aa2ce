"""Files and folders that only their owner may use, whatever the umask says.

A service keeps its database, its blobs and its backups so: on a machine that others use, too, whoever reads the
database reads every private adapter and the key that signs uploads.  Windows has no such modes; nothing is done there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

OTHERS = 0o077
"""The bits of a mode that say what group and world may do."""

_HAS_MODES = os.name == "posix"


def make_private_folder(folder: Path) -> None:
    """Make `folder`, with those above it that are missing, for the owner alone; one that is there is left as it is."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def create_private(path: Path) -> BinaryIO:
    """Open a new, empty file for writing that only its owner may read."""
    return open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600))


def ensure_private_file(path: Path) -> None:
    """Make `path` for the owner alone if it isn't there."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def close_to_others(path: Path) -> None:
    """Take from group and world what they may do with `path`; what is somebody else's stays as it is."""
    if is_open_to_others(path):
        with suppress(OSError):
            path.chmod(path.stat().st_mode & 0o7777 & ~OTHERS)


def is_open_to_others(path: Path) -> bool:
    """Whether group or world may do anything with `path`; False for what isn't there."""
    try:
        return _HAS_MODES and bool(path.stat().st_mode & OTHERS)
    except OSError:
        return False
