"""Shards: which chunks make up which files, as a Xet client sends it.

    header   tag (32) · version 2 (8) · footer size (8)
    files    per file: header · n segments · n range hashes [flag 31] · sha256 [flag 30]     then a bookend
    xorbs    per xorb: header · n chunks                                                     then a bookend
    footer   may be left out; not read

Every record has 48 bytes: a hash, then 16 bytes of numbers.  Only the files are of use here: what is in a xorb is known
from the xorb itself, which was verified when it came.
Source: the Xet protocol specification, "MDB shard file format".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hub.errors import InvalidRequest, TooLarge

from .hash import HASH_BYTES, to_text

MAX_SHARD_BYTES = 16 * 1024 * 1024
MAX_FILES = 1_000
MAX_FILE_BYTES = 2**40
MAX_CHUNKS = 1_000_000
"""That the files of a shard may name, all together: 64 GB in chunks of the usual 64 KiB.  Each one costs a hash, and a
record of 48 bytes can name thousands."""

_TAG = b"HFRepoMetaData\0" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
_VERSION = 2
_RECORD = struct.Struct("<32sIIII")
_WITH_RANGE_HASHES, _WITH_SHA256 = 1 << 31, 1 << 30
_BOOKEND = b"\xff" * HASH_BYTES


class MalformedShard(InvalidRequest):
    code = "malformed_shard"


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of chunks of one xorb: `[start, end)`.  `size` is its length unpacked, in bytes.

    range_hash: what its chunks' hashes must hash to; None if the shard does not say.
    """

    xorb: bytes
    start: int
    end: int
    size: int
    range_hash: bytes | None


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One file: the segments that make it up, in order.  `sha256` has 64 hex digits, `size` is in bytes."""

    file_hash: bytes
    sha256: str
    segments: tuple[Segment, ...]

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self.segments)

    @property
    def chunks(self) -> int:
        return sum(segment.end - segment.start for segment in self.segments)


def parse_shard(data: bytes) -> tuple[ShardFile, ...]:
    """Return the files that a shard describes.  Raises MalformedShard or TooLarge."""
    if len(data) > MAX_SHARD_BYTES:
        raise TooLarge(f"A shard may have {MAX_SHARD_BYTES:,} bytes; this one has {len(data):,}.")
    records = _Records(data)
    chunks = 0
    files: list[ShardFile] = []
    while header := records.next_header():
        if len(files) == MAX_FILES:
            raise TooLarge(f"A shard may describe {MAX_FILES:,} files; this one has more.")
        files.append(_parse_file(records, *header))
        chunks += files[-1].chunks
        if chunks > MAX_CHUNKS:
            raise TooLarge(f"A shard may name {MAX_CHUNKS:,} chunks; this one names more. Send fewer files with it.")
    while xorb := records.next_header():
        records.skip(xorb[2])
    return tuple(files)


class _Records:
    """Reads a shard record by record, never past its end."""

    def __init__(self, data: bytes) -> None:
        if len(data) < 48 or data[:32] != _TAG:
            raise MalformedShard("This is not a Xet shard: its first 32 bytes are others.")
        version = int.from_bytes(data[32:40], "little")
        if version != _VERSION:
            raise MalformedShard(f"Shard version {version} is unknown; {_VERSION} is read.")
        self._data = data
        self._at = 48

    def next(self) -> tuple[bytes, int, int, int, int]:
        if self._at + _RECORD.size > len(self._data):
            raise MalformedShard("The shard ends where a record was announced.")
        record: tuple[bytes, int, int, int, int] = _RECORD.unpack_from(self._data, self._at)
        self._at += _RECORD.size
        return record

    def next_header(self) -> tuple[bytes, int, int] | None:
        """Return (hash, flags, number of entries) of the next block, or None at the section's bookend."""
        name, flags, entries, _, _ = self.next()
        return None if name == _BOOKEND else (name, flags, entries)

    def take(self, count: int) -> list[tuple[bytes, int, int, int, int]]:
        self._check(count)
        return [self.next() for _ in range(count)]

    def skip(self, count: int) -> None:
        self._check(count)
        self._at += count * _RECORD.size

    def _check(self, count: int) -> None:
        """Refuse a count that the rest can't hold before anything is allocated for it."""
        if count * _RECORD.size > len(self._data) - self._at:
            raise MalformedShard(f"The shard announces {count:,} records more than it has.")


def _parse_file(records: _Records, name: bytes, flags: int, entries: int) -> ShardFile:
    rows = records.take(entries)
    proofs = [row[0] for row in records.take(entries)] if flags & _WITH_RANGE_HASHES else [None] * entries
    if not flags & _WITH_SHA256:
        raise MalformedShard(f"The shard gives no sha256 for file {to_text(name)}. Use a current hf_xet.")
    # The client treats a sha256 as one of its own hashes, and so turns its bytes around in eights.
    sha256 = to_text(records.next()[0])
    segments = tuple(_parse_segment(row, proof) for row, proof in zip(rows, proofs, strict=True))
    file = ShardFile(name, sha256, segments)
    if file.size > MAX_FILE_BYTES:
        raise TooLarge(f"A file may have {MAX_FILE_BYTES:,} bytes; the shard describes one of {file.size:,}.")
    return file


def _parse_segment(row: tuple[bytes, int, int, int, int], proof: bytes | None) -> Segment:
    xorb, _, size, start, end = row
    if start >= end:
        raise MalformedShard(f"A segment of xorb {to_text(xorb)} has no chunks: [{start}, {end}).")
    return Segment(xorb, start, end, size, proof)
