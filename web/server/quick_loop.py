"""One thread that answers what is asked for most, which version a ref means, for all clients of a worker.

A request that goes through gunicorn's pool changes threads twice, and the threads of many clients wait for one
interpreter lock: with sixteen clients that costs several times the work of the answer itself.  Here one thread waits
for all clients that ask for versions, and answers them one after the other, in the order in which they came:

    event loop: a whole head that looks like `resolve` -> QuickLoop.take
    this thread: peek -> plain_request -> the fast lane's answer -> read what was peeked, send
                 anything else, or a second without a request -> back to the event loop

Nothing of a request is read before its answer is in hand, so whatever is out of the ordinary (an unusual header, a
wrong token, a version that isn't there, an answer that has to wait for a write) goes to the pool as if it had never
been here.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import selectors
import socket
import threading
import time
from typing import Any, Protocol

from gunicorn.http.wsgi import SERVER
from gunicorn.util import http_date
from gunicorn.workers.gthread import TConn

from ..api.fast_lane import ADDRESS, QuickAnswers
from .log import log_request

IDLE_SECONDS = 1.0
"""How long a client may ask nothing before the event loop watches it again."""

MAX_HEAD_BYTES = 8192

_PLAIN = re.compile(b"GET (" + ADDRESS.encode() + rb") HTTP/1\.1\r\n")
_FIELDS = re.compile(rb"(?:[A-Za-z0-9-]+:[ -~]*\r\n)+\r\n")
_UNUSUAL = {"CONTENT_LENGTH", "TRANSFER_ENCODING", "EXPECT", "UPGRADE", "TRAILER", "TE"}

Environ = dict[str, Any]


class Keeper(Protocol):
    """Who owns the connections.  All of this is called in the quick loop's thread."""

    def take_back(self, conn: TConn) -> None:
        """Take a connection that asks nothing at the moment."""

    def take_request(self, conn: TConn) -> None:
        """Take a connection whose next request, of which nothing is read, isn't for the quick loop."""

    def send_rest(self, conn: TConn, rest: bytes) -> None:
        """Send what a reader didn't take at once, then keep the connection."""


def looks_plain(seen: bytes) -> bool:
    """Whether the first bytes of a request may be for the quick loop."""
    return _PLAIN.match(seen) is not None


def plain_request(seen: bytes, client: str) -> Environ | None:
    """Return the WSGI environ, as far as the fast lane reads it, of one plain GET that is all of `seen`; else None."""
    line = _PLAIN.match(seen)
    if line is None or len(seen) > MAX_HEAD_BYTES or not _FIELDS.fullmatch(seen, line.end()):
        return None
    path = line[1].decode("ascii")
    environ: Environ = {"REQUEST_METHOD": "GET", "RAW_URI": path, "PATH_INFO": path, "REMOTE_ADDR": client}
    for field in seen[line.end() : -4].decode("ascii").split("\r\n"):
        name, _, value = field.partition(":")
        name, value = name.upper().replace("-", "_"), value.strip(" \t")
        key = "HTTP_" + name
        if name in _UNUSUAL or key in environ or (name == "CONNECTION" and value.lower() != "keep-alive"):
            return None
        environ[key] = value
    return environ if "HTTP_HOST" in environ else None


class QuickLoop(threading.Thread):
    """The thread, and the connections that it has at the moment."""

    def __init__(self, answers: QuickAnswers, keeper: Keeper) -> None:
        super().__init__(name="lorahub-quick", daemon=True)
        self._answers, self._keeper = answers, keeper
        self._fixed = "".join(f"{name}: {value}\r\n" for name, value in answers.headers).encode("latin-1")
        self._head, self._head_second = b"", 0
        self._arrived: queue.SimpleQueue[TConn] = queue.SimpleQueue()
        self._last_asked: dict[TConn, float] = {}
        self._next_sweep = 0.0
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._bell, self._rope = socket.socketpair()
        for end in (self._bell, self._rope):
            end.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)

    def take(self, conn: TConn) -> None:
        """Answer `conn`'s requests from now on.  Called in the event loop's thread."""
        self._arrived.put(conn)
        self._ring()

    def stop(self) -> None:
        """Give all connections back, and end.  Called in the event loop's thread; nothing may be taken afterwards."""
        self._stopping = True
        self._ring()

    def run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select(IDLE_SECONDS / 2):
                if key.data is None:
                    self._welcome()
                else:
                    self._serve(key.data)
            self._let_go_of_idle()
        self._welcome()
        for conn in list(self._last_asked):
            self._forget(conn)
            self._keeper.take_back(conn)
        self._selector.close()

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it rings already
            self._rope.send(b"\0")

    def _welcome(self) -> None:
        """Watch the connections that arrived.  Their requests are there: the selector says so in its next turn."""
        with contextlib.suppress(BlockingIOError):  # at the end nobody may have rung
            self._bell.recv(4096)
        while not self._arrived.empty():
            conn = self._arrived.get()
            self._last_asked[conn] = time.monotonic()
            self._selector.register(conn.sock, selectors.EVENT_READ, conn)

    def _serve(self, conn: TConn) -> None:
        """Answer the request that waits on `conn`, or leave all of it to the pool."""
        began = time.perf_counter()
        seen = _peek(conn)
        environ = plain_request(seen, conn.client[0])
        body = None if environ is None else self._answer(environ)
        if environ is None or body is None:
            self._forget(conn)
            self._keeper.take_request(conn)
            return
        self._last_asked[conn] = time.monotonic()
        conn.sock.recv(len(seen))
        self._send(conn, b"%s%sContent-Length: %d\r\n\r\n%s" % (self._dated_head(), self._fixed, len(body), body))
        log_request(environ, 200, len(body), time.perf_counter() - began)

    def _send(self, conn: TConn, whole: bytes) -> None:
        try:
            sent = conn.sock.send(whole, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the client is gone, and the selector says so next
        if sent < len(whole):
            self._forget(conn)
            self._keeper.send_rest(conn, whole[sent:])

    def _answer(self, environ: Environ) -> bytes | None:
        try:
            return self._answers.body(environ)
        except Exception:
            # The pool tries again, and its answer says what failed; this thread must go on for all others.
            logging.getLogger(__name__).exception("the quick loop could not answer")
            return None

    def _dated_head(self) -> bytes:
        now = int(time.time())
        if now != self._head_second:
            head = f"HTTP/1.1 200 OK\r\nServer: {SERVER}\r\nDate: {http_date(now)}\r\nConnection: keep-alive\r\n"
            self._head, self._head_second = head.encode("latin-1"), now
        return self._head

    def _let_go_of_idle(self) -> None:
        now = time.monotonic()
        if now < self._next_sweep:
            return
        self._next_sweep = now + IDLE_SECONDS / 2
        for conn in [conn for conn, last in self._last_asked.items() if now - last > IDLE_SECONDS]:
            self._forget(conn)
            self._keeper.take_back(conn)

    def _forget(self, conn: TConn) -> None:
        del self._last_asked[conn]
        self._selector.unregister(conn.sock)


def _peek(conn: TConn) -> bytes:
    """Return what waits on the connection; nothing when it ended or failed, which is not for here either."""
    try:
        return bytes(conn.sock.recv(MAX_HEAD_BYTES + 1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return b""
