"""Send a stored file: ranges, validators, HEAD, and the fastest way that the store allows.

A file that lies on this machine goes out by `sendfile`; one in an object store by a redirect to its signed URL, or else
as a stream.  The ETag is the content's sha256, so a resumed download can never join two contents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote

from flask import Response, request
from werkzeug.datastructures import Range
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from hub.errors import Unavailable
from hub.registry.values import StoredFile

from .file_parts import FilePart, OpenParts, sends_file_parts

BLOCK_BYTES = 1024 * 1024


def send_stored(
    stored: StoredFile,
    *,
    etag: str | None = None,
    headers: Mapping[str, str] | None = None,
    allow_redirect: bool = True,
) -> Response:
    """Return the answer to a GET or HEAD of `stored`: 200, 206, 302, 304 or 416.

    etag: the validator, without quotes; the sha256 by default.  headers: more of them, also on a redirect.
    """
    tag = etag or stored.entry.sha256
    if tag in request.if_none_match:
        answer = Response(status=304)
    elif stored.signed_url and allow_redirect:
        answer = _redirect(stored.signed_url)
    else:
        answer = _body(stored, _asked_range(tag, stored.entry.size))
    answer.set_etag(tag)
    answer.headers["Accept-Ranges"] = "bytes"
    answer.headers["Content-Disposition"] = disposition(stored.entry.path)
    for name, value in (headers or {}).items():
        answer.headers[name] = value
    return answer


def disposition(path: str) -> str:
    """Return a Content-Disposition that makes every browser save the file instead of showing it (RFC 6266)."""
    name = PurePosixPath(path).name
    plain = "".join(char if char.isascii() and char.isprintable() and char not in '"\\' else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _asked_range(tag: str, size: int) -> tuple[int, int] | None:
    """Return (start, stop) of the range to send; None for the whole file.

    Several ranges at once are answered with the whole file, as RFC 9110 allows; so is an If-Range of another content.
    Raises RequestedRangeNotSatisfiable.
    """
    asked: Range | None = request.range
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        return None
    if request.headers.get("If-Range", f'"{tag}"').strip() != f'"{tag}"':
        return None  # a weak tag or a date proves nothing about bytes
    found = asked.range_for_length(size)
    if found is None:
        raise RequestedRangeNotSatisfiable(size, "bytes")
    return found[0], found[1]


def _redirect(url: str) -> Response:
    # The URL is a right to read for a few minutes: no cache may keep it.
    return Response(status=302, headers={"Location": url, "Cache-Control": "no-store"})


def _body(stored: StoredFile, part: tuple[int, int] | None) -> Response:
    size = stored.entry.size
    start, stop = part or (0, size)
    content: Any = () if request.method == "HEAD" else _content(stored, start, stop)
    answer = Response(content, 206 if part else 200, mimetype="application/octet-stream", direct_passthrough=True)
    answer.content_length = stop - start
    if part:
        answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return answer


def _content(stored: StoredFile, start: int, stop: int) -> Any:
    if stop == start:
        return ()
    if stored.local_path is None:
        return stored.open(start, stop)
    file = open_blob(stored.local_path)
    if sends_file_parts(request.environ):
        return OpenParts(file, [FilePart(file, start, stop)])
    file.seek(start)
    return _LimitedFile(file, stop - start)


def open_blob(path: str) -> BinaryIO:
    """Open a blob's file, to be closed with the answer.  Raises Unavailable."""
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise Unavailable(
            "The store has lost this file's bytes. Tell the server's operator to run: lorahub fsck"
        ) from error


class _LimitedFile:
    """At most `count` bytes of an open file, in blocks."""

    def __init__(self, file: Any, count: int) -> None:
        self._file = file
        self._left = count

    def __iter__(self) -> Iterator[bytes]:
        while self._left > 0:
            block = self._file.read(min(BLOCK_BYTES, self._left))
            if not block:
                return
            self._left -= len(block)
            yield block

    def close(self) -> None:
        self._file.close()
