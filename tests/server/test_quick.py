"""The event loop answers `resolve` as the pool does, and leaves everything else to it."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import get_parser
from gunicorn.http.wsgi import create
from hypothesis import given
from hypothesis import strategies as st

from hub.web.server.quick import plain_request
from tests.server.wire import connect, read_all, status_of
from tests.support.adapters import write_adapter
from tests.support.server import RunningServer, running_server

PATH = "/api/v1/adapters/task/qa/versions/{}"


@pytest.fixture(scope="module")
def pushed(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    folder = write_adapter(tmp_path_factory.mktemp("adapter") / "qa")
    server.cli("push", str(folder), "task/qa")
    return server


def get(server: RunningServer, path: str, *fields: str, token: str | None = None) -> bytes:
    bearer = [f"Authorization: Bearer {token or server.token}"]
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *bearer, *fields, "", ""]).encode()


class Client:
    """One connection that is kept, on which answers are read one at a time."""

    def __init__(self, url: str) -> None:
        self.socket = connect(url)
        self._reader = self.socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self.socket.close()

    def send(self, request: bytes) -> None:
        self.socket.sendall(request)

    def read(self) -> tuple[int, dict[str, str], bytes]:
        status = status_of(self._reader.readline())
        fields: dict[str, str] = {}
        while line := self._reader.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip()
        return status, fields, self._reader.read(int(fields["content-length"]))

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        self.send(request)
        return self.read()


@pytest.mark.parametrize("selector", ["v1", "latest"])
def test_the_answer_is_the_one_of_the_pool(pushed: RunningServer, selector: str) -> None:
    path = PATH.format(selector)
    with Client(pushed.url) as client:
        quick = client.ask(get(pushed, path))
        # `TE` is a field that the event loop leaves to the pool.
        pool = client.ask(get(pushed, path, "TE: trailers"))
    for answer in (quick, pool):
        answer[1].pop("date")
    assert quick == pool
    assert quick[0] == 200


def test_one_connection_asks_for_anything_in_any_order(pushed: RunningServer) -> None:
    asked = [
        (PATH.format("v1"), None, 200),
        (PATH.format("v9"), None, 404),
        (PATH.format("v1"), "lhub_" + "x" * 43, 401),
        ("/api/v1/adapters/task/qa", None, 200),
        (PATH.format("latest"), None, 200),
        ("/healthz", None, 200),
        (PATH.format("v1"), None, 200),
    ]
    with Client(pushed.url) as client:
        for path, token, expected in asked * 3:
            assert client.ask(get(pushed, path, token=token))[0] == expected, path


def test_requests_in_one_packet_are_answered_in_their_order(pushed: RunningServer) -> None:
    with Client(pushed.url) as client:
        client.send(get(pushed, PATH.format("v1")) + get(pushed, PATH.format("v9")) + get(pushed, "/healthz"))
        assert [client.read()[0] for _ in range(3)] == [200, 404, 200]
        assert client.ask(get(pushed, PATH.format("v1")))[0] == 200


def test_a_head_in_pieces_is_waited_for(pushed: RunningServer) -> None:
    request = get(pushed, PATH.format("v1"))
    with Client(pushed.url) as client:
        for _ in range(2):  # a fresh connection, then one that is kept
            for start in range(0, len(request), 60):
                client.send(request[start : start + 60])
                time.sleep(0.02)
            assert client.read()[0] == 200


def test_close_is_honoured(pushed: RunningServer) -> None:
    with connect(pushed.url) as connection:
        connection.settimeout(5)
        connection.sendall(get(pushed, PATH.format("v1"), "Connection: close"))
        answer = read_all(connection)
        assert status_of(answer) == 200
        assert b"connection: close" in answer.lower()
        assert connection.recv(1) == b""


def test_clients_that_vanish_leave_the_others_alone(pushed: RunningServer) -> None:
    with Client(pushed.url) as steady:
        for number in range(30):
            gone = connect(pushed.url)
            gone.sendall(get(pushed, PATH.format("v1")))
            if number % 2:
                # Closing with an unread answer resets the connection under the server's hands.
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            gone.close()
            assert steady.ask(get(pushed, PATH.format("v1")))[0] == 200


def test_a_client_that_does_not_read_gets_everything_in_the_end(pushed: RunningServer) -> None:
    """It asks until no answer fits between the two any more, and the others don't notice."""
    request = get(pushed, PATH.format("v1"))
    with Client(pushed.url) as slow, Client(pushed.url) as other:
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        size = len(slow.ask(request)[2])
        count = 6_000_000 // size
        for number in range(count):
            slow.send(request)
            if number % (count // 20) == 0:
                time.sleep(0.01)
                assert other.ask(request)[0] == 200
        assert {slow.read()[0] for _ in range(count)} == {200}


def test_a_stopping_server_does_not_wait_for_resting_clients(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        push(server, tmp_path)
        clients = [Client(server.url) for _ in range(5)]
        for client in clients:
            assert client.ask(get(server, PATH.format("v1")))[0] == 200
        server.process.terminate()
        assert server.process.wait(15) == 0
        for client in clients:
            with client:
                client.socket.settimeout(5)
                assert client.socket.recv(1) == b""


def push(server: RunningServer, folder: Path) -> None:
    server.cli("push", str(write_adapter(folder / "qa")), "task/qa")


REQUEST_FIELDS = ["Host", "Accept", "Authorization", "Connection", "Cookie", "TE", "X-Y", "X_Y"]
REQUEST_FIELDS += ["Content-Length", "Transfer-Encoding", "Expect", "Upgrade"]
NAMES = st.sampled_from(REQUEST_FIELDS)
VALUES = st.sampled_from(["x", "", "keep-alive", "close", "Keep-Alive, TE", "0", "chunked", "Bearer a b", " padded\t"])
VALUES |= st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=8)
LINES = st.sampled_from(
    [
        "GET /api/v1/adapters/task/qa/versions/v1 HTTP/1.1",
        "GET /api/v1/adapters/a.b/c-d/versions/sha256:00 HTTP/1.1",
        "GET /api/v1/adapters/task/qa/versions/v1 HTTP/1.0",
        "GET  /api/v1/adapters/task/qa/versions/v1 HTTP/1.1",
        "GET /api/v1/adapters/task/qa/versions/v1?x=1 HTTP/1.1",
        "GET /api/v1/adapters/task/qa/versions/v%31 HTTP/1.1",
        "HEAD /api/v1/adapters/task/qa/versions/v1 HTTP/1.1",
    ]
)
HEADS = st.builds(
    lambda line, fields, ends: ends[0].join([line, *(f"{name}:{value}" for name, value in fields)]) + ends[1],
    LINES,
    st.lists(st.tuples(NAMES, VALUES), max_size=5).map(lambda fields: [("Host", "x"), *fields]),
    st.sampled_from([("\r\n", "\r\n\r\n"), ("\n", "\n\n"), ("\r\n", "\r\n\r\nGET / HTTP/1.1\r\n\r\n")]),
)


@given(HEADS)
def test_what_it_reads_gunicorn_reads_the_same(head: str) -> None:
    seen = head.encode("latin-1")
    mine = plain_request(seen, "127.0.0.1")
    if mine is None:
        return
    theirs = parsed(seen)
    assert {key: value for key, value in theirs.items() if key.startswith("HTTP_") or key in mine} == mine
    assert theirs["QUERY_STRING"] == ""
    assert "CONTENT_LENGTH" not in theirs


def parsed(seen: bytes) -> dict[str, Any]:
    """Return the environ that gunicorn makes of a request, all of which it reads."""
    config, (ours, far) = Config(), socket.socketpair()
    with ours, far:
        parser = get_parser(config, iter([seen]), ("127.0.0.1", 1))
        request = next(parser)
        assert not request.should_close()
        _, environ = create(request, ours, ("127.0.0.1", 1), ("127.0.0.1", 2), config)
        assert request.unreader.read() == b""
    return dict(environ)
