"""Push a folder to a registry, pull a version from one: the steps of the two data flows, in order.

    push   scan -> manifest -> what is missing? -> send that -> publish        blobs first, the version last
    pull   resolve (one GET: the manifest) -> fetch what the cache lacks -> snapshot folder

Each step takes a finished value and gives one.  `resolve` and `fetch` are apart so that a loader can check the manifest
against its base before a byte of weights moves.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from hub.adapter.file_rules import MAGIC_BYTES, check_magic, check_name
from hub.adapter.files import FolderScan, build_manifest, scan_folder
from hub.adapter.publication import Publication
from hub.client.api import Client
from hub.client.cache import Cache
from hub.client.offline import KnownVersions
from hub.client.parallel import Job, run_all
from hub.client.progress import Observer
from hub.client.recorded import record_base
from hub.client.records import UploadPlan, VersionInfo
from hub.client.transfer import download_blob, upload_blob
from hub.errors import DigestMismatch, NetworkError, Offline, Unavailable
from hub.formats.atomic_files import check_new_folder
from hub.manifest import BaseIdentity, FileEntry, Manifest
from hub.refs import AdapterName, AdapterRef
from hub.settings import ClientSettings

_ATTEMPTS = 5
"""Attempts, in case another process prunes the cache meanwhile."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A folder that has been read and checked: what a push would send, and what it leaves out and why."""

    scan: FolderScan
    manifest: Manifest

    def path(self, entry: FileEntry) -> Path:
        return self.scan.files[entry.path]


@dataclass(frozen=True, slots=True)
class Pushed:
    """created: False if the registry had this very content as `version` already.  sent_bytes: of blobs."""

    version: VersionInfo
    created: bool
    sent_bytes: int
    left_out: tuple[tuple[str, str], ...]


# --- push


def prepare(folder: Path, base: BaseIdentity | None, observer: Observer) -> Prepared:
    """Read and check a folder, hash its files.  Touches no network.  Raises what `build_manifest` raises."""
    scan = scan_folder(folder)
    for name, reason in scan.left_out:
        observer.note(f"{name} is left out: {reason}")
    observer.begin("hashing", sum(path.stat().st_size for path in scan.files.values()))
    try:
        manifest = build_manifest(scan.readables(), base, progress=observer.advance)
    finally:
        observer.end()
    return Prepared(scan, manifest)


def send(prepared: Prepared, name: AdapterName, publication: Publication, client: Client, observer: Observer) -> Pushed:
    """Send the blobs that the registry lacks, then publish.  Run again, it goes on where it was interrupted."""
    plans = client.request_uploads(name, prepared.manifest.files)
    by_sha256 = {entry.sha256: entry for entry in prepared.manifest.files}
    wanted = [(by_sha256[sha256], plan) for sha256, plan in plans.items() if plan is not None]
    observer.begin("sending", sum(entry.size for entry, _ in wanted))
    try:
        run_all([_upload_job(client, name, prepared.path(entry), entry, plan, observer) for entry, plan in wanted])
    finally:
        observer.end()
    version, created = client.publish(name, prepared.manifest, publication)
    sent = sum(plan.size - plan.offset for _, plan in wanted)
    return Pushed(version, created, sent, prepared.scan.left_out)


def push(
    folder: Path,
    name: AdapterName,
    settings: ClientSettings,
    *,
    publication: Publication | None = None,
    base: BaseIdentity | None = None,
    observer: Observer | None = None,
) -> Pushed:
    """Make a version of `folder`.  Nothing is visible until all of it is there."""
    observer = observer or Observer()
    prepared = prepare(folder, base, observer)
    with Client(settings) as client:
        return send(prepared, name, publication or Publication(), client, observer)


def _upload_job(
    client: Client, name: AdapterName, path: Path, entry: FileEntry, plan: UploadPlan, observer: Observer
) -> Job:
    def job(stop: threading.Event) -> None:
        upload_blob(client, name, plan, path, entry, observer, stop)

    return job


# --- pull


def resolve(
    ref: AdapterRef, settings: ClientSettings, observer: Observer | None = None, client: Client | None = None
) -> VersionInfo:
    """Return the version that `ref` means, with its manifest, and tell the observer if it is yanked or deprecated.

    Offline, it is the version that `ref` meant when the registry was last asked; Offline is raised if it never was.
    client: an open one, where there is one, for its connections.
    """
    known = KnownVersions(Cache(settings.cache), settings.endpoint)
    if settings.offline:
        info = known.require(ref)
    else:
        with _opened(client, settings) as asked:
            info = _ask(ref, asked, known)
    if info.warning:
        (observer or Observer()).warn(info.warning)
    return info


def fetch(
    info: VersionInfo, settings: ClientSettings, observer: Observer | None = None, client: Client | None = None
) -> Path:
    """Return the folder with the files of a resolved version, fetching what the cache lacks.

    Every file has been verified against the manifest; an interrupted fetch is taken up by the next.
    """
    manifest = _manifest_of(info)
    cache = Cache(settings.cache)
    found = cache.find_snapshot(info.adapter, manifest)
    if found is not None:
        return found
    observer = observer or Observer()

    def say_that_we_wait() -> None:
        observer.note(f"Another process is fetching {info.ref}: waiting for it.")

    # This lock tells a concurrent prune which blobs to keep.
    with _opened(client, settings) as asked, cache.explained(), cache.lock(manifest.digest, say_that_we_wait):
        for _ in range(_ATTEMPTS):
            _fetch_blobs(info, manifest, cache, asked, observer)
            with suppress(FileNotFoundError):
                _check_contents(manifest, cache)
                return cache.find_snapshot(info.adapter, manifest) or cache.build_snapshot(info.adapter, manifest)
    raise Unavailable(f"Another process empties {cache.root} while {info.ref} is fetched. Pull again when it is done.")


def pull(ref: AdapterRef, settings: ClientSettings, observer: Observer | None = None) -> Path:
    """Return the folder of the version that `ref` means: `resolve`, then `fetch`."""
    with Client(settings) as client:
        return fetch(resolve(ref, settings, observer, client), settings, observer, client)


def copy_out(snapshot: Path, folder: Path, base: BaseIdentity | None = None) -> Path:
    """Copy a snapshot to a folder of the user's own, which must be new or empty.

    base: what the manifest says of the base; it goes along, so that the copy is only loaded on that.
    """
    check_new_folder(folder)
    for file in sorted(path for path in snapshot.rglob("*") if path.is_file()):
        target = folder / file.relative_to(snapshot)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    if base is not None:
        record_base(folder, base)
    return folder


def _opened(client: Client | None, settings: ClientSettings) -> AbstractContextManager[Client]:
    return nullcontext(client) if client is not None else Client(settings)


def _ask(ref: AdapterRef, client: Client, known: KnownVersions) -> VersionInfo:
    try:
        info = client.resolve(ref)
    except NetworkError as error:
        cached = known.recall(ref)
        if cached is None:
            raise
        raise NetworkError(f"{error.message} ({cached.ref} is in the cache.)") from error
    _manifest_of(info)
    _check_is_what_was_asked(info, ref)
    known.remember(info, ref)
    return info


def _check_is_what_was_asked(info: VersionInfo, ref: AdapterRef) -> None:
    """A ref that can only mean one version must not come back as another: a digest is a promise of the bytes."""
    is_other_version = ref.version is not None and info.version != ref.version
    is_other_content = ref.digest is not None and info.digest != ref.digest
    if info.adapter != ref.adapter or is_other_version or is_other_content:
        raise DigestMismatch(
            f"{ref} was asked for and the registry described {info.ref} (sha256:{info.digest[:12]}…). Nothing was "
            "fetched; do not trust this registry."
        )


def _fetch_blobs(info: VersionInfo, manifest: Manifest, cache: Cache, client: Client, observer: Observer) -> None:
    wanted: Sequence[FileEntry] = list({entry.sha256: entry for entry in manifest.files}.values())
    missing = [entry for entry in wanted if not cache.blob_path(entry.sha256).exists()]
    if client.settings.offline and missing:
        raise Offline(
            f"{info.ref} is known, but {len(missing)} of its files are not in the cache, and LORAHUB_OFFLINE is set. "
            f"Pull it once while the registry can be reached: LORAHUB_OFFLINE=0 lorahub pull {info.ref}"
        )
    cache.check_room(sum(entry.size - _size_of(cache.partial_path(entry.sha256)) for entry in missing))
    observer.begin("fetching", sum(entry.size for entry in wanted))
    try:
        run_all([_download_job(client, info, entry, cache, observer) for entry in wanted])
    finally:
        observer.end()


def _download_job(client: Client, info: VersionInfo, entry: FileEntry, cache: Cache, observer: Observer) -> Job:
    href = client.file_path(info.ref, entry.path)

    def job(stop: threading.Event) -> None:
        download_blob(client.connection, href, entry, cache, observer, stop)

    return job


def _manifest_of(info: VersionInfo) -> Manifest:
    if info.manifest is None:
        raise NetworkError(f"The registry described {info.ref} without its manifest. Check LORAHUB_ENDPOINT.")
    for entry in info.manifest.files:
        check_name(entry.path)
    return info.manifest


def _check_contents(manifest: Manifest, cache: Cache) -> None:
    """Raise UnsafeFile for a file that is not what its name says: the registry should never have taken it."""
    for entry in manifest.files:
        with cache.blob_path(entry.sha256).open("rb") as file:
            check_magic(entry.path, file.read(MAGIC_BYTES))


def _size_of(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
