"""The upstream's cache on disk: files by ETag, answers by URL.

    <root>/files/<etag>               verified: an ETag is the sha256 of the bytes, or their git blob id
    <root>/answers/ab/<sha256>.json   the last answer to one address, in 256 folders of at most 200 answers each

The least recently used files are evicted first.  A disk error is logged and stops nothing: the upstream is asked again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hub.errors import DigestMismatch
from hub.formats.atomic_files import write_atomically
from hub.formats.private_files import make_private_folder

MAX_ANSWERS_PER_FOLDER = 200
ABANDONED_SECONDS = 24 * 3600
"""After so long without a write, what is half written has no writer any more."""

_ETAG = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})\Z")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UpstreamCache:
    root: Path
    max_bytes: int

    def find(self, etag: str, size: int) -> Path | None:
        """Return the cached file with this ETag and size, if any, and mark it as used.

        It may be gone when it is opened: another worker may evict it at any time.
        """
        if not _ETAG.match(etag):
            return None
        path = self.root / "files" / etag
        try:
            os.utime(path)
            if path.stat().st_size != size:
                return None
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("a file of the upstream can't be looked for: %s", error)
            return None
        return path

    def keep(self, etag: str, size: int, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield `blocks`, and cache them once they are complete and verified.

        The last block is held back until then, so a reader never gets a complete file of wrong bytes.
        Raises DigestMismatch.
        """
        if not _ETAG.match(etag):
            yield from blocks
            return
        arrival = _Arrival(self.root / "files")
        try:
            held = yield from _copy(blocks, arrival, _hasher(etag, size), etag)
            if arrival.settle(etag):
                with _passing_over("no room is made for files of the upstream"):
                    self._make_room()
            yield held
        finally:
            arrival.drop()

    def remember(self, address: str, answer: dict[str, Any]) -> None:
        """Cache the answer to a URL, for when the upstream is down, or for good if it is immutable."""
        path = self._answer(address)
        with _passing_over("an answer of the upstream is not kept"):
            make_private_folder(path.parent)
            _drop_abandoned(path.parent)
            _drop_oldest(path.parent, MAX_ANSWERS_PER_FOLDER - 1)
            write_atomically(path, json.dumps(answer).encode())

    def recall(self, address: str) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = json.loads(self._answer(address).read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("an answer of the upstream can't be read: %s", error)
            return None
        return answer

    def _answer(self, address: str) -> Path:
        name = hashlib.sha256(address.encode()).hexdigest()
        return self.root / "answers" / name[:2] / f"{name}.json"

    def _make_room(self) -> None:
        """Evict the least recently used files until the rest fits."""
        entries = []
        for entry in os.scandir(self.root / "files"):
            with suppress(FileNotFoundError):  # another worker is evicting, too
                if _ETAG.match(entry.name):
                    entries.append((entry.stat(), entry.path))
        total = sum(stat.st_size for stat, _ in entries)
        for stat, path in sorted(entries, key=lambda entry: entry[0].st_mtime):
            if total <= self.max_bytes:
                return
            Path(path).unlink(missing_ok=True)
            total -= stat.st_size


class _Arrival:
    """A file on its way into the cache.  If the disk fails, caching stops, and the reader doesn't notice."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        with self._giving_up():
            make_private_folder(folder)
            _drop_abandoned(folder)  # before more arrives: they may be what fills the disk
            handle, self._temporary = tempfile.mkstemp(dir=folder, prefix=".receiving-")
            self._file = os.fdopen(handle, "wb")

    def write(self, block: bytes) -> None:
        if self._file is not None:
            with self._giving_up():
                self._file.write(block)

    def settle(self, name: str) -> bool:
        """Move the complete file into place; return whether it is there now."""
        if self._file is not None:
            with self._giving_up():
                self._file.flush()
                os.fsync(self._file.fileno())  # else a power cut could leave the name with wrong bytes
                self._file.close()
                os.replace(self._temporary, self._folder / name)
                self._file = None
                return True
        return False

    def drop(self) -> None:
        """Remove the temporary file."""
        if self._file is not None:
            with suppress(OSError):  # closing tries once more to write the buffer
                self._file.close()
            with suppress(OSError):
                os.unlink(self._temporary)
            self._file = None

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            log.warning("a file of the upstream is not kept: %s", error)
            self.drop()


@contextmanager
def _passing_over(what: str) -> Iterator[None]:
    """Log an error of the disk and go on: the answer isn't lost, it only has to be fetched again next time."""
    try:
        yield
    except OSError as error:
        log.warning("%s: %s", what, error)


def _drop_abandoned(folder: Path) -> None:
    """Remove half-written files of killed workers: no limit counts them, and nothing else deletes them."""
    limit = time.time() - ABANDONED_SECONDS
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):  # another worker was here first
            if entry.name.startswith(".") and entry.stat().st_mtime < limit:
                os.unlink(entry.path)


def _drop_oldest(folder: Path, keep: int) -> None:
    """Remove the answers written the longest ago, so that requests for invented URLs can't fill the disk."""
    names = [entry.path for entry in os.scandir(folder) if not entry.name.startswith(".")]
    if len(names) > keep:
        for path in sorted(names, key=_written_at, reverse=True)[keep:]:
            Path(path).unlink(missing_ok=True)


def _written_at(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        # Another worker was here first.
        return 0.0


def _copy(blocks: Iterable[bytes], file: _Arrival, digest: Any, etag: str) -> Generator[bytes, None, bytes]:
    """Write and yield all blocks but the last, which is returned once the hash is verified."""
    held = b""
    for block in blocks:
        if held:
            yield held
        file.write(block)
        digest.update(block)
        held = block
    if digest.hexdigest() != etag:
        raise DigestMismatch(f"The upstream sent bytes of {digest.hexdigest()[:12]}…, not {etag[:12]}…. Try again.")
    return held  # the caller takes it from `yield from`


def _hasher(etag: str, size: int) -> Any:
    if len(etag) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
