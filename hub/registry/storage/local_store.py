"""Blobs in a local folder.

    ROOT/
      blobs/ab/abcdef…           one file per blob, named by its sha256, read-only, for the server alone
      uploads/<32 hex>           bytes that gather; renamed into blobs/ once they are verified and synced

Every blob was written to uploads/, fsynced, renamed, and its folder fsynced, in this order: after a crash it is
whole or not there.  An upload's length is its offset, so no second record of it can be wrong.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from hub.errors import FileNotFound, StorageFull, Unavailable, UploadNotFound, UploadOffsetMismatch
from hub.formats.early_sync import EarlySync
from hub.formats.private_files import close_to_others, make_private_folder
from hub.formats.readable import SHA256_HEX, read_at
from hub.registry.storage.file_access import BINARY, lock, sync_folder
from hub.registry.storage.hashing import BlobHash
from hub.registry.storage.store import DiskFailed, Staged, StoredBlob
from hub.registry.storage.streams import CHUNK_BYTES, ByteStream, chunks
from hub.registry.values import UploadPart

_KEY = re.compile(r"[0-9a-f]{32}\Z")
# Probing whether an upload is being written locks it for a moment; a writer waits that long, but not for other writers.
LOOK_SECONDS = 0.5
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class LocalStore:
    """See the module.  Several processes may share the folder."""

    takes_parts = False

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()
        self._blobs = self.root / "blobs"
        self._uploads = self.root / "uploads"
        # Running hashes of uploads that this process received from their start: verify need not read them again.
        self._seen: dict[str, BlobHash] = {}
        with _translated_errors():
            for folder in (self.root, self._blobs, self._uploads):
                make_private_folder(folder)
                close_to_others(folder)

    def begin(self, size: int) -> str:
        key = secrets.token_hex(16)
        with _translated_errors():
            os.close(os.open(self._upload_path(key), os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o600))
        return key

    def offset(self, key: str) -> int:
        with _translated_errors():
            try:
                return self._upload_path(key).stat().st_size
            except FileNotFoundError as error:
                raise _no_upload() from error

    def can_resume(self, key: str, size: int) -> bool:
        try:
            # Their length decides for most; only the rest is probed for a writer.
            if not 0 < self.offset(key) < size:
                return False
            with _translated_errors(), self._locked(key, wait=0.0) as file:
                return 0 < os.fstat(file).st_size < size
        except (UploadNotFound, UploadOffsetMismatch):
            return False

    def append(self, key: str, offset: int, stream: ByteStream, limit: int) -> int:
        return self._append(key, offset, stream, limit, BlobHash(limit))

    def _append(self, key: str, offset: int, stream: ByteStream, limit: int, fresh: BlobHash) -> int:
        with _translated_errors(), self._locked(key) as file:
            end = os.fstat(file).st_size
            if end != offset:
                raise _other_offset(end)
            hash_so_far = self._seen.pop(key, None) if offset else fresh
            os.lseek(file, offset, os.SEEK_SET)
            with EarlySync(file) as early_sync:
                for piece in chunks(stream, limit):
                    early_sync.write(piece)
                    offset += len(piece)
                    if hash_so_far is not None:
                        hash_so_far.update(piece)
            if hash_so_far is not None and hash_so_far.count == offset:
                self._remember(key, hash_so_far)
            return offset

    def parts(self, key: str, size: int) -> tuple[int, tuple[UploadPart, ...]]:
        raise Unavailable("A local store takes bytes through the server, not in parts.")

    def join(self, key: str, parts: Sequence[tuple[int, str]]) -> None:
        raise Unavailable("A local store takes bytes through the server, not in parts.")

    def verify(self, key: str, sha256: str | None, size: int | None) -> Staged:
        with _translated_errors(), self._locked(key) as file:
            os.fsync(file)
            seen = self._seen.pop(key, None)
            length = os.fstat(file).st_size
            is_whole = seen is not None and seen.count == length and seen.is_complete
            digest = seen if seen is not None and is_whole else _hash(file, length)
        digest.check(sha256, size)
        return Staged(key, digest.sha256, length, digest.git_sha1)

    def stage(self, stream: ByteStream, sha256: str | None, size: int | None, limit: int) -> Staged:
        key = self.begin(size or 0)
        try:
            # Accept one byte more than announced, so that a too-long stream is detected instead of truncated.
            self._append(key, 0, stream, limit if size is None else min(size + 1, limit), BlobHash(size))
            return self.verify(key, sha256, size)
        except BaseException:
            self.drop(key)
            raise

    def precopy(self, staged: Staged) -> Staged:
        return staged  # a rename is quick, and one that was made ahead would leave files without rows

    def keep(self, staged: Staged) -> None:
        source, target = self._upload_path(staged.key), self._blob_path(staged.sha256)
        with _translated_errors():
            try:
                self._move(source, target)
            except OSError:
                # After a failed move the bytes can't be trusted: the client starts again.
                source.unlink(missing_ok=True)
                raise

    def _move(self, source: Path, target: Path) -> None:
        if not target.parent.exists():
            target.parent.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self._blobs)
        if source.exists():
            source.chmod(0o400)
            source.replace(target)
            sync_folder(target.parent)
        elif not target.exists():
            raise Unavailable("The uploaded bytes are gone from the server. Send the file again.")

    def drop(self, key: str) -> None:
        self._seen.pop(key, None)
        with _translated_errors():
            self._upload_path(key).unlink(missing_ok=True)

    def size(self, sha256: str) -> int | None:
        with _translated_errors():
            try:
                return self._blob_path(sha256).stat().st_size
            except FileNotFoundError:
                return None

    def read(self, sha256: str, offset: int, size: int) -> bytes:
        with _translated_errors(), self._open(sha256) as file:
            return read_at(file, size, offset)

    def stream(self, sha256: str, start: int, stop: int) -> Iterator[bytes]:
        with _translated_errors(), self._open(sha256) as file:
            while start < stop:
                piece = read_at(file, min(CHUNK_BYTES, stop - start), start)
                if not piece:
                    raise Unavailable(f"The stored file {sha256[:12]}… is shorter than it should be. Run: lorahub fsck")
                yield piece
                start += len(piece)

    def signed_url(self, sha256: str, filename: str) -> str | None:
        return None

    def path(self, sha256: str) -> str | None:
        return str(self._blob_path(sha256))

    def delete(self, sha256: str) -> None:
        with _translated_errors():
            self._blob_path(sha256).unlink(missing_ok=True)

    def blobs(self) -> Iterator[StoredBlob]:
        for folder in sorted(self._blobs.iterdir()):
            for path in sorted(folder.iterdir()):
                if not SHA256_HEX.match(path.name):
                    continue
                try:
                    found = path.stat()
                except FileNotFoundError:  # collected concurrently
                    continue
                yield StoredBlob(path.name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def stale_uploads(self, older_than: datetime) -> Iterator[str]:
        for path in self._uploads.iterdir():
            try:
                changed = path.stat().st_mtime
            except FileNotFoundError:  # finished or dropped concurrently
                continue
            if _KEY.match(path.name) and changed < older_than.timestamp():
                yield path.name

    def check(self) -> None:
        key = self.begin(0)
        try:
            self.append(key, 0, _Probe(), 1)
        finally:
            self.drop(key)

    def _upload_path(self, key: str) -> Path:
        if not _KEY.match(key):
            raise _no_upload()
        return self._uploads / key

    def _blob_path(self, sha256: str) -> Path:
        if not SHA256_HEX.match(sha256):
            raise FileNotFound("No blob has this name.")
        return self._blobs / sha256[:2] / sha256

    @contextmanager
    def _locked(self, key: str, wait: float = LOOK_SECONDS) -> Iterator[int]:
        """Open and lock an upload; to probe for a writer (can_resume), don't wait."""
        try:
            file = os.open(self._upload_path(key), os.O_RDWR | BINARY)
        except FileNotFoundError as error:
            raise _no_upload() from error
        try:
            with lock(file, key, wait) as is_ours:
                if not is_ours:
                    raise _other_offset(os.fstat(file).st_size)
                yield file
        finally:
            os.close(file)

    @contextmanager
    def _open(self, sha256: str) -> Iterator[int]:
        try:
            file = os.open(self._blob_path(sha256), os.O_RDONLY | BINARY)
        except FileNotFoundError as error:
            raise FileNotFound(f"The blob {sha256[:12]}… is not in the store. Run: lorahub fsck") from error
        try:
            yield file
        finally:
            os.close(file)

    def _remember(self, key: str, digest: BlobHash) -> None:
        while len(self._seen) >= 256:  # uploads that were abandoned here must not pile up
            self._seen.pop(next(iter(self._seen)), None)
        self._seen[key] = digest


class _Probe:
    """One byte, once: enough to see whether the store can be written."""

    def __init__(self) -> None:
        self._left = b"."

    def read(self, size: int = -1, /) -> bytes:
        piece, self._left = self._left, b""
        return piece


def _hash(file: int, length: int) -> BlobHash:
    digest = BlobHash(length)
    offset = 0
    while piece := read_at(file, CHUNK_BYTES, offset):
        digest.update(piece)
        offset += len(piece)
    return digest


def _no_upload() -> UploadNotFound:
    return UploadNotFound("There is no such upload: it was finished, or it expired. Start a new one.")


def _other_offset(end: int) -> UploadOffsetMismatch:
    return UploadOffsetMismatch(f"The upload stands at byte {end:,}: continue there.", offset=end)


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(
                "The store's disk is full: nothing was stored. Free some space, then try again."
            ) from error
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            raise Unavailable("The server has no file handles left. Try again in a moment.") from error
        name = errno.errorcode.get(error.errno or 0, "unknown")
        raise DiskFailed(f"The store's disk failed ({name}): nothing was stored. Try again; see the log.") from error
