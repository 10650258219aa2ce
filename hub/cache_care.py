"""Look after the local cache: hash it again, empty it.  Each does no harm to a pull that runs at the same time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hub.cache import Cache, Snapshot, remove_file, remove_tree, seal
from hub.errors import IntegrityError, VersionNotFound
from hub.manifest import FileEntry
from hub.progress import Observer
from hub.records import VersionInfo
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

    Raises VersionNotFound if it isn't in the cache, IntegrityError, which names the files, if one is damaged; those
    are removed.
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
    if damaged:
        for entry in manifest.files:
            if entry.path in damaged:
                remove_file(cache.blob_path(entry.sha256))
        remove_tree(folder)
        raise IntegrityError(
            f"{info.ref} is damaged in the cache: {', '.join(damaged)}. It was thrown away; fetch it again: "
            f"lorahub pull {info.ref}",
            files=damaged,
        )
    return manifest.files


def verify_all(cache: Cache, observer: Observer) -> list[str]:
    """Hash every blob and every snapshot's files; remove the damaged ones; return their paths below the cache."""
    damaged = []
    blobs = [path for path in cache.root.glob("blobs/sha256/*/*") if path.is_file()]
    observer.begin("verifying", sum(path.stat().st_size for path in blobs))
    try:
        for path in blobs:
            entry = FileEntry(path.name, path.stat().st_size, path.name)
            if not _is_intact(path, entry, observer):
                damaged.append(str(path.relative_to(cache.root)))
                remove_file(path)
    finally:
        observer.end()
    for snapshot in cache.snapshots():
        if not _is_whole(cache, snapshot, observer):
            damaged.append(str(snapshot.path.relative_to(cache.root)))
            remove_tree(snapshot.path)
    return damaged


def remove_version(cache: Cache, name: AdapterName, digest: str | None) -> Removed:
    """Remove the folder of one version, or of all versions of an adapter, then what no folder uses any more."""
    found = [item for item in cache.snapshots() if item.adapter == name and digest in (None, item.digest)]
    for snapshot in found:
        remove_tree(snapshot.path)
    return prune(cache, grace_seconds=0.0) if found else Removed()


def prune(cache: Cache, grace_seconds: float = GRACE_SECONDS) -> Removed:
    """Remove blobs that no snapshot uses, and partial files that nobody has touched for a while."""
    used = _used_blobs(cache)
    removed = Removed()
    for path in _loose_files(cache):
        is_partial = path.parent.name == "partial"
        if (not is_partial and path.name in used) or time.time() - path.stat().st_ctime < grace_seconds:
            continue
        size = path.stat().st_size
        with cache.lock(path.name.removesuffix(".etag")):
            remove_file(path)
        removed = removed.plus(size)
    for leftover in cache.root.glob("snapshots/*/*/.*"):
        if time.time() - leftover.stat().st_ctime >= grace_seconds:
            remove_tree(leftover)
    return removed


def clear(cache: Cache) -> Removed:
    """Remove every version and every blob; what is known of the registry's versions stays."""
    for snapshot in cache.snapshots():
        remove_tree(snapshot.path)
    return prune(cache, grace_seconds=0.0)


def total_bytes(cache: Cache) -> int:
    """The bytes of all blobs and partial files: what the cache takes on the disk, links counted once."""
    return sum(path.stat().st_size for path in _loose_files(cache))


def snapshots_by_adapter(cache: Cache) -> list[Snapshot]:
    return sorted(cache.snapshots(), key=lambda item: (item.adapter, item.digest))


def _is_intact(path: Path, entry: FileEntry, observer: Observer) -> bool:
    from hub.adapter_files import hash_file

    if not path.is_file():
        return False
    intact = hash_file(path, observer.advance) == (entry.sha256, entry.size)
    if intact:
        seal(path)
    return intact


def _is_whole(cache: Cache, snapshot: Snapshot, observer: Observer) -> bool:
    """Whether every file of a snapshot is a verified blob, or a copy of one that hashes right."""
    manifest = cache.load_manifest(snapshot.digest)
    if manifest is None:
        return False
    for entry in manifest.files:
        file, blob = snapshot.path / entry.path, cache.blob_path(entry.sha256)
        if not file.is_file() or not blob.is_file():
            return False
        if not file.samefile(blob) and not _is_intact(file, entry, observer):
            return False
    return True


def _used_blobs(cache: Cache) -> set[str]:
    used: set[str] = set()
    for snapshot in cache.snapshots():
        manifest = cache.load_manifest(snapshot.digest)
        used.update(entry.sha256 for entry in manifest.files) if manifest else None
    return used


def _loose_files(cache: Cache) -> Iterator[Path]:
    for pattern in ("blobs/sha256/*/*", "partial/*"):
        yield from (path for path in cache.root.glob(pattern) if path.is_file())
