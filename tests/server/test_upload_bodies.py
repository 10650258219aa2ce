"""Upload bodies as they come over a real socket: in one piece, with the next request behind them, chunked, cut off."""

from __future__ import annotations

import hashlib
import json
import random
import socket

import pytest

from tests.server.wire import connect, read_all, status_of
from tests.support.server import RunningServer

PATCH = "PATCH {href} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nUpload-Offset: {offset}\r\n"
TYPE = "Content-Type: application/offset+octet-stream\r\n"


@pytest.fixture
def data(request: pytest.FixtureRequest) -> bytes:
    return random.Random(request.node.name).randbytes(300_000)


@pytest.fixture
def href(server: RunningServer, data: bytes) -> str:
    """An upload of `data` that has begun."""
    blob = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    body = json.dumps({"blobs": [blob]}).encode()
    head = (
        f"POST /api/v1/adapters/bodies/x/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with connect(server.url) as one:
        one.sendall(head.encode() + body)
        answer = read_all(one)
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["blobs"][0]["upload"]["href"])


def head_of(server: RunningServer, href: str, offset: int, *more: str) -> bytes:
    lines = PATCH.format(href=href, token=server.token, offset=offset) + TYPE + "".join(f"{line}\r\n" for line in more)
    return (lines + "\r\n").encode()


def offset_of(server: RunningServer, href: str) -> int | None:
    """What the server has; None when the upload is finished and forgotten."""
    with connect(server.url) as one:
        lines = (
            f"HEAD {href} HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {server.token}",
            "Connection: close",
            "",
            "",
        )
        one.sendall("\r\n".join(lines).encode())
        answer = read_all(one).decode()
    found = [line.partition(":")[2] for line in answer.splitlines() if line.lower().startswith("upload-offset:")]
    return int(found[0]) if found else None


def test_the_request_behind_a_body_is_answered_too(server: RunningServer, href: str, data: bytes) -> None:
    """Two parts and a GET, sent at once on one connection without waiting for an answer."""
    parts = [(0, data[:100_000]), (100_000, data[100_000:])]
    sent = b"".join(head_of(server, href, at, f"Content-Length: {len(part)}") + part for at, part in parts)
    with connect(server.url) as one:
        one.sendall(sent + b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = read_all(one)
    statuses = [line.split()[1] for line in answers.decode("latin-1").splitlines() if line.startswith("HTTP/1.1 ")]
    assert statuses == ["204", "204", "200"]


def test_a_head_and_its_body_in_small_packets_arrive(server: RunningServer, href: str, data: bytes) -> None:
    with connect(server.url) as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent = head_of(server, href, 0, f"Content-Length: {len(data)}", "Connection: close") + data
        for at in range(0, len(sent), 7_001):
            one.sendall(sent[at : at + 7_001])
        assert status_of(read_all(one)) == 204


def test_a_chunked_body_is_taken(server: RunningServer, href: str, data: bytes) -> None:
    chunks = b"".join(b"%x\r\n" % 50_000 + data[at : at + 50_000] + b"\r\n" for at in range(0, len(data), 50_000))
    with connect(server.url) as one:
        one.sendall(head_of(server, href, 0, "Transfer-Encoding: chunked", "Connection: close") + chunks + b"0\r\n\r\n")
        assert status_of(read_all(one)) == 204


def test_a_body_that_is_cut_off_keeps_what_came(server: RunningServer, href: str, data: bytes) -> None:
    with connect(server.url) as one:
        one.sendall(head_of(server, href, 0, f"Content-Length: {len(data)}") + data[:120_000])
        one.shutdown(socket.SHUT_WR)
        assert status_of(read_all(one)) == 400
    assert offset_of(server, href) == 120_000
    rest = data[120_000:]
    with connect(server.url) as one:
        one.sendall(head_of(server, href, 120_000, f"Content-Length: {len(rest)}", "Connection: close") + rest)
        assert status_of(read_all(one)) == 204


def test_a_body_longer_than_announced_is_not_stored(server: RunningServer, href: str, data: bytes) -> None:
    with connect(server.url) as one:
        long = data + b"more"
        one.sendall(head_of(server, href, 0, f"Content-Length: {len(long)}", "Connection: close") + long)
        assert status_of(read_all(one)) == 413
    assert offset_of(server, href) is None
