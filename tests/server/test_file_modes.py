"""On a machine with other users: nothing of a server is theirs to read, whatever the umask of who starts it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.adapters import write_adapter
from tests.support.server import RunningServer, run_cli, running_server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
OTHERS = 0o077


@pytest.fixture(scope="module", autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("modes")
    with running_server(folder) as running:
        running.cli("push", str(write_adapter(folder / "a", seed=1)), "task/qa", "--private")
        running.cli("pull", "task/qa")
        yield running


def open_to_others(folder: Path) -> list[str]:
    """Every path of it that group or world may do something with."""
    found = [
        str(path) for path in (folder, *folder.rglob("*")) if not path.is_symlink() and path.stat().st_mode & OTHERS
    ]
    return sorted(found)


def test_nothing_in_the_data_folder_is_open_to_others(server: RunningServer) -> None:
    assert (server.data / "registry.sqlite3-wal").exists()
    assert [path for path in (server.data / "blobs" / "blobs").rglob("*") if path.is_file()]
    assert open_to_others(server.data) == []


def test_a_backup_is_not_either_and_can_sign_nothing(server: RunningServer, tmp_path: Path) -> None:
    server.cli("backup", str(tmp_path / "backup"), "--data", str(server.data))
    assert open_to_others(tmp_path / "backup") == []
    with closing(sqlite3.connect(server.data / "registry.sqlite3")) as database:
        key = database.execute("select value from server_values where name = 'secret_key'").fetchone()[0]
    texts = [path.read_bytes() for path in (tmp_path / "backup" / "tables").iterdir()]
    assert not any(key.encode() in text for text in texts)


def test_the_cache_is_its_users_alone(server: RunningServer) -> None:
    cache = Path(server.env["LORAHUB_CACHE"])
    assert cache.stat().st_mode & OTHERS == 0


def test_what_an_earlier_release_left_open_is_closed_at_the_start(tmp_path: Path) -> None:
    with running_server(tmp_path):
        pass
    data = tmp_path / "data"
    for path in (data / "registry.sqlite3", data / "blobs"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with running_server(tmp_path):
        assert not (data / "registry.sqlite3").stat().st_mode & OTHERS
        assert not (data / "blobs").stat().st_mode & OTHERS


def test_the_doctor_says_what_is_open(server: RunningServer) -> None:
    assert "server files" in run_cli("doctor", "--json", env=server.env | {"LORAHUB_DATA": str(server.data)}).stdout
    (server.data / "blobs").chmod(0o755)
    try:
        told = run_cli("doctor", "--json", env=server.env | {"LORAHUB_DATA": str(server.data)})
    finally:
        (server.data / "blobs").chmod(0o700)
    found = next(check for check in json.loads(told.stdout) if check["name"] == "server files")
    assert (found["level"], told.returncode) == ("error", 1)
    assert "chmod go= " in found["next_step"]
