"""Packs: a stored file as the chunks of a Xet client, made while they are sent.

    pack    header (8) · slice of the file (128 KiB) · header · slice · …      16 MiB of the file, the last one less

Files are stored as they are: a pack is a view of one.  Where the server can, the slices go from the file to the
connection by `sendfile`, and only the headers pass through this process.
Source: the Xet protocol specification, "Xorb formation & serialization".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from hub.registry.values import StoredFile

from ..http.file_parts import FilePart, Lead
from .xorb import MAX_CHUNK_BYTES

CHUNKS = 128
"""Of a pack.  A client writes a pack once it has the whole of it: with larger ones, it writes when it could receive."""

PACK_BYTES = CHUNKS * MAX_CHUNK_BYTES
_HEADER_BYTES = 8
_PACKED_CHUNK = MAX_CHUNK_BYTES + _HEADER_BYTES


class Piece(NamedTuple):
    """A chunk, or the part of it that is asked for: bytes of its header, then bytes `[start, stop)` of the file."""

    header: bytes
    start: int
    stop: int


def chunk_count(size: int, number: int) -> int:
    """Return how many chunks pack `number` of a file of `size` bytes has."""
    return -(-held_bytes(size, number) // MAX_CHUNK_BYTES)


def held_bytes(size: int, number: int) -> int:
    """Return how many bytes of the file are in the pack."""
    return max(0, min(size, (number + 1) * PACK_BYTES) - number * PACK_BYTES)


def packed_size(size: int, number: int) -> int:
    """Return how long the pack is, with its headers."""
    return held_bytes(size, number) + chunk_count(size, number) * _HEADER_BYTES


def pieces(size: int, number: int, start: int, stop: int) -> Iterator[Piece]:
    """Yield what bytes `[start, stop)` of the pack consist of."""
    for chunk in range(start // _PACKED_CHUNK, -(-stop // _PACKED_CHUNK)):
        begin = number * PACK_BYTES + chunk * MAX_CHUNK_BYTES
        length = min(MAX_CHUNK_BYTES, size - begin)
        first, last = max(0, start - chunk * _PACKED_CHUNK), min(length + _HEADER_BYTES, stop - chunk * _PACKED_CHUNK)
        behind = begin - _HEADER_BYTES
        yield Piece(_header(length)[first:last], behind + max(_HEADER_BYTES, first), behind + max(_HEADER_BYTES, last))


def pack_bytes(stored: StoredFile, number: int, start: int, stop: int) -> Iterator[bytes]:
    """Yield bytes `[start, stop)` of a pack, for any server."""
    for header, begin, end in pieces(stored.entry.size, number, start, stop):
        yield b"".join((header, *stored.open(begin, end)))


def pack_parts(file: BinaryIO, parts: Iterable[Piece]) -> Iterator[bytes | FilePart]:
    """Yield `parts` of `file`, for a server that sends files itself."""
    for header, start, stop in parts:
        if start < stop:
            yield Lead(header)
            yield FilePart(file, start, stop)
        else:
            yield header


def _header(length: int) -> bytes:
    """Return the header of a chunk that is stored as it is: version 0, its size twice, scheme 0 between."""
    size = length.to_bytes(3, "little")
    return b"\0" + size + b"\0" + size
