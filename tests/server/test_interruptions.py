"""Clients that die, servers that stop, many at once: nothing is lost, nothing is half there."""

from __future__ import annotations

import hashlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hub.adapter.files import build_manifest
from tests.server.wire import connect, status_of, workers_of
from tests.support.adapters import write_adapter
from tests.support.server import RunningServer, running_server
from tests.web.api import Api, OverSocket

SLOW_SENDER = """
import socket, sys, time
host, port, head, path, seconds = sys.argv[1:]
data = open(path, "rb").read()
s = socket.create_connection((host, int(port)))
s.sendall(head.replace("|", "\\r\\n").encode())
half = len(data) // 2
s.sendall(data[:half])
print("half", flush=True)
time.sleep(float(seconds))
s.sendall(data[half:])
print(s.recv(65536).split(b" ")[1].decode(), flush=True)
"""


def begin_upload(api: Api, folder: Path, name: str) -> tuple[dict[str, Any], Path]:
    """Ask to send the weights of `folder`; return the upload and the file."""
    weights = folder / "adapter_model.safetensors"
    data = weights.read_bytes()
    blob = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    state = api.call("POST", f"/adapters/{name}/uploads", {"blobs": [blob]}, expect=200).json["blobs"][0]
    return state["upload"], weights


def slow_sender(server: RunningServer, upload: dict[str, Any], path: Path, seconds: float) -> subprocess.Popen[str]:
    """A process of its own that sends half of the file, says so, waits, and sends the rest."""
    host, port = server.url.removeprefix("http://").split(":")
    head = f"PATCH {upload['href']} HTTP/1.1|Host: x|Authorization: Bearer {server.token}|Upload-Offset: 0|"
    head += f"Content-Type: application/offset+octet-stream|Content-Length: {path.stat().st_size}|Connection: close||"
    command = [sys.executable, "-c", SLOW_SENDER, host, port, head, str(path), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "half"
    return process


def middling_adapter(folder: Path, seed: int = 0) -> Path:
    """About 4 MB: more than all socket buffers on the way hold."""
    return write_adapter(
        folder, rank=32, layers=4, hidden=1024, targets=("q_proj", "v_proj", "k_proj", "o_proj"), seed=seed
    )


def test_a_push_resumes_where_a_killed_client_stopped(server: RunningServer, admin: Api, tmp_path: Path) -> None:
    folder = middling_adapter(tmp_path / "a")
    upload, weights = begin_upload(admin, folder, "task/killed")
    sender = slow_sender(server, upload, weights, 60)
    sender.kill()
    sender.wait()
    half = weights.stat().st_size // 2
    assert wait_for(lambda: offset_of(admin, upload) == half)
    assert wait_for(lambda: nobody_writes(admin, upload, half))
    again, _ = begin_upload(admin, folder, "task/killed")
    assert (again["id"], again["offset"]) == (upload["id"], half)
    assert "task/killed@v1" in server.cli("push", str(folder), "task/killed").stdout
    assert admin.get("/adapters/task/killed/versions/v1/files/adapter_model.safetensors").body == weights.read_bytes()


def nobody_writes(api: Api, upload: dict[str, Any], offset: int) -> bool:
    """Whether the server has noticed that the sender is gone: while one writes, nothing can be appended."""
    headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    return api.call("PATCH", upload["href"], body=b"", headers=headers).status != 409


def offset_of(api: Api, upload: dict[str, Any]) -> int:
    return int(api.call("HEAD", upload["href"], expect=200).headers["Upload-Offset"])


def wait_for(condition: Any, seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_stopping_lets_transfers_finish(tmp_path: Path) -> None:
    """SIGTERM with an upload and a download under way: both end well, newcomers are refused, the exit is clean."""
    with running_server(tmp_path, "--workers", "2") as server:
        api = Api(OverSocket(server.url), server.token)
        stored = middling_adapter(tmp_path / "stored", seed=1)
        api.push(stored, "task/stored")
        folder = middling_adapter(tmp_path / "sent", seed=2)
        upload, weights = begin_upload(api, folder, "task/sent")
        sender = slow_sender(server, upload, weights, 2)
        reader = connect(server.url)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        path = "/api/v1/adapters/task/stored/versions/v1/files/adapter_model.safetensors"
        reader.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        received = reader.recv(1000)
        server.process.send_signal(signal.SIGTERM)
        assert wait_for(lambda: refuses(server.url))
        while piece := reader.recv(65536):
            received += piece
        assert sender.communicate(timeout=60)[0].strip() == "204"
        assert server.process.wait(60) == 0
    body = received.partition(b"\r\n\r\n")[2]
    assert body == (stored / "adapter_model.safetensors").read_bytes()
    with running_server(tmp_path) as restarted:
        api = Api(OverSocket(restarted.url), server.token)
        manifest = build_manifest(folder)
        asked = [{"sha256": entry.sha256, "size": entry.size} for entry in manifest.files]
        states = api.call("POST", "/adapters/task/sent/uploads", {"blobs": asked}, expect=200).json["blobs"]
        assert [s["state"] for s in states if s["sha256"] == upload["sha256"]] == ["present"]


def refuses(url: str) -> bool:
    try:
        with connect(url, 1) as probe:
            probe.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return status_of(probe.recv(100)) == 0
    except OSError:
        return True


def test_an_alias_that_many_move_at_once_moves_once(server: RunningServer, admin: Api, tmp_path: Path) -> None:
    for seed in range(1, 4):
        admin.push(write_adapter(tmp_path / str(seed), seed=seed), "task/race")
    path = "/adapters/task/race/aliases/prod"
    admin.call("PUT", path, {"version": 1}, expect=200)
    barrier = threading.Barrier(8)

    def move(number: int) -> int:
        api = Api(OverSocket(server.url), server.token)
        barrier.wait()
        return api.call("PUT", path, {"version": 2 + number % 2, "expected": 1}).status

    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(pool.map(move, range(8)))
    assert statuses == {200: 1, 412: 7}
    assert len(admin.get(f"{path}/history").json["items"]) == 2


def test_a_version_is_never_changed_and_its_number_never_given_again(admin: Api, tmp_path: Path) -> None:
    first = admin.push(write_adapter(tmp_path / "1", seed=1), "task/fixed")
    admin.push(write_adapter(tmp_path / "2", seed=2), "task/fixed")
    version = "/adapters/task/fixed/versions"
    for method in ("PUT", "POST", "PATCH", "DELETE"):
        assert admin.call(method, f"{version}/v1/files/extra.txt", {}).status in {404, 405}
    assert admin.call("PUT", f"{version}/v1", {}).status == 405
    admin.call("DELETE", f"{version}/v2", expect=204)
    assert admin.push(write_adapter(tmp_path / "2b", seed=2), "task/fixed")["version"] == 3
    assert admin.call("GET", f"{version}/v2").status == 404
    assert admin.get(f"{version}/v1").json["digest"] == first["digest"]


@pytest.mark.slow
def test_many_publishers_at_once_lose_nothing(server: RunningServer, admin: Api, tmp_path: Path) -> None:
    """Over the wire and two workers; the registry's own tests go further."""
    folders = [write_adapter(tmp_path / str(seed), seed=100 + seed) for seed in range(8)]

    def push(folder: Path) -> int:
        return int(Api(OverSocket(server.url), server.token).push(folder, "task/crowd")["version"])

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(push, folders))
    assert sorted(numbers) == list(range(1, 9))


@pytest.mark.parametrize(
    ("kind", "limit"),
    [
        ("read", 40),
        pytest.param("write", 40, marks=pytest.mark.slow),
        pytest.param("read", 300, marks=pytest.mark.slow),
    ],
)
def test_a_rate_limit_holds_over_all_workers(tmp_path: Path, kind: str, limit: int) -> None:
    env = {"LORAHUB_READS_PER_MINUTE": str(limit), "LORAHUB_WRITES_PER_MINUTE": str(limit)}
    workers = 4
    with running_server(tmp_path, "--workers", str(workers), **env) as server:
        assert wait_for(lambda: len(workers_of(server.process.pid)) == workers)
        started = time.monotonic()

        def ask(_number: int) -> Any:
            api = Api(OverSocket(server.url), server.token)  # a connection each, so that every worker gets some
            if kind == "read":
                return api.call("GET", "/whoami")
            return api.call("POST", "/namespaces", {"name": "x y"})

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(3 * limit)))
        refilled = (time.monotonic() - started) * limit / 60
    passed = [answer for answer in answers if answer.status != 429]
    refused = [answer for answer in answers if answer.status == 429]
    # A worker's first share of reads, a hundredth of the limit, is on credit; what workers hold unspent is lost.
    credit = workers * (limit // 100)
    held = workers * (limit // 20) if limit >= 100 else 0
    assert limit - held <= len(passed) <= limit + refilled + credit + 1
    assert {int(answer.headers["Retry-After"]) for answer in refused} <= set(range(1, 61))
    assert {answer.code for answer in refused} == {"too_many_requests"}
