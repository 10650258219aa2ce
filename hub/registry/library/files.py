"""Files of versions and drafts, ready to send; and stored files as the core reads them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from hub.errors import FileNotFound
from hub.manifest import FileEntry
from hub.refs import AdapterRef
from hub.registry.context import Context
from hub.registry.db.models import BlobRow, VersionFileRow
from hub.registry.library import version_values, versions
from hub.registry.rights import permissions
from hub.registry.rights.access import Actor
from hub.registry.storage.store import BlobStore
from hub.registry.values import StoredFile, Yanked


@dataclass(frozen=True, slots=True)
class StoredReadable:
    """A blob as a `hub.adapter.files.Readable`: read from storage, never taken from a client's claims."""

    store: BlobStore
    sha256: str
    size: int

    def read(self, offset: int, size: int) -> bytes:
        return self.store.read(self.sha256, offset, min(size, max(0, self.size - offset)))


def open_file(context: Context, actor: Actor, ref: AdapterRef, path: str) -> StoredFile:
    """Raises FileNotFound when the version has no such file."""
    with context.database.read() as session:
        row, version = versions.find(session, actor, ref)
        permissions.check_gate(session, actor, row, path)
        found = session.execute(
            select(BlobRow.sha256, BlobRow.size, BlobRow.git_sha1)
            .join(VersionFileRow, VersionFileRow.sha256 == BlobRow.sha256)
            .where(VersionFileRow.version_id == version.id, VersionFileRow.path == path)
        ).first()
        yanked = version_values.yanked_of(session, version)
    if found is None:
        known = f"{row.full_name}@v{version.number}"
        raise FileNotFound(f"{known} has no file {path[:200]!r}. See its files: lorahub show {known}")
    entry = FileEntry(path, found.size, found.sha256)
    return to_stored(context, entry, found.git_sha1, version.number, version.digest[:40], yanked, version.id)


def to_stored(
    context: Context,
    entry: FileEntry,
    git_sha1: str | None,
    version: int | None,
    commit: str,
    yanked: Yanked | None = None,
    version_id: int | None = None,
) -> StoredFile:
    store = context.store
    return StoredFile(
        entry=entry,
        version=version,
        commit=commit,
        open=lambda start, stop: store.stream(entry.sha256, start, min(stop, entry.size)),
        signed_url=store.signed_url(entry.sha256, entry.path.rpartition("/")[2]),
        local_path=store.path(entry.sha256),
        git_sha1=git_sha1,
        yanked=yanked,
        version_id=version_id,
    )
