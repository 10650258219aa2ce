"""A version's files in a folder of the user's own, kept at what a ref means: `lorahub pull REF --to DIR`.

    DIR is new or empty              the files are put there
    DIR is from an earlier pull      it is replaced at once, whole, when the ref means another version by now
    DIR has anything else in it      refused: nothing of the user's is overwritten or removed

What a pull wrote stands in `.lorahub/pulled.json` in the folder.  The new folder is made beside the old one, and the
two change places in one step where the system can (Linux), so a reader never finds half of one.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hub.adapter.content import summarize
from hub.client.records import VersionInfo
from hub.client.sync import copy_out
from hub.errors import Conflict, IntegrityError, InvalidRequest
from hub.formats.readable import hash_file
from hub.manifest import FileEntry

NOTE = Path(".lorahub") / "pulled.json"
_LEFT_OVER_SECONDS = 24 * 3600.0
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def place(info: VersionInfo, snapshot: Path, folder: Path) -> Path:
    """Let `folder` have the files of a version that is in the cache, and return it.

    Raises InvalidRequest if it is another's, Conflict if files in it were changed or added since the last pull.
    """
    earlier = _Note.of(folder)
    if earlier is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRequest(f"{folder} is there already and not empty. Name a new folder, or one of an earlier pull.")
    if earlier is not None:
        differing = differences(folder, earlier.files)
        if differing:
            raise Conflict(
                f"{folder} was changed since it was pulled: {summarize(differing)}. Move what you need out of it, or "
                "name another folder.",
                files=list(differing),
            )
        if earlier.digest == info.digest:
            return folder
    real = folder.resolve()  # of a link, what it leads to
    _replace(real, _written(info, snapshot, real))
    return folder


def check(info: VersionInfo, folder: Path) -> tuple[FileEntry, ...]:
    """Return a version's files.  Raises IntegrityError, which names them, unless `folder` has these and no others."""
    entries = info.manifest.files if info.manifest is not None else ()
    note, published = _Note.of(folder), {entry.path for entry in entries}
    ours = [entry for entry in note.files if entry.path not in published] if note is not None else []
    differing = differences(folder, [*entries, *ours])
    if differing:
        raise IntegrityError(f"{folder} is not {info.ref}: {summarize(differing, 20)}.", files=list(differing))
    return entries


def differences(folder: Path, entries: Sequence[FileEntry]) -> tuple[str, ...]:
    """Return how a folder differs from these files: what is missing, what was changed, what is foreign."""
    wanted = {entry.path: entry for entry in entries}
    there = set(_files_in(folder))
    found = [f"{path} is missing" for path in sorted(wanted.keys() - there)]
    found += [f"{path} was changed" for path in sorted(wanted.keys() & there) if not _is(folder / path, wanted[path])]
    found += [f"{path} is foreign" for path in sorted(there - wanted.keys())]
    return tuple(found)


def _is(path: Path, entry: FileEntry) -> bool:
    return path.stat().st_size == entry.size and hash_file(path) == (entry.sha256, entry.size)


def _files_in(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if name != NOTE and (path.is_symlink() or not path.is_dir()):
            yield name.as_posix()


@dataclass(frozen=True, slots=True)
class _Note:
    """What the last pull put into a folder: of which version, and which files."""

    ref: str
    digest: str
    files: tuple[FileEntry, ...]

    @classmethod
    def of(cls, folder: Path) -> _Note | None:
        """Read a folder's note; None if no pull wrote one."""
        try:
            note = json.loads((folder / NOTE).read_text("utf-8"))
            files = tuple(FileEntry(path, size, sha256) for path, (size, sha256) in note["files"].items())
            return cls(note["ref"], note["digest"], files)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, folder: Path) -> None:
        (folder / NOTE).parent.mkdir()
        files = {entry.path: (entry.size, entry.sha256) for entry in self.files}
        note = {"ref": self.ref, "digest": self.digest, "files": files}
        (folder / NOTE).write_text(json.dumps(note, indent=1), "utf-8")


def _written(info: VersionInfo, snapshot: Path, folder: Path) -> Path:
    """Write the files into a new folder beside `folder`, and return it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_prefix(folder)))
    try:
        copy_out(snapshot, made, info.manifest.base if info.manifest is not None else None)
        files = tuple(_entry(made, name) for name in sorted(_files_in(made)))
        _Note(str(info.ref), info.digest, files).write(made)
        made.chmod(0o755)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return made


def _entry(folder: Path, name: str) -> FileEntry:
    sha256, size = hash_file(folder / name)
    return FileEntry(name, size, sha256)


def _replace(folder: Path, made: Path) -> None:
    """Let `made` take the place of `folder`."""
    if not folder.exists():
        os.replace(made, folder)
    elif _exchange(folder, made):
        shutil.rmtree(made, ignore_errors=True)
    else:
        _swap_by_names(folder, made)


def _exchange(folder: Path, made: Path) -> bool:
    """Let two folders change names in one step.  False where the system can't.  Source: renameat2(2)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    names = os.fsencode(made), os.fsencode(folder)
    return bool(rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def _swap_by_names(folder: Path, made: Path) -> None:
    old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_prefix(folder)))
    os.replace(folder, old / "old")
    os.replace(made, folder)
    shutil.rmtree(old, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what pulls that were killed left beside the folder, a day ago or more."""
    for path in folder.parent.glob(f"{_prefix(folder)}*"):
        if time.time() - path.stat().st_mtime > _LEFT_OVER_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _prefix(folder: Path) -> str:
    return f".{folder.name}.pull-"
