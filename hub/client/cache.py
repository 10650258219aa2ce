"""The local cache: every byte once, by its sha256, and folders that PEFT can open.

    <cache>/blobs/sha256/ab/<sha256>              verified bytes, read-only
            partial/<sha256>                      a download that isn't finished; <sha256>.etag is its validator
            locks/<sha256>                        one process at a time fetches a blob, or a version (by its digest)
            manifests/<digest>.json               canonical bytes, named by their own sha256
            snapshots/<ns>/<name>/<digest>/…      a version's files: hard links to blobs (copies where links don't work)
            refs/<registry>/<ns>/<name>/…         what versions and aliases meant when last asked, for offline use

A blob is *sealed* when its bytes have been verified: it is made read-only and its modification time is set to a fixed
moment.  Whoever writes to it afterwards breaks the seal, so a stat is enough to know that a file is still what was
verified; one without its seal is hashed again before it is used, and thrown away when it doesn't match.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from hub.errors import StorageFull
from hub.formats.atomic_files import write_atomically
from hub.formats.private_files import make_private_folder
from hub.formats.readable import hash_file
from hub.manifest import FileEntry, Manifest, check_paths
from hub.refs import AdapterName

CHUNK_BYTES = 1024 * 1024

# 2001-09-09, a whole even second: every file system keeps it exactly.
_SEAL_NS = 1_000_000_000 * 10**9
_MOMENT_SECONDS = 0.5
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version's folder in the cache."""

    adapter: AdapterName
    digest: str
    path: Path
    size_bytes: int


class Cache:
    """The cache at `root`.  Several processes and threads may use one at the same time."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # --- blobs

    def blob_path(self, sha256: str) -> Path:
        return self.root / "blobs" / "sha256" / sha256[:2] / sha256

    def partial_path(self, sha256: str) -> Path:
        return self.root / "partial" / sha256

    @contextmanager
    def lock(self, sha256: str, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the right to fetch one blob, or one version by its digest.  The system frees it when its holder dies.

        on_wait: called once if another process holds it for longer than a moment.
        """
        lock = self._lock_of(sha256)
        try:
            lock.acquire(timeout=_MOMENT_SECONDS)
        except Timeout:
            if on_wait:
                on_wait()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def lock_if_free(self, sha256: str) -> Iterator[bool]:
        """Like `lock`, but False, at once, where another holds it."""
        lock = self._lock_of(sha256)
        with suppress(Timeout):
            lock.acquire(timeout=0)
        try:
            yield lock.is_locked
        finally:
            lock.release()

    def is_locked(self, sha256: str) -> bool:
        """Whether somebody fetches that blob or version right now."""
        if not self._lock_path(sha256).exists():
            return False
        with self.lock_if_free(sha256) as is_free:
            return not is_free

    def _lock_of(self, sha256: str) -> BaseFileLock:
        path = self._lock_path(sha256)
        make_private_folder(path.parent)
        return FileLock(path, poll_interval=0.02)

    def _lock_path(self, sha256: str) -> Path:
        return self.root / "locks" / sha256

    def has_blob(self, entry: FileEntry) -> bool:
        """Whether the verified bytes are here.  A blob that someone wrote to is hashed, and removed if it differs."""
        path = self.blob_path(entry.sha256)
        if is_sealed(path, entry.size):
            return True
        try:
            if path.stat().st_size == entry.size and hash_file(path) == (entry.sha256, entry.size):
                seal(path)
                return True
        except FileNotFoundError:
            return False
        remove_file(path)
        return False

    def store_blob(self, finished: Path, sha256: str) -> Path:
        """Move a verified file to its place.  Power lost afterwards can't leave it sealed but empty."""
        path = self.blob_path(sha256)
        make_private_folder(path.parent)
        _sync(finished)
        seal(finished)
        os.replace(finished, path)
        return path

    def check_room(self, needed_bytes: int) -> None:
        """Raise StorageFull unless the disk can take that many more bytes."""
        make_private_folder(self.root)
        free = shutil.disk_usage(self.root).free
        if free < needed_bytes:
            raise StorageFull(
                f"{self.root} has {free / 1e6:,.0f} MB free and the download takes {needed_bytes / 1e6:,.0f} MB. "
                "Free some space (lorahub cache prune), or set LORAHUB_CACHE to a folder on another disk."
            )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn a full disk into StorageFull, with the next step."""
        try:
            yield
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            raise StorageFull(
                f"No space is left in {self.root}. What was fetched so far is kept: free some space (lorahub cache "
                "prune) and pull again, or set LORAHUB_CACHE to a folder on another disk."
            ) from error

    # --- versions

    def snapshot_path(self, name: AdapterName, digest: str) -> Path:
        return self.root / "snapshots" / name.namespace / name.name / digest

    def find_snapshot(self, name: AdapterName, manifest: Manifest) -> Path | None:
        """Return the version's folder if every file in it still has its seal."""
        folder = self.snapshot_path(name, manifest.digest)
        whole = all(is_sealed(folder / entry.path, entry.size) for entry in manifest.files)
        return folder if whole and folder.is_dir() else None

    def build_snapshot(self, name: AdapterName, manifest: Manifest) -> Path:
        """Make the version's folder out of blobs that are all here.  It appears whole or not at all."""
        check_paths([entry.path for entry in manifest.files])
        target = self.snapshot_path(name, manifest.digest)
        make_private_folder(target.parent)
        building = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
        try:
            for entry in manifest.files:
                place = building / entry.path
                make_private_folder(place.parent)
                link_or_copy(self.blob_path(entry.sha256), place)
            _replace_folder(building, target)
        except BaseException:
            remove_tree(building)
            raise
        return target

    def drop_snapshot(self, folder: Path) -> None:
        """Remove a version's folder: whoever looks meanwhile finds it whole or not at all."""
        doomed = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".old-"))
        try:
            os.replace(folder, doomed / "folder")
        except OSError:  # another process removed it; or it is Windows, and somebody has a file of it open
            remove_tree(folder)
        remove_tree(doomed)

    def snapshots(self) -> Iterator[Snapshot]:
        """Yield every version's folder."""
        for folder in sorted(self.root.glob("snapshots/*/*/*")):
            if folder.name.startswith(".") or not folder.is_dir():
                continue
            name = AdapterName(folder.parent.parent.name, folder.parent.name)
            try:
                size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            except FileNotFoundError:  # another process removed it
                continue
            yield Snapshot(name, folder.name, folder, size)

    # --- manifests

    def save_manifest(self, manifest: Manifest) -> None:
        # One that is there may be damaged: it is not synced when it is written, and power may be lost.
        if self._read_manifest(manifest.digest) is None:
            write_atomically(self._manifest_path(manifest.digest), manifest.canonical_bytes())

    def load_manifest(self, digest: str) -> Manifest | None:
        """Return the manifest of that digest; None if it isn't here or isn't what its name says."""
        data = self._read_manifest(digest)
        return Manifest.parse(data) if data is not None else None

    def _read_manifest(self, digest: str) -> bytes | None:
        try:
            data = self._manifest_path(digest).read_bytes()
        except FileNotFoundError:
            return None
        return data if hashlib.sha256(data).hexdigest() == digest else None

    def _manifest_path(self, digest: str) -> Path:
        return self.root / "manifests" / f"{digest}.json"


def is_sealed(path: Path, size: int) -> bool:
    """Whether `path` has that size and nobody has written to it since it was verified.

    Anybody can set a time: in a cache that users share, a seal counts only on a file that no other user may have made
    or changed.  What others put there is hashed each time.
    """
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_size == size and found.st_mtime_ns == _SEAL_NS and _is_ours_alone(found)


def _is_ours_alone(found: os.stat_result) -> bool:
    if os.name != "posix":
        return True
    return found.st_uid in {os.geteuid(), 0} and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def seal(path: Path) -> None:
    path.chmod(0o444)
    os.utime(path, ns=(_SEAL_NS, _SEAL_NS))


def link_or_copy(blob: Path, place: Path) -> None:
    """Give a blob a second name; where the file system has no hard links, a sealed copy."""
    try:
        os.link(blob, place)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        copy_sealed(blob, place)


def copy_sealed(blob: Path, place: Path) -> None:
    shutil.copyfile(blob, place)
    seal(place)


def remove_file(path: Path) -> None:
    """Remove a file, read-only or not, if it is there."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:  # Windows keeps read-only files
        path.chmod(stat.S_IWRITE | stat.S_IREAD)
        path.unlink(missing_ok=True)


def remove_tree(folder: Path) -> None:
    """Remove a folder with read-only files in it; no harm if others remove it, too."""
    with suppress(FileNotFoundError):
        for file in folder.rglob("*"):
            if file.is_file() and not file.is_symlink():
                remove_file(file)
    shutil.rmtree(folder, ignore_errors=True)


def _replace_folder(building: Path, target: Path) -> None:
    """Put a finished folder in its place, where an older, broken one may stand."""
    try:
        os.rename(building, target)
    except OSError:
        if not target.is_dir():
            raise
        broken = Path(tempfile.mkdtemp(dir=target.parent, prefix=".old-"))
        os.replace(target, broken / "folder")
        os.rename(building, target)
        remove_tree(broken)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
