"""gunicorn's threaded worker, made patient with slow clients and calm when it runs out of file descriptors.

The stock worker gives a connection a thread as soon as its first byte is there.  A client that then sends one byte of
its header a second holds that thread for as long as it likes, and a handful of them stop the server.  Here:

    accept -> wait in the event loop, without a thread, until the head has arrived, and a small body with it
              (15 s at most: then 408)
           -> asks which version a ref means: the quick loop answers (quick_loop.py)
           -> else a thread parses it and runs the application
           -> a large body that stops arriving, or a reader that stops reading, ends after 60 s; large bodies and files
              never take more than three quarters of the threads: the next one is told to come back (503)

Out of descriptors, `accept` fails with EMFILE, and the stock worker dies of it.  This one keeps a descriptor in
reserve, with which it accepts the connection, answers 503, and closes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import threading
import time
from concurrent.futures import Future
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.http import errors as http
from gunicorn.workers.gthread import TConn, ThreadWorker

from ..api.fast_lane import QUICK_ANSWERS
from .quick_loop import QuickLoop, looks_plain

HEAD_SECONDS = 15.0
"""How long a request's head, and a small body, may take to arrive."""

STALL_SECONDS = 60.0
"""How long a body may stop arriving, or a client stop reading, before the connection is closed."""

MAX_PEEK_BYTES = 64 * 1024
"""Past this size the parser decides: it refuses heads that are larger than its own limits."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect:", re.IGNORECASE)
_FILE = re.compile(r"/(files|resolve)/|^/api/xet/read/v1/packs")
_OUT_OF_HANDLES = {errno.EMFILE, errno.ENFILE}
_BUSY = b'{"error":{"code":"unavailable","message":"The server is out of connections. Try again.","details":{}}}'


def _refusal(status: str, body: bytes, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*head, *headers, "", ""]).encode() + body


OUT_OF_THREADS = _refusal(
    "503 Service Unavailable",
    b'{"error":{"code":"unavailable","message":"Too many transfers at once. Try again in a moment.","details":{}}}',
    "Retry-After: 1",
)
OUT_OF_HANDLES = _refusal("503 Service Unavailable", _BUSY, "Retry-After: 1")
HEAD_TIMEOUT = _refusal(
    "408 Request Timeout",
    b'{"error":{"code":"http","message":"The request\'s head took too long to arrive.","details":{}}}',
)


_STATUSES: dict[type[Exception], str] = {
    http.LimitRequestLine: "414 URI Too Long",
    http.LimitRequestHeaders: "431 Request Header Fields Too Large",
    http.UnsupportedTransferCoding: "501 Not Implemented",
    http.ExpectationFailed: "417 Expectation Failed",
    http.ParseException: "400 Bad Request",
}
"""What the parser raises, the special ones first."""


class PatientWorker(ThreadWorker):
    """A ThreadWorker whose threads only ever see requests whose head is complete."""

    def init_process(self) -> None:
        threads = self.cfg.threads
        self._bulk = threading.BoundedSemaphore(max(1, threads - max(1, threads // 4)))
        self._reserve = os.open(os.devnull, os.O_RDONLY)
        self._next_sweep = 0.0
        self._quick: QuickLoop | None = None
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        answers = getattr(self.wsgi, "extensions", {}).get(QUICK_ANSWERS)
        if answers and not self.cfg.is_ssl:
            self._quick = QuickLoop(answers, self)
            self._quick.start()

    def accept(self, listener: socket.socket) -> None:
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in _OUT_OF_HANDLES:
                raise
            self._refuse_one(listener)

    def enqueue_req(self, conn: TConn) -> None:
        """Give `conn` to a thread if its next request's head is complete; else wait for more of it."""
        self._dispatch(conn, self._quick)

    def _dispatch(self, conn: TConn, quick: QuickLoop | None) -> None:
        if self._has_whole_head(conn):
            conn.head_deadline, conn.peeked, conn.data_ready = None, 0, True
            if quick and conn.is_plain:
                conn.init()
                quick.take(conn)
            else:
                super().enqueue_req(conn)
        elif conn.head_deadline and time.monotonic() > conn.head_deadline:
            self._end(conn, HEAD_TIMEOUT)
        else:
            self._park(conn)

    def murder_pending(self) -> None:
        """Close connections whose head has not arrived in time; look twice a second, however busy the loop is."""
        now = time.monotonic()
        if now < self._next_sweep:
            return
        self._next_sweep = now + 0.5
        for conn in [conn for conn in self.pending_conns if conn.timeout <= now]:
            self.pending_conns.remove(conn)
            self._forget(conn)
            self._end(conn, HEAD_TIMEOUT if getattr(conn, "peeked", 0) else b"")

    def take_back(self, conn: TConn) -> None:
        """Watch a connection from the quick loop as one whose request was answered."""
        self.method_queue.defer(self.finish_request, conn, _kept())

    def take_request(self, conn: TConn) -> None:
        """Give the pool the request of a connection from the quick loop."""
        self.method_queue.defer(self._dispatch, conn, None)

    def send_rest(self, conn: TConn, rest: bytes) -> None:
        sending = self.tpool.submit(self._send_slowly, conn, rest)
        sending.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    @staticmethod
    def _send_slowly(conn: TConn, rest: bytes) -> bool:
        """Return whether the connection can be kept."""
        conn.sock.settimeout(STALL_SECONDS)
        try:
            conn.sock.sendall(rest)
        except OSError:  # the client is gone, or stopped reading
            return False
        return True

    def handle_request(self, req: Any, conn: TConn) -> Any:
        conn.sock.settimeout(STALL_SECONDS)
        if not _is_bulk(req):
            return super().handle_request(req, conn)
        if not self._bulk.acquire(blocking=False):
            self._say(conn.sock, OUT_OF_THREADS)
            return False
        try:
            return super().handle_request(req, conn)
        finally:
            self._bulk.release()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what never became a request: in the one shape that errors have, and without repeating its words."""
        status = next(
            (status for kind, status in _STATUSES.items() if isinstance(exc, kind)), "500 Internal Server Error"
        )
        if status.startswith("500"):
            self.log.exception("a request failed outside the application")
        else:
            self.log.warning("refused a malformed request: %s", type(exc).__name__)
        message = "The request is not HTTP as this server takes it." if status[0] != "5" else "The server failed."
        body = b'{"error":{"code":"http","message":"%s","details":{}}}' % message.encode()
        self._say(client, _refusal(status, body))

    def _say(self, client: socket.socket, words: bytes) -> None:
        with contextlib.suppress(OSError):  # the client is gone
            client.settimeout(1.0)
            client.sendall(words)

    def _has_whole_head(self, conn: TConn) -> bool:
        """Whether a thread would find a whole head on `conn`, or the end of it.  Reads nothing."""
        conn.head_deadline, conn.is_plain = getattr(conn, "head_deadline", None), False
        before = getattr(conn, "peeked", 0)
        if conn.parser is not None and conn.parser.unreader.buf.getvalue():
            return True  # a pipelined request: the parser has its beginning already
        try:
            seen = conn.sock.recv(MAX_PEEK_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            conn.peeked = 0
            return False
        except OSError:
            return True  # reset by the client: the thread finds out and closes
        conn.peeked, conn.is_plain = len(seen), looks_plain(seen)
        # Woken without a new byte: the client has closed its side, and the head will never be complete.
        ended = not seen or len(seen) == before
        return ended or len(seen) >= MAX_PEEK_BYTES or _is_whole(seen)

    def _park(self, conn: TConn) -> None:
        """Wait in the event loop until more of the head is there than now."""
        conn.sock.setblocking(False)
        if conn.head_deadline is None:
            conn.head_deadline = time.monotonic() + HEAD_SECONDS
        conn.timeout = conn.head_deadline
        _wake_after(conn.sock, conn.peeked + 1)
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def on_pending_socket_readable(self, conn: TConn, client: Any) -> None:
        _wake_after(conn.sock, 1)
        super().on_pending_socket_readable(conn, client)

    def _cap_keepalive(self, deadline: float) -> None:
        """On the way out, don't wait for heads that may never come."""
        super()._cap_keepalive(deadline)
        if self._quick:
            self._quick.stop()
            self._quick = None
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def _forget(self, conn: TConn) -> None:
        with contextlib.suppress(OSError, KeyError, ValueError):  # it was not being watched
            self.poller.unregister(conn.sock)

    def _end(self, conn: TConn, last_words: bytes) -> None:
        with contextlib.suppress(OSError):  # the client is gone, which is what we want
            if last_words:
                conn.sock.send(last_words, socket.MSG_DONTWAIT)
        self.nr_conns -= 1
        conn.close()

    def _refuse_one(self, listener: socket.socket) -> None:
        """Accept one connection on the descriptor in reserve, tell it to come back, and close it."""
        self.log.warning("out of file descriptors: a connection is refused")
        os.close(self._reserve)
        try:
            client, _ = listener.accept()
            with client:
                client.settimeout(0.2)
                # Read what it asked: closing with unread bytes would reset the connection under our answer.
                client.recv(MAX_PEEK_BYTES)
                client.sendall(OUT_OF_HANDLES)
        except OSError:
            time.sleep(0.05)  # another thread took the descriptor; the listener stays readable, so don't spin
        finally:
            self._reserve = self._new_reserve()

    def _new_reserve(self) -> int:
        while True:
            try:
                return os.open(os.devnull, os.O_RDONLY)
            except OSError:
                self.notify()
                time.sleep(0.05)


def _kept() -> Future[bool]:
    """Return what a request that was answered, on a connection that is kept, leaves behind."""
    done: Future[bool] = Future()
    done.set_result(True)
    return done


def _is_whole(seen: bytes) -> bool:
    """Whether these first bytes of a request are its head and, if it is small, its body."""
    head, end, body = seen.partition(b"\r\n\r\n")
    if not end:
        return False
    length = _LENGTH.search(head + b"\r\n")
    if length is None or _EXPECTS.search(head):
        return True
    size = int(length[1])
    return len(body) >= size or len(head) + len(end) + size > MAX_PEEK_BYTES


def _is_bulk(req: Any) -> bool:
    """Whether a request moves many bytes, in or out."""
    fields = dict(req.headers)
    length = fields.get("CONTENT-LENGTH", "0")
    is_large = not length.isdigit() or int(length) > MAX_PEEK_BYTES or "TRANSFER-ENCODING" in fields
    return is_large or (req.method == "GET" and _FILE.search(req.uri) is not None)


def _wake_after(sock: socket.socket, count: int) -> None:
    """Have the event loop see `sock` as readable once `count` bytes wait in it."""
    with contextlib.suppress(OSError):  # not every system has it; there the loop wakes more often
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
