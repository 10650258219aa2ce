"""Bytes on their way in: read in pieces, never all at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

CHUNK_BYTES = 1024 * 1024


class ByteStream(Protocol):
    """What `wsgi.input`, an open file and BytesIO have in common.  An empty answer is the end."""

    def read(self, size: int = ..., /) -> bytes: ...


class StreamBroken(Exception):
    """The sender went away: no fault of our disk, and what came before is good."""


def chunks(stream: ByteStream, limit: int) -> Iterator[bytes]:
    """Yield what `stream` gives, at most `limit` bytes of it.  Raises StreamBroken."""
    while limit > 0:
        try:
            piece = stream.read(min(CHUNK_BYTES, limit))
        except OSError as error:
            raise StreamBroken(str(error)) from error
        if not piece:
            return
        limit -= len(piece)
        yield piece
