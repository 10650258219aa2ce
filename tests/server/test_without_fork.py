"""The server as Windows runs it: waitress, one process, and nothing of what only POSIX has.

It runs here with those modules taken away.  What Windows itself does (file locks, sharing of open files) is not shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.wire import ask
from tests.support.adapters import write_adapter
from tests.support.server import RunningServer, running_server

AS_ON_WINDOWS = """
import os, sys
for name in ("fcntl", "grp", "pwd", "resource", "gunicorn"):
    sys.modules[name] = None
for name in ("pread", "pwrite", "fork", "sendfile", "O_DIRECTORY"):
    delattr(os, name)
from hub.web.server import serve
serve.run_gunicorn = serve.run_waitress
from hub.cli import main
main()
"""


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("windows")
    with running_server(folder, program=("-c", AS_ON_WINDOWS), LORAHUB_THREADS="4") as server:
        yield server


def test_push_and_pull(windows: RunningServer, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    assert "task/qa@v1" in windows.cli("push", str(folder), "task/qa").stdout
    pulled = windows.cli("pull", "task/qa@v1", "--to", str(tmp_path / "b"))
    assert pulled.returncode == 0
    for file in folder.iterdir():
        assert (tmp_path / "b" / file.name).read_bytes() == file.read_bytes()


def test_an_encoded_slash_stays_one(windows: RunningServer, tmp_path: Path) -> None:
    windows.cli("push", str(write_adapter(tmp_path / "a", seed=2)), "task/slash", "--alias", "rel/1.0")
    shown = json.loads(windows.cli("show", "task/slash@rel/1.0", "--json").stdout)
    assert "rel/1.0" in json.dumps(shown)


def test_requests_are_logged_without_their_query(windows: RunningServer) -> None:
    assert ask(windows.url, b"GET /api/v1/adapters?q=secret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") == 200
    lines = [json.loads(line) for line in windows.log_text().splitlines() if line.startswith("{")]
    line = next(line for line in lines if line.get("path") == "/api/v1/adapters")
    assert (line["method"], line["status"]) == ("GET", 200)
    assert re.fullmatch(r"[0-9a-f]{16}", line["request_id"])
    assert "secret" not in windows.log_text()
