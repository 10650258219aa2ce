"""Slow clients, huge heads, lengths that lie, two lengths at once: a refusal for them, and no harm to anyone else."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.server.wire import ask, connect, open_sockets, read_all, status_of, workers_of
from tests.support.adapters import write_adapter
from tests.support.server import RunningServer
from tests.web.api import Api

PING = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def test_clients_that_never_finish_their_head_take_no_thread(server: RunningServer) -> None:
    """Many more of them than there are threads, each with a byte at a time."""
    with open_sockets(server.url, 40) as slow:
        for one in slow:
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        for _ in range(5):
            for one in slow:
                one.sendall(b"a")
            assert ask(server.url, PING) == 200
        slow[0].sendall(b"\r\n\r\n")
        assert status_of(slow[0].recv(65536)) == 200


@pytest.mark.slow
def test_a_head_that_takes_too_long_is_told_so_and_closed(server: RunningServer) -> None:
    with connect(server.url) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        slow.settimeout(40)
        answer = read_all(slow)
    assert status_of(answer) == 408
    assert b'"error"' in answer


def test_waiting_for_a_head_costs_no_processor_time(server: RunningServer) -> None:
    def spent() -> float:
        times = [worker.cpu_times() for worker in workers_of(server.process.pid)]
        return sum(time.user + time.system for time in times)

    with open_sockets(server.url, 10) as slow:
        for one in slow:
            one.sendall(b"GET / HTTP/1.1\r\nX: ")
        time.sleep(0.3)
        before = spent()
        time.sleep(1.0)
        assert spent() - before < 0.5  # a busy loop would have spent the whole second in each worker


def test_a_client_that_gives_up_in_its_head_is_forgotten(server: RunningServer) -> None:
    for _ in range(20):
        with connect(server.url) as one:
            one.sendall(b"GET / HTTP/1.1\r\nX: ")
    assert ask(server.url, PING) == 200


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("a huge field", b"X-Big: " + b"a" * 100_000 + b"\r\n"),
        ("very many fields", b"".join(b"X-%d: 1\r\n" % n for n in range(5000))),
        ("a huge line", b"X: 1\r\n"),
    ],
)
def test_a_huge_head_is_refused(server: RunningServer, name: str, head: bytes) -> None:
    path = b"/" + b"a" * 100_000 if name == "a huge line" else b"/healthz"
    status = ask(server.url, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")
    assert status in {400, 414, 431}


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: +5\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Length : 5\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ],
)
def test_a_request_of_two_lengths_is_refused_and_the_connection_closed(server: RunningServer, lengths: bytes) -> None:
    """Otherwise a proxy and the server could see different requests in the same bytes."""
    with connect(server.url, 5) as connection:
        connection.sendall(b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\n" + lengths + b"\r\n0\r\n\r\n" + SMUGGLED)
        answer = read_all(connection)
    assert status_of(answer) in {400, 501}
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "chunk", [b"zz\r\n", b"-1\r\n", b"5\r\nabc", b"ffffffffffffffffff\r\n", b"5;\x00\r\nabcde\r\n"]
)
def test_malformed_chunks_are_the_clients_mistake(server: RunningServer, admin: Api, chunk: bytes) -> None:
    head = f"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(server.url, 5) as connection:
        connection.sendall(head.encode() + chunk)
        connection.shutdown(1)
        answer = read_all(connection)
    assert status_of(answer) in {0, 400}
    assert ask(server.url, PING) == 200


def test_a_body_shorter_than_its_length_is_no_request(server: RunningServer) -> None:
    head = f"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
    body = b'{"name": "x", "scopes": ["read"]}'
    with connect(server.url, 5) as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n".encode() + body)
        connection.shutdown(1)
        answer = read_all(connection)
    assert status_of(answer) in {0, 400}


@pytest.mark.parametrize("size", [5_000, 5_000_000])
def test_senders_that_drip_do_not_keep_readers_out(server: RunningServer, size: int) -> None:
    """A small body is waited for without a thread; large ones hold threads, but never all of them."""
    head = f"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n{{"
    with open_sockets(server.url, 24) as slow:
        for one in slow:
            one.sendall(head.encode())
        time.sleep(0.3)
        for _ in range(10):
            assert ask(server.url, PING) == 200


def test_readers_that_drip_do_not_keep_others_out(server: RunningServer, admin: Api, tmp_path: Path) -> None:
    targets = ("q_proj", "v_proj", "k_proj", "o_proj")
    admin.push(write_adapter(tmp_path / "a", rank=64, layers=8, hidden=1024, targets=targets), "task/big")
    path = "/api/v1/adapters/task/big/versions/v1/files/adapter_model.safetensors"
    with open_sockets(server.url, 24) as slow:
        for one in slow:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        first = [status_of(one.recv(100)) for one in slow]
        assert set(first) == {200}  # a reader takes no thread
        for _ in range(10):
            assert ask(server.url, PING) == 200


def test_a_stranger_is_sent_away_before_its_body_is_read(server: RunningServer) -> None:
    head = (
        b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9000000\r\n\r\n"
    )
    assert ask(server.url, head + b"{") == 401


def test_a_client_that_asks_before_it_sends_is_answered(server: RunningServer) -> None:
    head = f"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
    body = b'{"name": "asked", "scopes": ["read"]}'
    head += f"Expect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with connect(server.url) as one:
        one.sendall(head.encode())
        assert status_of(one.recv(1000)) == 100
        one.sendall(body)
        assert status_of(one.recv(65536)) == 201
