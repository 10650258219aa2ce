"""The event loop itself answers the most frequent request: which version a ref names.

A request through the pool switches threads twice, and the threads compete for the interpreter lock: with sixteen
clients that costs several times the work of the answer.  Unusual cases (an odd header, a wrong token, an unknown
version, an answer that has to wait for a write) go to the pool instead.

The loop may block on SQLite, which is a local file.  A database server may hang, so a single thread waits for it, and
the loop goes on.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gunicorn.http.wsgi import SERVER
from gunicorn.util import http_date

from ..api.fast_lane import ADDRESS, QuickAnswers
from .log import log_request

MAX_HEAD_BYTES = 8192

_PLAIN = re.compile(b"GET (" + ADDRESS.encode() + rb") HTTP/1\.1\r\n")
_FIELDS = re.compile(rb"(?:[A-Za-z0-9-]+:[ -~]*\r\n)+\r\n")
_UNUSUAL = {"CONTENT_LENGTH", "TRANSFER_ENCODING", "EXPECT", "UPGRADE", "TRAILER", "TE"}

Environ = dict[str, Any]


def looks_plain(seen: bytes) -> bool:
    """Whether the event loop may be able to answer a request."""
    return _PLAIN.match(seen) is not None


def plain_request(seen: bytes, client: str) -> Environ | None:
    """Return the part of the WSGI environ that the fast lane reads, if `seen` is exactly one plain GET; else None."""
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


class Quick:
    """Whole answers to plain requests."""

    def __init__(self, answers: QuickAnswers) -> None:
        self._answers = answers
        self._fixed = "".join(f"{name}: {value}\r\n" for name, value in answers.headers).encode("latin-1")
        self._head, self._head_second = b"", 0
        self._thread = ThreadPoolExecutor(1, "quick") if answers.asks_afar else None

    async def answer(self, seen: bytes, client: str) -> bytes | None:
        """Return the answer, with its head, if `seen` is exactly one request; None if the pool has to answer."""
        if not looks_plain(seen):
            return None
        if self._thread is None:
            return self._answer(seen, client)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, seen, client)

    def _answer(self, seen: bytes, client: str) -> bytes | None:
        began = time.perf_counter()
        environ = plain_request(seen, client)
        body = None if environ is None else self._body(environ)
        if environ is None or body is None:
            return None
        log_request(environ, 200, len(body), time.perf_counter() - began)
        return b"%s%sContent-Length: %d\r\n\r\n%s" % (self._dated_head(), self._fixed, len(body), body)

    def _body(self, environ: Environ) -> bytes | None:
        try:
            return self._answers.body(environ)
        except Exception:
            # The pool retries, and its answer says what failed; the event loop must keep serving everybody else.
            logging.getLogger(__name__).exception("the event loop could not answer")
            return None

    def _dated_head(self) -> bytes:
        now = int(time.time())
        if now != self._head_second:
            head = f"HTTP/1.1 200 OK\r\nServer: {SERVER}\r\nDate: {http_date(now)}\r\nConnection: keep-alive\r\n"
            self._head, self._head_second = head.encode("latin-1"), now
        return self._head
