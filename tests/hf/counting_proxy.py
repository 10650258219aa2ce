"""An HTTP proxy that counts: which requests a client sends, and how many bytes in each.

`GET /seen` is answered by the proxy itself: the requests so far, one a line, for clients in another process.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    status: int
    body_bytes: int
    headers: dict[str, str]


@dataclass
class Counter:
    """url: what clients talk to.  seen: every request, in the order of their answers."""

    url: str
    seen: list[Seen] = field(default_factory=list)
    closed: bool = False

    def forget(self) -> None:
        self.seen.clear()

    def sent(self, part_of_path: str = "") -> int:
        """Return how many bytes of body went to paths that contain this text."""
        return sum(request.body_bytes for request in self.seen if part_of_path in request.path)

    def lines(self) -> list[str]:
        return [f"{request.method} {request.path} {request.status}" for request in self.seen]


@contextmanager
def counting_proxy(target: str) -> Iterator[Counter]:
    """Stand in front of `target` (http://host:port) and pass everything on, the Host header too."""
    parts = urlsplit(target)
    counter = Counter("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def _pass_on(self) -> None:
            if counter.closed:
                self.close_connection = True
                return
            if self.path == "/seen":
                self._send_seen()
                return
            body = self._read_body()
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP | {"content-length"}}
            if body or self.command in {"POST", "PUT"}:
                headers["Content-Length"] = str(len(body))
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=300)
            try:
                connection.request(self.command, self.path, body or None, headers)
                answer = connection.getresponse()
                counter.seen.append(
                    Seen(self.command, self.path, answer.status, len(body), {k.lower(): v for k, v in headers.items()})
                )
                self._answer(answer)
            finally:
                connection.close()

        def _send_seen(self) -> None:
            data = "\n".join(counter.lines()).encode()
            self.send_response_only(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data

        def _answer(self, answer: http.client.HTTPResponse) -> None:
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            length_is_known = (
                "Content-Length" in answer.headers or self.command == "HEAD" or answer.status in {204, 304}
            )
            data = b"" if length_is_known else answer.read()
            if not length_is_known:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            while self.command != "HEAD" and (block := answer.read(256 * 1024)):
                self.wfile.write(block)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _pass_on

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed is part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    counter.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield counter
    finally:
        counter.closed = True
        server.shutdown()
        server.server_close()
