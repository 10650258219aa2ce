"""Builds xorbs and shards as a Xet client does, for tests that send malformed ones."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import lz4.frame

from hub.web.xet.hash import Leaf, from_text, hash_chunk, hash_file, hash_range, hash_xorb

TAG = b"HFRepoMetaData\0" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
RECORD = struct.Struct("<32sIIII")
BOOKEND = RECORD.pack(b"\xff" * 32, 0, 0, 0, 0)


def group(data: bytes) -> bytes:
    return b"".join(data[place::4] for place in range(4))


def pack_chunk(data: bytes, scheme: int) -> bytes:
    packed = {0: lambda: data, 1: lambda: lz4.frame.compress(data), 2: lambda: lz4.frame.compress(group(data))}[
        scheme
    ]()
    return b"\0" + len(packed).to_bytes(3, "little") + bytes([scheme]) + len(data).to_bytes(3, "little") + packed


@dataclass(frozen=True)
class Pack:
    chunks: tuple[bytes, ...]
    schemes: tuple[int, ...] = ()

    @property
    def leaves(self) -> list[Leaf]:
        return [Leaf(hash_chunk(chunk), len(chunk)) for chunk in self.chunks]

    @property
    def name(self) -> bytes:
        return hash_xorb(self.leaves)

    @property
    def sent(self) -> bytes:
        schemes = self.schemes or (0,) * len(self.chunks)
        return b"".join(pack_chunk(chunk, scheme) for chunk, scheme in zip(self.chunks, schemes, strict=True))


def write_shard(files: Sequence[tuple[Pack, str, Sequence[tuple[int, int]]]]) -> bytes:
    """files: (pack, sha256 in hex, [(first chunk, end), …]) each."""
    parts = [TAG + struct.pack("<QQ", 2, 0)]
    for pack, sha256, ranges in files:
        leaves = [leaf for start, end in ranges for leaf in pack.leaves[start:end]]
        parts.append(RECORD.pack(hash_file(leaves), 3 << 30, len(ranges), 0, 0))
        for start, end in ranges:
            parts.append(RECORD.pack(pack.name, 0, sum(leaf.size for leaf in pack.leaves[start:end]), start, end))
        for start, end in ranges:
            parts.append(RECORD.pack(hash_range(leaf.hash for leaf in pack.leaves[start:end]), 0, 0, 0, 0))
        parts.append(RECORD.pack(from_text(sha256), 0, 0, 0, 0))
    return b"".join([*parts, BOOKEND, BOOKEND])


def shard_of(xorb: bytes, segments: int, chunks: int, size: int) -> bytes:
    """Return a shard of one file with wrong hashes: `segments` times the first `chunks` chunks of a xorb."""
    segment = RECORD.pack(xorb, 0, size, 0, chunks)
    sha256 = RECORD.pack(bytes(range(32)), 0, 0, 0, 0)
    head = TAG + struct.pack("<QQ", 2, 0) + RECORD.pack(bytes(32), 1 << 30, segments, 0, 0)
    return b"".join([head, segment * segments, sha256, BOOKEND, BOOKEND])
