"""Request bodies that are read as they arrive, from clients that may vanish, stall or lie about their length."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from flask import request
from werkzeug.exceptions import BadRequest

from .errors import HttpError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

try:
    from gunicorn.http.errors import ParseException
except ImportError:  # Windows, where waitress reads bodies whole before the application sees them
    _MALFORMED: tuple[type[Exception], ...] = ()
else:
    _MALFORMED = (ParseException,)


MAX_RECEIVE_BYTES = 1024 * 1024


class Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class CheckedBodies:
    """WSGI middleware: a body that ends before its Content-Length, or is malformed, is an error, not a shorter body.

    gunicorn says that its input ends by itself, and werkzeug then takes whatever came as the whole.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("CONTENT_LENGTH"):
            environ.pop("wsgi.input_terminated", None)
        environ["wsgi.input"] = _CheckedInput(environ["wsgi.input"])
        return self._app(environ, start_response)


class _CheckedInput:
    """Reads from the server's input; what is wrong with the bytes comes out as an OSError."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        try:
            return bytes(self._source.read(size))
        except _MALFORMED as error:
            raise ConnectionAbortedError("the body is malformed") from error

    def readline(self, size: int = -1, /) -> bytes:
        return bytes(self._source.readline(size))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")


class BodyStream:
    """A body that ends where the client stopped sending; `broken` then says why.

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


class SocketBody:
    """A body of known length, straight from gunicorn's socket: each piece as it arrived, without being put together.

    gunicorn's own input copies every byte four times on its way to a piece of the size that was asked for, which costs
    more than hashing and storing it.  What is read here is taken off the reader's account, so that a connection whose
    body was read whole can serve its next request.
    """

    def __init__(self, connection: socket.socket, source: Any) -> None:
        self._connection = connection
        self._source = source
        came: bytes = source.reader.unreader.take_buffered()
        self._buffered, behind = came[: source.reader.length], came[source.reader.length :]
        if behind:  # the next request, sent without waiting for our answer
            source.reader.unreader.unread(behind)

    @classmethod
    def find(cls, environ: WSGIEnvironment) -> SocketBody | None:
        """Return the body of this request, or None where it can't be read like that: chunked, or another server."""
        source: Any = getattr(environ.get("wsgi.input"), "_source", None)
        connection = environ.get("gunicorn.socket")
        is_plain = type(getattr(source, "reader", None)).__name__ == "LengthReader"
        return cls(connection, source) if connection is not None and is_plain and not source.buf.tell() else None

    def read(self, size: int = -1, /) -> bytes:
        left = self._source.reader.length
        wanted = min(size, left) if size >= 0 else left
        if not wanted:
            return b""
        if self._buffered:
            piece, self._buffered = self._buffered[:wanted], self._buffered[wanted:]
        else:
            piece = self._receive(min(wanted, MAX_RECEIVE_BYTES))
        self._source.reader.length = left - len(piece)
        return piece

    def _receive(self, size: int) -> bytes:
        try:
            piece = self._connection.recv(size)
        except OSError:
            self._source.failed = True
            raise
        if not piece:
            self._source.failed = True  # the next request's start is unknown
            raise ConnectionAbortedError("the body ended early")
        return piece


def _explain(error: Exception) -> HttpError:
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return HttpError(408, "The body stopped arriving. What came is kept: send the rest from the offset.")
    # Reset by the client, fewer bytes than its Content-Length said, or malformed chunks.
    return HttpError(400, "The body ended early. What came is kept: send the rest from the offset.")


def upload_body(limit_bytes: int) -> BodyStream:
    """Return the body of this request for reading in pieces, up to `limit_bytes`."""
    request.max_content_length = limit_bytes
    checked = request.stream  # refuses a Content-Length over the limit
    return BodyStream(SocketBody.find(request.environ) or checked)
