"""The application's answer, built and sent by threads that never wait for a client.

    begin -> parse the request, call the application
    turn  -> send pieces while the client's socket accepts them; then free the thread.  The event loop starts the next
             turn when the socket is writable

So a slow reader holds a connection and one piece in memory, but no thread.  A file goes out by sendfile, without the
piece.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gunicorn.http import errors as http
from gunicorn.http import get_parser
from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.wsgi import Response, create

from hub.errors import Unavailable

from ..http.file_parts import SENDS_FILE_PARTS, FilePart, Lead, Wait
from . import refusals
from .pace import Pace, PacedSocket

TURN_SECONDS = 1.0
"""How long one answer may keep a thread busy before others get it."""

PATIENCE_MS = 5
"""How long a thread waits for a reader that has just taken something: a quick one is ready again by then."""

_MORE_FOLLOWS = getattr(socket, "MSG_MORE", 0)  # Linux only
SENDFILE_BYTES = 8 * 1024 * 1024

Piece = bytes | memoryview | FilePart | Wait


@dataclass(frozen=True, slots=True)
class Site:
    """What all requests of a worker share.  is_stopping: whether answers must close their connections."""

    wsgi: Callable[..., Iterable[Any]]
    config: Any
    log: Any
    is_stopping: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of a connection, as sockets name them."""

    client: Any
    server: Any


class Answer:
    """One answer on its way to a client.

    source: the whole request, or the stream with the rest of its body.
    Afterwards `keeps` says whether the connection can serve another request, and `left` holds its bytes so far.
    """

    def __init__(self, site: Site, sock: socket.socket, ends: Ends, source: bytes | Stream) -> None:
        self._site, self._socket, self._ends = site, sock, ends
        self._stream = source if isinstance(source, Stream) else None
        self._parser = (
            source.parser(site.config, ends) if isinstance(source, Stream) else _in_memory(site, ends, source)
        )
        self._pieces = self._answer()
        self._piece: Piece = b""
        self.pace = Pace()
        self.keeps, self.left = False, b""
        self.wait: Wait | None = None

    def turn(self) -> bool:
        """Send what the socket accepts.  Returns whether all is sent.  Raises OSError when the client is gone.

        If the application has nothing to send yet, `wait` says until when to wait.
        """
        self.wait = None
        until, before = time.monotonic() + TURN_SECONDS, self.pace.moved
        while time.monotonic() < until:
            if not _size(self._piece):
                piece = next(self._pieces, None)
                if piece is None:
                    return True
                if isinstance(piece, Wait):
                    self.wait, self.pace = piece, Pace()
                    return False
                self._piece = piece
            try:
                self._send()
            except BlockingIOError:
                if self.pace.moved == before or not _is_ready(self._socket):
                    return False
        return False

    def close(self) -> None:
        """Drop what is not sent."""
        self._pieces.close()

    def _send(self) -> None:
        piece = self._piece
        if isinstance(piece, Wait):  # never kept
            return
        if isinstance(piece, FilePart):
            count = min(piece.stop - piece.start, SENDFILE_BYTES)
            sent = os.sendfile(self._socket.fileno(), piece.file.fileno(), piece.start, count) if count else 0
            if count and not sent:
                raise Unavailable("The stored file is shorter than it should be. Run: lorahub fsck")
            self._piece = FilePart(piece.file, piece.start + sent, piece.stop)
        else:
            sent = self._socket.send(piece, _MORE_FOLLOWS if isinstance(piece, Lead) else 0)
            self._piece = memoryview(piece)[sent:]
        self.pace.moved += sent

    def _answer(self) -> Generator[Piece]:
        try:
            request = next(self._parser)
        except (http.NoMoreData, StopIteration):
            return
        except http.ParseException as error:
            self._site.log.warning("refused a malformed request: %s", type(error).__name__)
            yield refusals.of_malformed(error)
            return
        yield from self._run(request)

    def _run(self, request: Any) -> Iterator[Piece]:
        out = _Out()
        request._expected_100_continue = False  # the body's reader says it
        response, environ = create(request, out, self._ends.client, self._ends.server, self._site.config)
        environ |= {"wsgi.multithread": True, SENDS_FILE_PARTS: True}
        del environ["gunicorn.socket"]
        if self._stream:
            environ["gunicorn.socket"] = self._stream.socket
        began = datetime.now()
        content: Iterable[Any] = ()
        try:
            content = self._site.wsgi(environ, response.start_response)
            for item in content:
                yield from self._framed(request, response, out, item)
            self._announce(request, response)
            response.close()
            yield out.take()
            self._finish(request, response)
        except (Exception, SystemExit):
            self._site.log.exception("a request failed outside the application")
            if not response.headers_sent:
                yield refusals.FAILED
        finally:
            self._site.log.access(response, request, environ, datetime.now() - began)
            with contextlib.suppress(AttributeError):
                content.close()  # type: ignore[attr-defined]

    def _framed(self, request: Any, response: Response, out: _Out, item: Any) -> Iterator[Piece]:
        """Yield one item of the application's, after the head if it is the first."""
        if isinstance(item, Wait):
            yield item
            return
        self._announce(request, response)
        if not isinstance(item, FilePart):
            response.write(item)
            yield Lead(out.take()) if isinstance(item, Lead) else out.take()
            return
        if response.chunked:
            raise TypeError("an answer with a part of a file says its length")
        response.send_headers()
        yield Lead(out.take())
        if request.method != "HEAD":
            response.sent += item.stop - item.start
            yield item

    def _announce(self, request: Any, response: Response) -> None:
        """Say in the head whether the connection stays open; it can only if the request's body was read to its end."""
        if not response.headers_sent and (self._site.is_stopping() or not _is_read(request)):
            response.force_close()

    def _finish(self, request: Any, response: Response) -> None:
        rest: bytes = self._parser.unreader.take_buffered()
        # Prevents request smuggling: if the parser finds another end than our head did, the connection closes.
        self.keeps = not response.should_close() and _is_read(request) and (self._stream is not None or not rest)
        self.left = rest


@dataclass(frozen=True, slots=True)
class Stream:
    """A request whose body is still arriving.  came: the head, and the bytes after it so far."""

    socket: PacedSocket
    came: bytes

    def parser(self, config: Any, ends: Ends) -> Any:
        parser = get_parser(config, self.socket, ends.client)
        parser.unreader.unread(self.came)
        return parser


class _Out:
    """Stands in for the socket: buffers what gunicorn writes."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self._pieces.append(data)

    send = sendall

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def _in_memory(site: Site, ends: Ends, request: bytes) -> Any:
    return get_parser(site.config, iter([request]), ends.client)


def _is_read(request: Any) -> bool:
    """Whether the whole body was read, so that the next request's start is known."""
    body = request.body
    if body.failed:
        return False
    reader = body.reader
    if isinstance(reader, LengthReader):
        return bool(reader.length == 0)
    return isinstance(reader, ChunkedReader) and reader.parser is None


def _size(piece: Piece) -> int:
    if isinstance(piece, Wait):
        return 0
    return piece.stop - piece.start if isinstance(piece, FilePart) else len(piece)


def _is_ready(sock: socket.socket) -> bool:
    waiting = select.poll()
    waiting.register(sock, select.POLLOUT)
    return bool(waiting.poll(PATIENCE_MS))
