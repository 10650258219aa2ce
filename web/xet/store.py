"""Where xorbs wait between their upload and the files that are made of them.

    <root>/<period>/<owner>/<space>/<hash>    chunks, end to end · per chunk its hash (32) and its end (4) · count (4)

So a run of chunks is found by reading its own part of the index: a shard that names a xorb a thousand times costs a
thousand small reads, and no memory.
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
from dataclasses import dataclass, field
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO

from hub.errors import DigestMismatch, InvalidRequest, NotFound, QuotaExceeded
from hub.formats.atomic_files import replacing
from hub.formats.private_files import make_private_folder

from .hash import HASH_BYTES, Leaf, hash_xorb, to_text
from .shard import Segment
from .xorb import Stream, leaf_of, read_chunks

PERIOD_SECONDS = 7 * 24 * 3600
_ENTRY = struct.Struct(f"<{HASH_BYTES}sI")
_COUNT = struct.Struct("<I")
_PERIOD = re.compile(r"(0|[1-9][0-9]{0,8})\Z")  # written in one way only, or each way were a space of its own
_COPY_BYTES = 1024 * 1024


class XorbNotFound(NotFound):
    code = "xorb_not_found"


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring chunks of a xorb on disk.  start, size: of their bytes in the file at `path`."""

    path: Path
    start: int
    size: int
    index: bytes = field(repr=False)

    def leaves(self) -> Iterator[Leaf]:
        start = self.start
        for name, end in _ENTRY.iter_unpack(self.index):
            yield Leaf(name, end - start)
            start = end

    def read(self) -> Iterator[bytes]:
        """Yield the bytes of the chunks."""
        missing = self.size
        with self.path.open("rb") as file:
            file.seek(self.start)
            while missing and (data := file.read(min(missing, _COPY_BYTES))):
                yield data
                missing -= len(data)


@dataclass(frozen=True, slots=True)
class XorbSpace:
    """The xorbs of one adapter in one period.

    quota_bytes: what all spaces of its owner may have together, over all periods; None is without limit.
    """

    folder: Path
    max_bytes: int
    quota_bytes: int | None = None

    def has(self, name: bytes) -> bool:
        return self._path(name).exists()

    def add(self, name: bytes, stream: Stream) -> bool:
        """Unpack, verify and keep a xorb; return False if it was here already.

        Raises MalformedXorb, TooLarge, QuotaExceeded, and DigestMismatch if its chunks don't hash to `name`.
        """
        if self.has(name):
            return False
        make_private_folder(self.folder)
        self._check_room()
        with replacing(self._path(name)) as file:
            leaves = _unpack(stream, file)
            if hash_xorb(leaves) != name:
                raise DigestMismatch(f"The xorb's chunks hash to {to_text(hash_xorb(leaves))}, not {to_text(name)}.")
            _write_index(file, leaves)
            file.flush()
            self._check_quota()
        return True

    def run(self, segment: Segment) -> Run:
        """Return the chunks of a segment.

        Raises XorbNotFound if its xorb was never sent here, or its period is over; InvalidRequest if it has others.
        """
        path = self._path(segment.xorb)
        try:
            with path.open("rb", buffering=0) as file:
                run = _read_run(path, file, segment)
        except FileNotFoundError:
            missing = f"Xorb {to_text(segment.xorb)} was not uploaded to this adapter. Upload it again."
            raise XorbNotFound(missing) from None
        if run is None or run.size != segment.size:
            raise InvalidRequest(
                f"A segment takes chunks {segment.start} to {segment.end} of xorb {to_text(segment.xorb)} as "
                f"{segment.size:,} bytes; that xorb has other chunks."
            )
        return run

    def _check_room(self) -> None:
        used = sum(_size_of(entry) for entry in os.scandir(self.folder))
        if used > self.max_bytes:
            raise QuotaExceeded(f"{used:,} bytes of chunks wait for this adapter already; {self.max_bytes:,} may.")
        self._check_quota()

    def _check_quota(self) -> None:
        if self.quota_bytes is None:
            return
        owner, periods = self.folder.parent.name, self.folder.parent.parent.parent
        used = sum(_size_of(entry) for space in periods.glob(f"*/{owner}/*") for entry in os.scandir(space))
        if used > self.quota_bytes:
            raise QuotaExceeded(
                f"{used:,} bytes of chunks would wait for this namespace, and its quota is {self.quota_bytes:,}."
            )

    def _path(self, name: bytes) -> Path:
        return self.folder / to_text(name)


@dataclass(frozen=True, slots=True)
class XorbStore:
    """All spaces below one folder.  `max_bytes` bounds each of them."""

    root: Path
    max_bytes: int

    def current_period(self) -> int:
        return int(time.time()) // PERIOD_SECONDS

    def space(self, period: str, key: str, owner: str, quota_bytes: int | None = None) -> XorbSpace:
        """Return one space of an owner's.  Raises XorbNotFound once its period, and the one after it, are over."""
        if not _PERIOD.match(period) or not 0 <= self.current_period() - int(period) <= 1:
            raise XorbNotFound("This upload address has expired. Start the upload again.")
        return XorbSpace(self.root / period / owner / key, self.max_bytes, quota_bytes)

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
        # Another upload was dropped, or moved into place, concurrently.
        return 0


def _unpack(stream: Stream, file: BinaryIO) -> tuple[Leaf, ...]:
    leaves = []
    for chunk in read_chunks(stream):
        file.write(chunk)
        leaves.append(leaf_of(chunk))
    return tuple(leaves)


def _write_index(file: BinaryIO, leaves: tuple[Leaf, ...]) -> None:
    end = 0
    for leaf in leaves:
        end += leaf.size
        file.write(_ENTRY.pack(leaf.hash, end))
    file.write(_COUNT.pack(len(leaves)))


def _read_run(path: Path, file: RawIOBase, segment: Segment) -> Run | None:
    """Read one part of the index; None if the xorb has no such chunks."""
    (count,) = _COUNT.unpack(_read_at(file, -_COUNT.size, _COUNT.size))
    if segment.end > count:
        return None
    before = min(segment.start, 1)  # the entry that says where the first chunk begins
    entries = segment.end - segment.start + before
    behind = (count - segment.start + before) * _ENTRY.size + _COUNT.size
    index = _read_at(file, -behind, entries * _ENTRY.size)
    start = _ENTRY.unpack_from(index)[1] if before else 0
    _, end = _ENTRY.unpack_from(index, len(index) - _ENTRY.size)
    return Run(path, start, end - start, index[before * _ENTRY.size :])


def _read_at(file: RawIOBase, place: int, size: int) -> bytes:
    file.seek(place, os.SEEK_END)
    return file.read(size) or b""
