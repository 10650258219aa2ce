"""No file descriptors left; no disk left: a clear answer, reads go on, and all is well again afterwards."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.wire import ask, connect, open_sockets, status_of, workers_of
from tests.support.adapters import write_adapter
from tests.support.server import running_server
from tests.web.api import Api, OverSocket

PING = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
RESOLVE = b"GET /api/v1/adapters/task/qa/versions/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
MIB = 1024 * 1024


def test_without_descriptors_the_answer_is_503_and_no_worker_dies(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        worker = workers_of(server.process.pid)[0]
        assert ask(server.url, PING) == 200
        soft, hard = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        used = worker.num_fds()
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (used + 4, hard))
        with open_sockets(server.url, 12) as held:
            for one in held:
                one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ")
            refused = [status_of(answer) for one in held if (answer := _whatever(one))]
            assert refused, "every connection found a descriptor"
            assert set(refused) == {503}
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert _eventually_200(server.url)
        assert workers_of(server.process.pid)[0].pid == worker.pid
        assert "out of file descriptors" in server.log_text()


def _whatever(connection) -> bytes:  # type: ignore[no-untyped-def]
    connection.settimeout(0.5)
    try:
        return bytes(connection.recv(65536))
    except (TimeoutError, ConnectionError):
        return b""


def _eventually_200(url: str) -> bool:
    for _ in range(50):
        if ask(url, PING) == 200:
            return True
        time.sleep(0.1)
    return False


def test_a_file_that_can_not_be_opened_is_503(tmp_path: Path) -> None:
    """Descriptors end in the middle of a request: the download is refused, the server lives."""
    with running_server(tmp_path) as server:
        api = Api(OverSocket(server.url), server.token)
        api.push(write_adapter(tmp_path / "a"), "task/qa")
        worker = workers_of(server.process.pid)[0]
        soft, hard = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        path = "/adapters/task/qa/versions/v1/files/adapter_config.json"
        api.get(path)
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, hard))
        answer = api.call("GET", path)  # on the connection that is open already
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert (answer.status, answer.code) == (503, "unavailable")
        assert "Retry-After" in answer.headers
        api.get(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a file system of its own can't be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def big_adapter(folder: Path) -> Path:
    return write_adapter(folder, rank=64, layers=4, hidden=2048, targets=("q_proj", "v_proj", "k_proj", "o_proj"))


def fill(disk: Path, leave_bytes: int) -> Path:
    filler = disk / "filler"
    with filler.open("wb") as file:
        while _free(disk) > leave_bytes:
            file.write(b"\0" * min(MIB, _free(disk) - leave_bytes))
            file.flush()
    return filler


def _free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def test_a_full_disk_for_blobs_is_507_and_reads_go_on(tmp_path: Path, small_disk: Path) -> None:
    with running_server(tmp_path, "--store", str(small_disk / "blobs")) as server:
        api = Api(OverSocket(server.url), server.token)
        small = write_adapter(tmp_path / "small")
        api.push(small, "task/qa")
        filler = fill(small_disk, 2 * MIB)
        pushed = server.cli("push", str(big_adapter(tmp_path / "big")), "task/qa", check=False)
        assert pushed.returncode == 1
        assert "disk is full" in pushed.stderr
        assert ask(server.url, RESOLVE) == 200
        weights = api.get("/adapters/task/qa/versions/v1/files/adapter_model.safetensors").body
        assert weights == (small / "adapter_model.safetensors").read_bytes()
        assert [item["version"] for item in api.get("/adapters/task/qa/versions").json["items"]] == [1]
        filler.unlink()
        done = server.cli("push", str(tmp_path / "big"), "task/qa")
        assert "task/qa@v2" in done.stdout


@pytest.mark.slow
def test_a_full_disk_for_the_database_is_507_and_recovers(tmp_path: Path, small_disk: Path) -> None:
    database = small_disk / "registry.sqlite3"
    store = tmp_path / "blobs"
    with running_server(tmp_path, "--database", f"sqlite:///{database}", "--store", str(store)) as server:
        api = Api(OverSocket(server.url), server.token)
        api.push(write_adapter(tmp_path / "1", seed=1), "task/qa")
        filler = fill(small_disk, 0)
        answers = [_yank(api) for _ in range(40)]
        assert {answer.status for answer in answers} <= {200, 507}
        assert answers[-1].status == 507
        assert answers[-1].code == "storage_full"
        assert ask(server.url, RESOLVE) == 200
        filler.unlink()
        assert _yank(api).status == 200
        server.cli("fsck", "--database", f"sqlite:///{database}", "--store", str(store))


def _yank(api: Api):  # type: ignore[no-untyped-def]
    api.call("DELETE", "/adapters/task/qa/versions/v1/yank")
    return api.call("POST", "/adapters/task/qa/versions/v1/yank", {"reason": "x" * 900})


def test_the_log_of_a_refusal_names_no_path_of_a_client(tmp_path: Path) -> None:
    with running_server(tmp_path) as server, connect(server.url) as one:
        one.sendall(b"GET /\x00secret-canary HTTP/1.1\r\n\r\n")
        one.recv(65536)
        assert "secret-canary" not in server.log_text()
