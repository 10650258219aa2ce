"""Files and folders that are there whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hub.errors import InvalidRequest
from hub.formats.private_files import make_private_folder


@contextmanager
def replacing(path: Path, *, sync: bool = False) -> Iterator[BinaryIO]:
    """Replace `path` atomically when the block succeeds.  Its folder must exist; only its owner may read the file.

    sync: fsync before the rename, so that a power cut cannot leave the name on incomplete bytes.
    A killed writer leaves its temporary beside it, under a name that begins with a dot.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Make `data` the content of `path`, whose folder is made, for its owner alone, if it isn't there."""
    make_private_folder(path.parent)
    with replacing(path, sync=sync) as file:
        file.write(data)


def check_new_folder(path: Path) -> None:
    """Raise InvalidRequest unless a folder can be made at `path`: nothing is there, or an empty folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InvalidRequest(f"{path} is there already and not empty. Name a new folder.")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path` that takes its place, where nothing or an empty folder is, when the block ends well.

    A killed writer leaves its temporary beside it, under a name that begins with a dot.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        yield aside
        aside.chmod(0o777 & ~_umask())  # mkdtemp made it for us alone
        if path.exists():
            path.rmdir()
        os.replace(aside, path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
