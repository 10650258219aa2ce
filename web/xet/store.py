"""Where xorbs wait between their upload and the files that are made of them.

    <root>/<period>/<space>/<hash>      unpacked chunks, end to end · 36 bytes per chunk (hash, size) · count (4)

A *space* belongs to one adapter, so nobody's upload can hit or be hit by another's.  A *period* is a week: clients
remember for weeks which chunks they have sent, and fail for good if those are gone.  They keep that memory per address,
so a new period, which has a new address, starts them afresh, and an old one can be removed as a whole.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hub.errors import DigestMismatch, InvalidRequest, NotFound, QuotaExceeded
from hub.formats.atomic_files import replacing

from .hash import HASH_BYTES, Leaf, hash_xorb, to_text
from .shard import Segment
from .xorb import Stream, leaf_of, read_chunks

PERIOD_SECONDS = 7 * 24 * 3600
_ENTRY = struct.Struct(f"<{HASH_BYTES}sI")
_COUNT = struct.Struct("<I")
_PERIOD = re.compile(r"[0-9]{1,9}\Z")
_COPY_BYTES = 1024 * 1024


class XorbNotFound(NotFound):
    code = "xorb_not_found"


@dataclass(frozen=True, slots=True)
class StoredXorb:
    """A xorb on disk: its chunks, and the file whose first bytes are theirs."""

    path: Path
    leaves: tuple[Leaf, ...]

    def offset(self, chunk: int) -> int:
        return sum(leaf.size for leaf in self.leaves[:chunk])

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes of the chunks `[start, end)`."""
        missing = sum(leaf.size for leaf in self.leaves[start:end])
        with self.path.open("rb") as file:
            file.seek(self.offset(start))
            while missing and (data := file.read(min(missing, _COPY_BYTES))):
                yield data
                missing -= len(data)


@dataclass(frozen=True, slots=True)
class XorbSpace:
    """The xorbs of one adapter in one period."""

    folder: Path
    max_bytes: int

    def has(self, name: bytes) -> bool:
        return self._path(name).exists()

    def add(self, name: bytes, stream: Stream) -> bool:
        """Unpack, verify and keep a xorb; return False if it was here already.

        Raises MalformedXorb, TooLarge, QuotaExceeded, and DigestMismatch if its chunks don't hash to `name`.
        """
        if self.has(name):
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_room()
        with replacing(self._path(name)) as file:
            leaves = _unpack(stream, file)
            if hash_xorb(leaves) != name:
                raise DigestMismatch(f"The xorb's chunks hash to {to_text(hash_xorb(leaves))}, not {to_text(name)}.")
            _write_index(file, leaves)
        return True

    def open(self, name: bytes) -> StoredXorb:
        """Raises XorbNotFound if it was never sent here, or if its period is over."""
        path = self._path(name)
        try:
            with path.open("rb") as file:
                return StoredXorb(path, _read_index(file))
        except FileNotFoundError:
            raise XorbNotFound(f"Xorb {to_text(name)} was not uploaded to this adapter. Upload it again.") from None

    def segment(self, segment: Segment) -> tuple[StoredXorb, tuple[Leaf, ...]]:
        """Return the xorb of a segment and the segment's chunks.  Raises XorbNotFound or InvalidRequest."""
        xorb = self.open(segment.xorb)
        leaves = xorb.leaves[segment.start : segment.end]
        if segment.end > len(xorb.leaves) or sum(leaf.size for leaf in leaves) != segment.size:
            raise InvalidRequest(
                f"A segment takes chunks {segment.start} to {segment.end} of xorb {to_text(segment.xorb)} as "
                f"{segment.size:,} bytes; that xorb has {len(xorb.leaves)} chunks and other sizes."
            )
        return xorb, leaves

    def _check_room(self) -> None:
        used = sum(_size_of(entry) for entry in os.scandir(self.folder))
        if used > self.max_bytes:
            raise QuotaExceeded(f"{used:,} bytes of chunks wait for this adapter already; {self.max_bytes:,} may.")

    def _path(self, name: bytes) -> Path:
        return self.folder / to_text(name)


@dataclass(frozen=True, slots=True)
class XorbStore:
    """All spaces below one folder.  `max_bytes` bounds each of them."""

    root: Path
    max_bytes: int

    def current_period(self) -> int:
        return int(time.time()) // PERIOD_SECONDS

    def space(self, period: str, key: str) -> XorbSpace:
        """Return one space.  Raises XorbNotFound once its period, and the one after it, are over."""
        if not _PERIOD.match(period) or not 0 <= self.current_period() - int(period) <= 1:
            raise XorbNotFound("This upload address has expired. Start the upload again.")
        return XorbSpace(self.root / period / key, self.max_bytes)

    def sweep(self) -> None:
        """Remove the periods that no client can use any more, and what crashed writers left behind."""
        if not self.root.exists():
            return
        for folder in list(self.root.iterdir()):
            if _PERIOD.match(folder.name) and int(folder.name) < self.current_period() - 1:
                shutil.rmtree(folder, ignore_errors=True)


def _size_of(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError:
        # Somebody else's upload was dropped, or put in place, in this very moment.
        return 0


def _unpack(stream: Stream, file: BinaryIO) -> tuple[Leaf, ...]:
    leaves = []
    for chunk in read_chunks(stream):
        file.write(chunk)
        leaves.append(leaf_of(chunk))
    return tuple(leaves)


def _write_index(file: BinaryIO, leaves: tuple[Leaf, ...]) -> None:
    for leaf in leaves:
        file.write(_ENTRY.pack(*leaf))
    file.write(_COUNT.pack(len(leaves)))


def _read_index(file: BinaryIO) -> tuple[Leaf, ...]:
    file.seek(-_COUNT.size, os.SEEK_END)
    (count,) = _COUNT.unpack(file.read(_COUNT.size))
    file.seek(-_COUNT.size - count * _ENTRY.size, os.SEEK_END)
    return tuple(Leaf(*entry) for entry in _ENTRY.iter_unpack(file.read(count * _ENTRY.size)))
