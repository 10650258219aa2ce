"""Move one blob: downloads that resume in any later process, uploads that resume from the server's offset.

Every byte is hashed as it passes.  A download becomes a blob only if its sha256 is the one that was asked for; a copy
that was damaged on the way is fetched once more, then refused.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import httpx2

from hub.client.api import Client
from hub.client.cache import CHUNK_BYTES, Cache, remove_file
from hub.client.connection import Connection
from hub.client.multipart import send_parts
from hub.client.parallel import Stopped
from hub.client.patience import ATTEMPTS, MAX_WAIT_SECONDS, read_range
from hub.client.progress import Observer
from hub.client.records import UploadPlan
from hub.errors import DigestMismatch, IntegrityError, NetworkError, UploadNotFound, UploadOffsetMismatch
from hub.formats.atomic_files import write_atomically
from hub.formats.early_sync import EarlySync
from hub.formats.private_files import make_private_folder
from hub.formats.readable import hash_file
from hub.manifest import FileEntry
from hub.refs import AdapterName

MIN_PROGRESS_BYTES = 64 * 1024
PIECE_BYTES = 256 * 1024 * 1024
"""One request's share of an upload: a proxy that keeps bodies back until they are whole never holds more."""

WAIT_FOR_WRITER_SECONDS = 0.2
_PARTIAL, _RANGE_NOT_SATISFIABLE = 206, 416


# --- down


def download_blob(
    connection: Connection, href: str, entry: FileEntry, cache: Cache, observer: Observer, stop: threading.Event
) -> Path:
    """Return the verified blob in the cache, fetched from `href` if it isn't there.

    One process fetches while others wait for it.  Raises DigestMismatch, NetworkError, StorageFull.
    """

    def say_that_we_wait() -> None:
        observer.note(f"Another process is fetching {entry.path}: waiting for it.")

    with cache.explained(), cache.lock(entry.sha256, say_that_we_wait):
        if cache.has_blob(entry):
            observer.advance(entry.size)
            return cache.blob_path(entry.sha256)
        for _ in range(2):
            download = _Download(connection, href, entry, cache.partial_path(entry.sha256), observer, stop)
            if download.run():
                return cache.store_blob(download.finish(), entry.sha256)
            download.discard()
        raise DigestMismatch(
            f"{entry.path} arrived twice with other bytes than its version names (sha256 {entry.sha256[:12]}…), so it "
            f"was thrown away. Tell the operator of {connection.settings.endpoint} to run: lorahub fsck"
        )


class _Download:
    """One blob on its way into a partial file, which outlives the process."""

    def __init__(
        self,
        connection: Connection,
        href: str,
        entry: FileEntry,
        partial: Path,
        observer: Observer,
        stop: threading.Event,
    ) -> None:
        self._connection, self._href, self._entry, self._partial = connection, href, entry, partial
        self._observer, self._stop = observer, stop
        self._validator = partial.with_name(f"{partial.name}.etag")
        self._hash = hashlib.sha256()
        self._offset = 0
        self._is_hopeless = False

    def run(self) -> bool:
        """Fetch what is missing; return whether the whole is what was asked for."""
        make_private_folder(self._partial.parent)
        # Unbuffered: what has been written survives the death of this process.
        with open(self._partial, "a+b", buffering=0) as file:
            self._take_up(file)
            while self._offset < self._entry.size and not self._is_hopeless:
                self._fetch_patiently(file)
        return self._offset == self._entry.size and self._hash.hexdigest() == self._entry.sha256

    def finish(self) -> Path:
        self._validator.unlink(missing_ok=True)
        return self._partial

    def discard(self) -> None:
        self._observer.advance(-self._offset)
        remove_file(self._partial)
        self._validator.unlink(missing_ok=True)

    def _take_up(self, file: BinaryIO) -> None:
        """Hash what an earlier attempt left."""
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            self._accept(chunk)
        if self._offset > self._entry.size:
            self._restart(file)

    def _fetch_patiently(self, file: BinaryIO) -> None:
        for attempt in self._connection.patience(ATTEMPTS, MAX_WAIT_SECONDS):
            with attempt:
                before = self._offset
                try:
                    self._fetch(file)
                    return
                except NetworkError:
                    if self._offset - before < MIN_PROGRESS_BYTES:
                        raise
                    return

    def _fetch(self, file: BinaryIO) -> None:
        with self._connection.stream("GET", self._href, headers=self._conditions(), follow=True) as response:
            if response.status_code == _RANGE_NOT_SATISFIABLE:
                self._restart(file)
                raise NetworkError("The registry could not resume the download. Try again.")
            self._connection.check(response)
            if not self._continues(response):
                self._restart(file)
            self._is_hopeless = _total_length(response) not in {None, self._entry.size}
            if self._is_hopeless:
                return
            self._keep_validator(response)
            with EarlySync(file.fileno()) as early_sync:
                for chunk in response.iter_raw():
                    if self._stop.is_set():
                        raise Stopped("The download was stopped.")
                    early_sync.write(chunk)
                    self._accept(chunk)
                    if self._offset > self._entry.size:
                        return  # longer than the manifest says: run() refuses it
        if self._offset < self._entry.size:
            raise NetworkError(
                f"The registry ended {self._entry.path} at {self._offset:,} of {self._entry.size:,} bytes. Try again."
            )

    def _conditions(self) -> dict[str, str]:
        if not self._offset:
            return {}
        try:
            validator = self._validator.read_text()
        except FileNotFoundError:
            validator = f'"{self._entry.sha256}"'
        return {"Range": f"bytes={self._offset}-", "If-Range": validator}

    def _continues(self, response: httpx2.Response) -> bool:
        if response.status_code != _PARTIAL:
            return self._offset == 0
        return str(response.headers.get("content-range", "")).startswith(f"bytes {self._offset}-")

    def _keep_validator(self, response: httpx2.Response) -> None:
        etag = str(response.headers.get("etag", ""))
        if etag.startswith('"'):  # a weak one may not be used in If-Range
            write_atomically(self._validator, etag.encode())

    def _accept(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self._offset += len(chunk)
        self._observer.advance(len(chunk))

    def _restart(self, file: BinaryIO) -> None:
        self._observer.advance(-self._offset)
        file.truncate(0)
        self._hash = hashlib.sha256()
        self._offset = 0


def _total_length(response: httpx2.Response) -> int | None:
    """How long the whole file is, as the server says."""
    partial = response.status_code == _PARTIAL
    text = str(response.headers.get("content-range" if partial else "content-length", "")).rpartition("/")[2]
    return int(text) if text.isdigit() else None


# --- up


def upload_blob(
    client: Client,
    name: AdapterName,
    plan: UploadPlan,
    path: Path,
    entry: FileEntry,
    observer: Observer,
    stop: threading.Event,
) -> None:
    """Send one blob and have the registry verify it.

    An upload that expired on the server is begun anew.  A copy damaged on the way is sent once more; then, or when
    the file changed since it was hashed, DigestMismatch is raised.
    """
    current: UploadPlan | None = plan
    for last in (False, False, True):
        if current is None:  # another push has brought it meanwhile
            observer.advance(entry.size)
            return
        upload = _Upload(client.connection, current, path, observer, stop)
        try:
            upload.run()
            return
        except (DigestMismatch, UploadNotFound) as error:
            upload.forget()
            if isinstance(error, DigestMismatch) and hash_file(path)[0] != entry.sha256:
                raise DigestMismatch(f"{path} changed while it was being pushed. Push again.") from error
            if last:
                raise
            current = client.request_uploads(name, [entry])[entry.sha256]


class _Upload:
    """One blob on its way to the registry, which keeps the offset."""

    def __init__(
        self, connection: Connection, plan: UploadPlan, path: Path, observer: Observer, stop: threading.Event
    ) -> None:
        self._connection, self._plan, self._path = connection, plan, path
        self._observer, self._stop = observer, stop
        self._shown = 0
        self._offset = plan.offset
        self._confirmed = False
        self._corrections = 0

    def run(self) -> None:
        if self._plan.mode == "parts":
            send_parts(self._connection, self._plan, self._path, self._observer, self._stop)
            return
        self._show(self._offset)
        # The registry's answer to the last byte says that the blob is stored: having sent it is not enough.
        while not self._confirmed:
            self._send_patiently()

    def forget(self) -> None:
        """Rewind the progress: the registry discarded the upload."""
        self._show(0)

    def _send_patiently(self) -> None:
        for attempt in self._connection.patience(ATTEMPTS, MAX_WAIT_SECONDS):
            with attempt:
                before = self._offset
                try:
                    self._send_piece()
                    return
                except UploadOffsetMismatch as error:
                    self._offset = self._corrected(error)
                except NetworkError:
                    self._offset = self._ask_offset()
                    if self._offset - before < MIN_PROGRESS_BYTES:
                        raise
                self._show(self._offset)
                return

    def _send_piece(self) -> None:
        start, end = self._offset, min(self._offset + PIECE_BYTES, self._plan.size)
        headers = {
            "Upload-Offset": str(start),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(end - start),
        }
        body = self._read(start, end)
        with self._connection.stream("PATCH", self._plan.href, headers=headers, content=body) as response:
            self._connection.check(response)
        self._offset = end
        self._confirmed = end == self._plan.size
        self._show(end)

    def _corrected(self, error: UploadOffsetMismatch) -> int:
        """Return the registry's offset where it differs from ours.  Corrections are bounded."""
        offset = error.details.get("offset")
        self._corrections += 1
        is_sane = isinstance(offset, int) and 0 <= offset <= self._plan.size
        if not is_sane or self._corrections > ATTEMPTS:
            raise IntegrityError("The registry can't say how much of the upload it has. Push again.") from error
        if offset == self._offset:
            # The registry may still be writing a request whose connection broke: wait before asking again.
            self._stop.wait(WAIT_FOR_WRITER_SECONDS * self._corrections)
        return int(str(offset))

    def _ask_offset(self) -> int:
        with self._connection.stream("HEAD", self._plan.href) as response:
            if response.status_code == 404:
                raise UploadNotFound("The upload is not there any more.")
            self._connection.check(response)
            text = response.headers.get("upload-offset", "")
        if not text.isdigit() or int(text) > self._plan.size:
            raise NetworkError("The registry does not say how much of the upload it has. Push again.")
        return int(text)

    def _read(self, start: int, end: int) -> Iterator[bytes]:
        for chunk in read_range(self._path, start, end, self._stop):
            yield chunk
            self._shown += len(chunk)
            self._observer.advance(len(chunk))

    def _show(self, offset: int) -> None:
        self._observer.advance(offset - self._shown)
        self._shown = offset
