"""Look after the local cache: hash it again, empty it.  Each does no harm to a pull that runs at the same time.

A pull locks its version's digest, which protects the version's blobs from pruning, and each blob in transfer.
Concurrent prunes each count only what they removed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hub.client.cache import Cache, Snapshot, remove_file, remove_tree, seal
from hub.client.progress import Observer
from hub.client.records import VersionInfo
from hub.errors import IntegrityError, VersionNotFound
from hub.manifest import FileEntry
from hub.refs import AdapterName

GRACE_SECONDS = 3600.0
"""A blob or a partial file younger than this may belong to a pull that is running."""


@dataclass(frozen=True, slots=True)
class Removed:
    files: int = 0
    size_bytes: int = 0

    def plus(self, size_bytes: int) -> Removed:
        return Removed(self.files + 1, self.size_bytes + size_bytes)


def verify_version(info: VersionInfo, cache: Cache, observer: Observer) -> tuple[FileEntry, ...]:
    """Hash the cached files of a version.  Returns what was verified.

    Raises VersionNotFound if it isn't in the cache, IntegrityError, which names the files, if one is damaged or was not
    published; those are removed.
    """
    manifest = info.manifest
    folder = cache.snapshot_path(info.adapter, info.digest)
    if manifest is None or not folder.is_dir():
        raise VersionNotFound(
            f"{info.ref} is not in the cache, so there is nothing to verify. Pull it: lorahub pull {info.ref}"
        )
    observer.begin("verifying", manifest.size_bytes)
    try:
        damaged = [entry.path for entry in manifest.files if not _is_intact(folder / entry.path, entry, observer)]
    finally:
        observer.end()
    known = {entry.path for entry in manifest.files}
    foreign = [f"{name} (not of this version)" for name in sorted(_names_in(folder) - known)]
    if damaged or foreign:
        for entry in manifest.files:
            if entry.path in damaged:
                remove_file(cache.blob_path(entry.sha256))
        cache.drop_snapshot(folder)
        raise IntegrityError(
            f"{info.ref} is damaged in the cache: {', '.join(damaged + foreign)}. It was thrown away; fetch it again: "
            f"lorahub pull {info.ref}",
            files=damaged + foreign,
        )
    return manifest.files


def _names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def verify_all(cache: Cache, observer: Observer) -> list[str]:
    """Hash every blob and every snapshot's files; remove the damaged ones; return their paths below the cache."""
    damaged = []
    blobs = [(path, found.st_size) for path, found in _files(cache, "blobs/sha256/*/*")]
    observer.begin("verifying", sum(size for _, size in blobs))
    try:
        for path, size in blobs:
            # The lock keeps pulls from restoring it: a missing blob was pruned, and is no damage.
            with cache.lock_if_free(path.name) as is_free:
                entry = FileEntry(path.name, size, path.name)
                if is_free and not _is_intact(path, entry, observer) and path.exists():
                    damaged.append(str(path.relative_to(cache.root)))
                    remove_file(path)
    finally:
        observer.end()
    for snapshot in cache.snapshots():
        if _is_whole(cache, snapshot, observer):
            continue
        # Check again under the lock: the snapshot may have been removed and pulled anew.
        with cache.lock_if_free(snapshot.digest) as is_free:
            if is_free and not _is_whole(cache, snapshot, observer) and snapshot.path.exists():
                damaged.append(str(snapshot.path.relative_to(cache.root)))
                cache.drop_snapshot(snapshot.path)
    return damaged


def remove_version(cache: Cache, name: AdapterName, digest: str | None) -> Removed:
    """Remove the folder of one version, or of all versions of an adapter, then their bytes that no other uses."""
    found = [item for item in cache.snapshots() if item.adapter == name and digest in (None, item.digest)]
    freed = {sha256 for snapshot in found for sha256 in _blobs_of(cache, snapshot.digest)}
    for snapshot in found:
        cache.drop_snapshot(snapshot.path)
    removed = Removed()
    for sha256 in sorted(freed - _used_blobs(cache)):
        for path, status in _files(cache, str(cache.blob_path(sha256).relative_to(cache.root))):
            removed = _remove(cache, path, status.st_size, removed)
    return removed


def prune(cache: Cache, grace_seconds: float = GRACE_SECONDS) -> Removed:
    """Remove blobs that no snapshot uses, and partial files that nobody has touched for a while."""
    used = _used_blobs(cache)
    removed = Removed()
    for path, status in _loose_files(cache):
        is_used = path.parent.name != "partial" and path.name in used
        if not is_used and _age(status) >= (GRACE_SECONDS if _is_being_written(path) else grace_seconds):
            removed = _remove(cache, path, status.st_size, removed)
    for path, status in _files(cache, "snapshots/*/*/.*"):
        if _age(status) >= GRACE_SECONDS:
            remove_tree(path)
    return removed


def _remove(cache: Cache, path: Path, size: int, removed: Removed) -> Removed:
    with cache.lock_if_free(path.name.removesuffix(".etag")) as is_free:
        if not is_free or not path.exists():
            return removed
        remove_file(path)
    return removed.plus(size)


def _age(status: os.stat_result) -> float:
    return time.time() - status.st_ctime


def _is_being_written(path: Path) -> bool:
    """Whether this is a temporary file that waits for its rename.  An old one is left from a crash."""
    return path.name.startswith(".")


def clear(cache: Cache) -> Removed:
    """Remove every version and every blob; what is known of the registry's versions stays."""
    for snapshot in cache.snapshots():
        cache.drop_snapshot(snapshot.path)
    return prune(cache, grace_seconds=0.0)


def total_bytes(cache: Cache) -> int:
    """The bytes of all blobs and partial files: what the cache takes on the disk, links counted once."""
    return sum(status.st_size for _, status in _loose_files(cache))


def snapshots_by_adapter(cache: Cache) -> list[Snapshot]:
    return sorted(cache.snapshots(), key=lambda item: (item.adapter, item.digest))


def _is_intact(path: Path, entry: FileEntry, observer: Observer) -> bool:
    from hub.formats.readable import hash_file

    try:
        intact = path.is_file() and hash_file(path, observer.advance) == (entry.sha256, entry.size)
        if intact:
            seal(path)
    except FileNotFoundError:
        return False
    return intact


def _is_whole(cache: Cache, snapshot: Snapshot, observer: Observer) -> bool:
    """Whether every file of a snapshot is a verified blob, or a copy of one that hashes right."""
    manifest = cache.load_manifest(snapshot.digest)
    if manifest is None:
        return False
    for entry in manifest.files:
        file, blob = snapshot.path / entry.path, cache.blob_path(entry.sha256)
        try:
            if file.samefile(blob):
                continue
        except FileNotFoundError:
            pass  # no blob: hash the file itself
        if not _is_intact(file, entry, observer):
            return False
    return True


def _used_blobs(cache: Cache) -> set[str]:
    """Return the blobs in use.  Versions being fetched come first: one may become a snapshot meanwhile."""
    digests = {path.stem for path, _ in _files(cache, "manifests/*.json") if cache.is_locked(path.stem)}
    digests.update(snapshot.digest for snapshot in cache.snapshots())
    return {sha256 for digest in digests for sha256 in _blobs_of(cache, digest)}


def _blobs_of(cache: Cache, digest: str) -> set[str]:
    manifest = cache.load_manifest(digest)
    return {entry.sha256 for entry in manifest.files} if manifest else set()


def _loose_files(cache: Cache) -> Iterator[tuple[Path, os.stat_result]]:
    for pattern in ("blobs/sha256/*/*", "partial/*"):
        yield from _files(cache, pattern)


def _files(cache: Cache, pattern: str) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield what is there, and its status, while other processes come and go."""
    for path in cache.root.glob(pattern):
        with suppress(FileNotFoundError):
            yield path, path.stat()
