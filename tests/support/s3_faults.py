"""An HTTP proxy in front of an S3 server that answers in its place, late, twice, half or not at all.

    with S3FaultProxy(s3_port) as proxy:
        proxy.faults = [S3Fault("UploadPart", status=503, code="SlowDown", times=2)]
        …  # the store's endpoint is proxy.url

Requests are told apart by their S3 operation.  A request suffers the first fault of the list that names its operation
and has not happened `times` times yet; all others pass through.  `asked` counts the requests by operation.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

ALWAYS = 1_000_000
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "content-length"}
RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class S3Fault:
    """What happens to an operation (`*`: to any) the first `times` times.

    status, code: this answer instead of S3's own.  With status 200 it is an error in the body of a good answer: so S3
    tells of what fails after the head was sent.
    done: let S3 do it all the same; only the answer is another.
    reset: break the connection instead of answering.
    stall: never answer, with the connection left open.
    stop_at: send so many bytes of the answer's body, then reset; with `stall`, then fall silent.
    delay_seconds: wait before going on.
    """

    operation: str
    times: int = ALWAYS
    status: int = 0
    code: str = ""
    done: bool = False
    reset: bool = False
    stall: bool = False
    stop_at: int | None = None
    delay_seconds: float = 0.0


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


def operation_of(method: str, target: str, headers: Mapping[str, str]) -> str:
    """Return what S3's documentation calls this request."""
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    of_object = parts.path.strip("/").count("/") > 0
    if "partNumber" in query:
        return "UploadPartCopy" if "x-amz-copy-source" in headers else "UploadPart"
    if "uploads" in query:
        return "CreateMultipartUpload" if method == "POST" else "ListMultipartUploads"
    if "uploadId" in query:
        return {"POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}.get(method, "ListParts")
    if method == "PUT":
        return "CopyObject" if "x-amz-copy-source" in headers else "PutObject"
    verb = {"HEAD": "Head", "DELETE": "Delete", "GET": "Get"}.get(method, method)
    if verb == "Get" and not of_object:
        return "ListObjectsV2"
    return verb + ("Object" if of_object else "Bucket")


class S3FaultProxy:
    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.faults: list[S3Fault] = []
        self.asked: Counter[str] = Counter()
        self._happened: Counter[S3Fault] = Counter()
        self._lock = threading.Lock()
        self._over = threading.Event()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> S3FaultProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.socket.close()
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def heal(self) -> None:
        """Let everything through from now on, and count anew."""
        self.faults = []
        self.asked.clear()
        self._happened.clear()

    def happened(self, fault: S3Fault) -> int:
        return self._happened[fault]

    def take(self, operation: str) -> S3Fault | None:
        """Count a request; return the fault that it suffers."""
        with self._lock:
            self.asked[operation] += 1
            for fault in self.faults:
                if fault.operation in {operation, "*"} and self._happened[fault] < fault.times:
                    self._happened[fault] += 1
                    return fault
        return None

    def wait(self, seconds: float | None) -> None:
        """Wait, but not past the proxy's end."""
        self._over.wait(seconds)


class _Handler(BaseHTTPRequestHandler):
    owner: S3FaultProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # a head and its body in one packet

    def handle(self) -> None:
        with suppress(ConnectionError, TimeoutError):
            super().handle()

    def handle_expect_100(self) -> bool:
        go_on = super().handle_expect_100()
        self.wfile.flush()
        return go_on

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        fault = self.owner.take(operation_of(self.command, self.path, headers)) or S3Fault("")
        self.owner.wait(fault.delay_seconds)
        refused = bool(fault.status or fault.reset or (fault.stall and fault.stop_at is None))
        answer = self._ask(headers, body) if fault.done or not refused else None
        if fault.reset:
            return self._break()
        if fault.stall and fault.stop_at is None:
            self.owner.wait(None)
            return self._break()
        if fault.status:
            answer = _refusal(fault)
        assert answer is not None
        return self._answer(answer, fault)

    def do_GET(self) -> None:
        self._pass_on()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _ask(self, headers: Mapping[str, str], body: bytes) -> _Answer:
        upstream = http.client.HTTPConnection("127.0.0.1", self.owner.target_port, timeout=60)
        try:
            sent = {name: value for name, value in headers.items() if name not in _HOP_BY_HOP}
            upstream.request(self.command, self.path, body, sent | {"content-length": str(len(body))})
            answer = upstream.getresponse()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP]
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            if length is not None:
                kept.append(("Content-Length", length))
            return _Answer(answer.status, kept, answer.read())
        finally:
            upstream.close()

    def _answer(self, answer: _Answer, fault: S3Fault) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if all(name != "Content-Length" for name, _ in answer.headers):
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: fault.stop_at])
        self.wfile.flush()
        if fault.stop_at is not None:
            if fault.stall:
                self.owner.wait(None)
            self._break()

    def _break(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def _refusal(fault: S3Fault) -> _Answer:
    body = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>made up</Message></Error>".encode()
    return _Answer(fault.status, [("Content-Type", "application/xml")], body)
