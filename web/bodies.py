"""Request bodies that are read as they arrive, from clients that may vanish, stall or lie about their length."""

from __future__ import annotations

from typing import Protocol

from flask import request
from werkzeug.exceptions import BadRequest

from .errors import HttpError


class Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class BodyStream:
    """A body that just ends where the client stopped sending; `broken` then says how.

    What came before the break is whole and in order, so whoever stores it may keep it: an upload goes on from there.
    """

    def __init__(self, source: Readable) -> None:
        self._source = source
        self.broken: HttpError | None = None

    def read(self, size: int = -1, /) -> bytes:
        if self.broken:
            return b""
        try:
            return self._source.read(size)
        except (OSError, BadRequest) as error:
            self.broken = _explain(error)
            return b""


def _explain(error: Exception) -> HttpError:
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return HttpError(408, "The body stopped arriving. What came is kept: send the rest from the offset.")
    # Reset by the client, fewer bytes than its Content-Length said, or malformed chunks.
    return HttpError(400, "The body ended early. What came is kept: send the rest from the offset.")


def upload_body(limit_bytes: int) -> BodyStream:
    """Return the body of this request for reading in pieces, up to `limit_bytes`."""
    request.max_content_length = limit_bytes
    return BodyStream(request.stream)
