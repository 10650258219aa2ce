"""A small real HTTP server of files: Range, If-Range, ETag.  It stands for a registry or for its object store."""

from __future__ import annotations

import gzip
import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class BlobServer:
    """`blobs` maps paths to bytes; `redirects` maps paths to addresses; `statuses` maps
    paths to another status than 200; `busy` counts the 503s still to be given."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    gzipped: bool = False
    busy: int = 0
    retry_after: str = "0"
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    sent_bytes: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ranges(self) -> list[str | None]:
        return [headers.get("range") for method, _, headers in self.requests if method == "GET"]


@contextmanager
def blob_server(**fields: object) -> Iterator[BlobServer]:
    state = BlobServer(**fields)  # type: ignore[arg-type]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {key.lower(): value for key, value in self.headers.items()}
            state.requests.append(("GET", self.path, headers))
            if state.busy:
                state.busy -= 1
                self._answer(503, {"Retry-After": state.retry_after})
            elif self.path in state.redirects:
                self._answer(302, {"Location": state.redirects[self.path]})
            elif self.path in state.blobs:
                self._send_blob(state.blobs[self.path], headers)
            else:
                self._answer(404, {})

        def _answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _send_blob(self, data: bytes, headers: dict[str, str]) -> None:
            etag = state.etags.get(self.path, f'"{hashlib.sha256(data).hexdigest()}"')
            found = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
            start = int(found[1]) if found and headers.get("if-range", etag) == etag else 0
            self.send_response(206 if start else state.statuses.get(self.path, 200))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("ETag", etag)
            if state.gzipped:
                data = gzip.compress(data)
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            for at in range(start, len(data), 65536):
                piece = data[at : at + 65536]
                try:
                    self.wfile.write(piece)
                except OSError:
                    self.close_connection = True
                    return
                state.sent_bytes += len(piece)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # broken connections are what it is there for
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
