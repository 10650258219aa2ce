"""The hashes of a blob, computed while its bytes stream through."""

from __future__ import annotations

import hashlib

from hub.errors import DigestMismatch
from hub.registry.storage.store import GIT_SHA1_LIMIT


class BlobHash:
    """sha256 of a stream, and, when its size is known and small, its id as a git blob."""

    def __init__(self, size: int | None) -> None:
        self._sha256 = hashlib.sha256()
        self._git = None
        self._size = size
        self.count = 0
        if size is not None and size <= GIT_SHA1_LIMIT:
            # Not a security measure: it is git's id of a file, which the Hugging Face wire uses.
            self._git = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)

    def update(self, data: bytes) -> None:
        self._sha256.update(data)
        if self._git is not None:
            self._git.update(data)
        self.count += len(data)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def git_sha1(self) -> str | None:
        """None for large blobs and for streams that were not as long as announced."""
        return self._git.hexdigest() if self._git is not None and self.count == self._size else None

    @property
    def is_complete(self) -> bool:
        """Whether all is known that can be: a small stream of unknown length has no git id yet."""
        return self.git_sha1 is not None or self.count > GIT_SHA1_LIMIT

    def check(self, sha256: str | None, size: int | None) -> None:
        """Raise DigestMismatch unless the bytes are the ones that were announced."""
        if size is not None and size != self.count:
            raise DigestMismatch(f"{size:,} bytes were announced and {self.count:,} came. Send the file again.")
        if sha256 is not None and sha256 != self.sha256:
            raise DigestMismatch(
                f"The bytes have sha256 {self.sha256[:12]}…, not the announced {sha256[:12]}…: they changed on the "
                "way or on the sender's disk. Nothing was kept; send the file again."
            )
