"""The protocol of blob stores, which local_store.py and s3_store.py implement.

A blob arrives in three steps, so that readers and crashes never see half of one:

    begin   -> a key under which bytes gather, invisible to readers
    verify  -> all bytes are there, safe on disk, and their sha256 is right: `Staged`
    keep    -> the blob is there under its sha256, atomically

`keep` is called inside the database transaction that records the blob.  Garbage collection deletes inside one that
holds the same row, so the two can't cross.  What of it takes long is done before, by `precopy`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from hub.errors import Unavailable
from hub.registry.storage.streams import ByteStream
from hub.registry.values import UploadPart

GIT_SHA1_LIMIT = 16 * 1024 * 1024
"""Up to this size a blob's git id is known too; larger files are LFS files on the Hugging Face wire."""


class DiskFailed(Unavailable):
    """The disk failed a write or a sync: what it holds of this file can't be trusted."""


@dataclass(frozen=True, slots=True)
class Staged:
    """Bytes that were verified and wait for `keep`."""

    key: str
    sha256: str
    size: int
    git_sha1: str | None
    is_precopied: bool = False


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob as the store lists it."""

    sha256: str
    size: int
    stored_at: datetime


class BlobStore(Protocol):
    """Bytes named by their sha256.  Raises StorageFull, Unavailable; FileNotFound for a blob that isn't there."""

    takes_parts: bool
    """Whether clients send parts to signed URLs (`parts`, `join`) rather than through `append`."""

    def begin(self, size: int) -> str:
        """Open an empty upload of `size` bytes and return its key."""
        ...

    def offset(self, key: str) -> int:
        """Return how many bytes an upload has.  Raises UploadNotFound."""
        ...

    def can_resume(self, key: str, size: int) -> bool:
        """Whether some of the `size` bytes are there to go on from, and nobody is adding to them now.

        One that has all its bytes is being finished by whoever sent the last of them.
        """
        ...

    def append(self, key: str, offset: int, stream: ByteStream, limit: int) -> int:
        """Add at most `limit` bytes at `offset` (the end) and return the new offset.

        Raises UploadOffsetMismatch when the end is elsewhere, also because another writer is at it.
        """
        ...

    def parts(self, key: str, size: int) -> tuple[int, tuple[UploadPart, ...]]:
        """Return the part size and a signed URL per part that is still missing."""
        ...

    def join(self, key: str, parts: Sequence[tuple[int, str]]) -> None:
        """Make one object of the parts (number, etag)."""
        ...

    def verify(self, key: str, sha256: str | None, size: int | None) -> Staged:
        """Make the bytes safe and hash them.  Raises DigestMismatch when they are not what was named."""
        ...

    def stage(self, stream: ByteStream, sha256: str | None, size: int | None, limit: int) -> Staged:
        """Do begin, append and verify at once.  On any error nothing is left behind."""
        ...

    def precopy(self, staged: Staged) -> Staged:
        """Copy ahead of `keep`, so that no transaction waits while many bytes are copied."""
        ...

    def keep(self, staged: Staged) -> None:
        """Make the staged bytes the blob of their sha256; no harm if it is there already.

        Of what was copied ahead, this only makes sure that nobody collected it since.
        """
        ...

    def drop(self, key: str) -> None:
        """Forget an upload, finished or not; no harm if it is unknown."""
        ...

    def size(self, sha256: str) -> int | None:
        """Return a blob's size, or None when it isn't there."""
        ...

    def read(self, sha256: str, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`."""
        ...

    def stream(self, sha256: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop`."""
        ...

    def signed_url(self, sha256: str, filename: str) -> str | None:
        """Return a URL that gives the blob as an attachment for a while, or None if there is no such thing."""
        ...

    def path(self, sha256: str) -> str | None:
        """Return the blob's local path, or None."""
        ...

    def delete(self, sha256: str) -> None:
        """Remove a blob; no harm if it isn't there."""
        ...

    def blobs(self) -> Iterator[StoredBlob]:
        """List what is stored."""
        ...

    def stale_uploads(self, older_than: datetime) -> Iterator[str]:
        """List the keys of uploads that nothing was added to since then."""
        ...

    def check(self) -> None:
        """Raise Unavailable or StorageFull unless the store can be written."""
        ...
