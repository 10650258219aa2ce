"""Imports are jobs: few at a time, ended with their caller, and no thread of a request waits for the far end."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.attack.slow_clients import PING, Fate
from tests.server.wire import connect, read_all, status_of
from tests.support.adapters import write_adapter
from tests.support.server import RunningServer, running_server

CALLERS = 12
"""Three for each thread."""


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("imports")
    env = {"LORAHUB_THREADS": "4", "LORAHUB_TRUSTED_HOSTS": "127.0.0.1 localhost"}
    with running_server(folder / "server", "--workers", "1", **env) as server:
        server.cli("push", str(write_adapter(folder / "qa")), "task/qa")
        yield server


@pytest.fixture
def dripping() -> Iterator[str]:
    """A hub whose answer's head comes a byte at a time, for as long as somebody listens."""
    over = threading.Event()

    def drip(client: socket.socket) -> None:
        with client, suppress(OSError):
            client.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not over.wait(0.1):
                client.sendall(b"a")

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/else/where"
        over.set()


def request(server: RunningServer, url: str, name: str = "task/copy") -> bytes:
    body = json.dumps({"url": url}).encode()
    head = (
        f"POST /api/v1/adapters/{name}/import HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def start(server: RunningServer, url: str) -> socket.socket:
    one = connect(server.url)
    one.sendall(request(server, url))
    return one


def refused(one: socket.socket) -> int:
    """The status of an answer that comes soon; 0 while the import runs."""
    one.settimeout(1)
    return status_of(read_all(one))


def test_imports_that_hang_keep_nobody_waiting(trusting: RunningServer, dripping: str) -> None:
    callers = [start(trusting, dripping) for _ in range(CALLERS)]
    others = Fate()
    for _ in range(10):
        others.ask(trusting.url, PING)
    statuses = sorted(refused(one) for one in callers)
    for one in callers:
        one.close()
    assert others.was_served, others
    assert statuses == [0, 0] + [429] * (CALLERS - 2)


def test_an_import_ends_with_its_caller(trusting: RunningServer, dripping: str) -> None:
    """Those of a user who went away leave room for the next ones."""
    served = 0
    for _ in range(3):
        callers = [wait_for_a_place(trusting, dripping) for _ in range(2)]
        served += len(callers)
        for one in callers:
            one.close()
    assert served == 6, "three times as many as one user may have at once"


def wait_for_a_place(server: RunningServer, url: str) -> socket.socket:
    for _ in range(40):
        one = start(server, url)
        if refused(one) == 0:
            return one
        one.close()
        time.sleep(0.25)
    raise AssertionError("an import goes on without its caller")


def test_an_import_answers_as_any_request(trusting: RunningServer) -> None:
    """From the server itself: it fetches from itself while the one who asked waits."""
    statuses = []
    for _ in range(2):
        with start(trusting, f"{trusting.url}/task/qa@v1") as one:
            answer = read_all(one)
        statuses.append(status_of(answer))
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["version"] == 1
    assert statuses == [201, 200]
    with start(trusting, f"{trusting.url}/not/there") as one:
        answer = read_all(one)
    assert status_of(answer) == 404
    assert b'"code"' in answer
    logged = [
        json.loads(line) for line in trusting.log_text().splitlines() if '"/api/v1/adapters/task/copy/import"' in line
    ]
    assert [line["status"] for line in logged][-3:] == [201, 200, 404]


def test_the_command_imports(trusting: RunningServer) -> None:
    done = trusting.cli("import", f"{trusting.url}/task/qa@v1", "task/other")
    assert done.stdout.strip() == "task/other@v1"


def test_a_server_that_stops_does_not_wait_for_the_far_end(tmp_path: Path, dripping: str) -> None:
    env = {"LORAHUB_DRAIN_SECONDS": "1", "LORAHUB_TRUSTED_HOSTS": "127.0.0.1"}
    with running_server(tmp_path, **env) as server, start(server, dripping) as one:
        assert refused(one) == 0
        server.process.terminate()
        assert server.process.wait(30) == 0
