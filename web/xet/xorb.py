"""Xorbs: packs of compressed chunks, as a Xet client sends them.

    chunk   version 0 (1) · packed size (3) · scheme (1) · size (3) · packed bytes       all little-endian
    xorb    chunk, chunk, …   [footer that starts with "XETBLOB": older clients; not needed, not read]

A xorb is hostile until its hash has been computed again from what it unpacks to.  Every size is bounded before memory
is taken for it: a chunk, a pack, the number of chunks.
Source: the Xet protocol specification, "Xorb formation & serialization".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import lz4.frame

from hub.errors import InvalidRequest, TooLarge

from .hash import Leaf, hash_chunk

MAX_CHUNK_BYTES = 128 * 1024
MAX_XORB_BYTES = 64 * 1024 * 1024
MAX_CHUNKS = 32 * 1024
"""A pack of 64 MiB has about 1,000 chunks; a tiny file is one chunk of its own, so many of these may share a pack."""

_HEADER_BYTES = 8
_FOOTER_MARK = b"XETBLOB"
_STORED, _LZ4, _GROUPED_LZ4 = 0, 1, 2
# LZ4 adds a frame around data that it can't shrink.
_MAX_PACKED_BYTES = MAX_CHUNK_BYTES + 4096
_MAX_SENT_BYTES = MAX_XORB_BYTES + MAX_CHUNKS * 64


class Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


class MalformedXorb(InvalidRequest):
    code = "malformed_xorb"


def read_chunks(stream: Stream) -> Iterator[bytes]:
    """Yield the chunks of a xorb, unpacked, at most 128 KiB each.  Raises MalformedXorb or TooLarge."""
    total = sent = count = 0
    while header := _read_header(stream):
        packed_size, scheme, size = _parse_header(header)
        count, total, sent = count + 1, total + size, sent + packed_size + _HEADER_BYTES
        if count > MAX_CHUNKS or total > MAX_XORB_BYTES or sent > _MAX_SENT_BYTES:
            raise TooLarge(
                f"A xorb may unpack to {MAX_XORB_BYTES:,} bytes in {MAX_CHUNKS:,} chunks; this one has more."
            )
        yield unpack_chunk(_read_exactly(stream, packed_size), scheme, size)


def leaf_of(chunk: bytes) -> Leaf:
    return Leaf(hash_chunk(chunk), len(chunk))


def unpack_chunk(packed: bytes, scheme: int, size: int) -> bytes:
    """Return the `size` bytes that `packed` stands for, and never make more.  Raises MalformedXorb."""
    if scheme == _STORED:
        data = packed
    elif scheme == _LZ4:
        data = _decompress(packed, size)
    elif scheme == _GROUPED_LZ4:
        data = _ungroup(_decompress(packed, size))
    else:
        raise MalformedXorb(f"Compression scheme {scheme} is unknown; 0, 1 and 2 are read.")
    if len(data) != size:
        raise MalformedXorb(f"A chunk says that it has {size:,} bytes, and unpacks to {len(data):,}.")
    return data


def _read_header(stream: Stream) -> bytes:
    """Return the next chunk's header; nothing at the end of the xorb, or where its footer starts."""
    header = _read_up_to(stream, _HEADER_BYTES)
    if not header or header.startswith(_FOOTER_MARK):
        return b""
    if len(header) < _HEADER_BYTES:
        raise MalformedXorb(f"The xorb ends inside a chunk's header, after {len(header)} of {_HEADER_BYTES} bytes.")
    return header


def _parse_header(header: bytes) -> tuple[int, int, int]:
    """Return (packed size, scheme, size) of one chunk, each within its bound."""
    if header[0] != 0:
        raise MalformedXorb(f"Chunk version {header[0]} is unknown; 0 is read.")
    packed_size, size = int.from_bytes(header[1:4], "little"), int.from_bytes(header[5:8], "little")
    if size > MAX_CHUNK_BYTES or packed_size > _MAX_PACKED_BYTES:
        raise TooLarge(f"A chunk may have {MAX_CHUNK_BYTES:,} bytes; this one says {size:,} ({packed_size:,} packed).")
    if size == 0 or packed_size == 0:
        raise MalformedXorb("A chunk has at least one byte.")
    return packed_size, header[4], size


def _decompress(packed: bytes, size: int) -> bytes:
    """Unpack one LZ4 frame into at most `size` bytes."""
    unpacker = lz4.frame.LZ4FrameDecompressor()
    try:
        # One byte more than was promised is enough to see that there is more.
        data: bytes = unpacker.decompress(packed, max_length=size + 1)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise MalformedXorb(f"A chunk is not an LZ4 frame: {error}.") from error
    if not unpacker.eof and len(data) <= size:
        raise MalformedXorb("A chunk's LZ4 frame is cut short.")
    if unpacker.unused_data:
        raise MalformedXorb("A chunk has bytes behind its LZ4 frame.")
    return data


def _ungroup(grouped: bytes) -> bytes:
    """Undo the grouping of every 4th byte: AAABBBCCDD -> ABCDABCDAB."""
    data = bytearray(len(grouped))
    start = 0
    for place in range(4):
        count = len(range(place, len(grouped), 4))
        data[place::4] = grouped[start : start + count]
        start += count
    return bytes(data)


def _read_exactly(stream: Stream, size: int) -> bytes:
    data = _read_up_to(stream, size)
    if len(data) < size:
        raise MalformedXorb(f"The xorb ends inside a chunk: {len(data):,} of {size:,} bytes are there.")
    return data


def _read_up_to(stream: Stream, size: int) -> bytes:
    """Read `size` bytes unless the stream ends before: a socket may return fewer at a time."""
    parts: list[bytes] = []
    missing = size
    while missing and (part := stream.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
