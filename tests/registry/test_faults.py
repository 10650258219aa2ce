"""A real process killed at real syscalls, a disk that fails, a disk that is full, no file descriptors left."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hub.errors import HubError, NotFound, StorageFull
from hub.registry.rights.access import ANONYMOUS
from hub.registry.storage.local_store import LocalStore
from hub.registry.values import Query
from hub.settings import ServerSettings
from tests.registry.conftest import fresh_database
from tests.registry.pusher import Pusher
from tests.registry.world import World, named, ref

QA = named("task/qa")
STRACE = shutil.which("strace")

needs_strace = pytest.mark.skipif(STRACE is None, reason="strace is not installed")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")


@pytest.fixture(scope="module")
def pusher() -> Iterator[Pusher]:
    with Pusher() as made:
        yield made


def request_for(world: World, folder: Path, **more: Any) -> dict[str, Any]:
    settings = world.context.settings
    token = world.notes.setdefault(
        "token", world.registry.tokens.create(world.admin, "pusher", ["read", "publish"]).secret
    )
    return {
        "data": str(settings.data),
        "database": settings.database,
        "store": settings.store,
        "token": token,
        "name": str(QA),
        "folder": str(folder),
        **more,
    }


def versions(world: World) -> list[int]:
    try:
        return [version.number for version in world.registry.versions.list(ANONYMOUS, QA)]
    except NotFound:
        return []


def assert_whole(world: World) -> None:
    """Every visible version is whole, to the last byte, and nothing is amiss but bytes that nobody names."""
    for number in versions(world):
        version = world.registry.versions.resolve(ANONYMOUS, ref(f"task/qa@v{number}"))
        for file in version.manifest.files:
            stored = world.registry.versions.open_file(ANONYMOUS, ref(f"task/qa@v{number}"), file.path)
            data = b"".join(stored.open(0, file.size))
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size, file.sha256)
    problems = world.registry.upkeep.check().problems
    assert [problem for problem in problems if problem.kind != "orphan"] == []


def kill_at_each(world: World, pusher: Pusher, syscall: str, places: Iterator[int]) -> int:
    """Kill a push at one call after the other until one comes through; return how many were killed."""
    killed = 0
    for place in places:
        seen = versions(world)
        folder = world.adapter(seed=1000 + world._made)
        outcome = pusher.push_with_fault(
            request_for(world, folder, alias="prod"), f"{syscall}:signal=KILL:when={place}"
        )
        assert_whole(world)
        after = versions(world)
        assert len(after) - len(seen) in {0, 1}
        assert after == list(range(len(after), 0, -1)), "no gap, none lost"
        if outcome.status == 0:
            assert outcome.result == {"number": len(after), "created": True}
            return killed
        assert outcome.status == -9
        killed += 1
        if len(after) > len(seen):  # killed after the commit: the version is there, with its alias
            assert world.registry.versions.resolve(ANONYMOUS, ref("task/qa@prod")).number == after[0]
        # A restart is clean: the same push goes through now.
        again = pusher.push(request_for(world, folder, alias="prod"))
        assert again.result is not None
        assert again.result["created"] == (len(after) == len(seen))
    return killed


@needs_strace
@pytest.mark.parametrize("syscall", ["fsync", "rename", "pwrite64", "unlink"])
def test_push_killed_at_a_syscall_leaves_a_whole_version_or_none(
    world: World, pusher: Pusher, syscall: str, database_kind: str
) -> None:
    world.push("task/qa")
    if database_kind == "postgres" and syscall == "pwrite64":
        syscall = "sendto"  # what a client of PostgreSQL does to write
    # Some places of each call here; `make test-slow` has all of them.
    places = iter((1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610))
    assert kill_at_each(world, pusher, syscall, places) >= 1


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize(
    "syscall", ["openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "mkdir", "sendto", "close"]
)
def test_push_killed_at_every_single_syscall_leaves_a_whole_version_or_none(
    world: World, pusher: Pusher, syscall: str, database_kind: str
) -> None:
    world.push("task/qa")
    killed = kill_at_each(world, pusher, syscall, iter(range(1, 2_000)))
    # PostgreSQL's files are its server's; whether SQLite syncs by fdatasync is decided when it is built.
    never_made = {("sqlite", "sendto"), ("postgres", "pwrite64"), ("sqlite", "fdatasync"), ("postgres", "fdatasync")}
    assert killed >= 1 or (database_kind, syscall) in never_made


@needs_strace
def test_fsync_that_fails_is_a_5xx_with_no_row_and_no_file(world: World, pusher: Pusher) -> None:
    world.push("task/qa", seed=1)
    store = Path(world.context.settings.store)
    before = sorted(path.name for path in store.rglob("*") if path.is_file())
    outcome = pusher.push_with_fault(request_for(world, world.adapter(seed=2)), "fsync:error=EIO:when=1")
    assert outcome.result is not None
    assert (outcome.result["error"], outcome.result["status"]) == ("unavailable", 503)
    assert versions(world) == [1]
    assert sorted(path.name for path in store.rglob("*") if path.is_file()) == before
    assert world.registry.upkeep.collect().uploads == 0
    assert_whole(world)
    assert world.push("task/qa", seed=2).version.number == 2


@needs_strace
@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        ("write:error=ENOSPC:when=1+", "storage_full", 507),
        ("write:error=EIO:when=1+", "unavailable", 503),
        ("rename:error=ENOSPC:when=1+", "storage_full", 507),
        ("rename:error=EIO:when=1+", "unavailable", 503),
        ("fsync:error=EIO:when=2+", "unavailable", 503),
        ("openat:error=EMFILE:when=1+", "unavailable", 503),
        ("openat:error=ENFILE:when=1+", "unavailable", 503),
    ],
)
def test_failing_disk_is_told_by_its_own_error_and_nothing_is_half_stored(
    world: World, pusher: Pusher, fault: str, code: str, status: int
) -> None:
    world.push("task/qa", seed=1)
    outcome = pusher.push_with_fault(request_for(world, world.adapter(seed=2)), fault)
    assert outcome.result is not None
    assert (outcome.result["error"], outcome.result["status"]) == (code, status)
    assert "Try again" in outcome.result["message"] or "then try" in outcome.result["message"]
    assert versions(world) == [1]
    assert_whole(world)
    assert list(Path(world.context.settings.store).glob("uploads/*")) == []
    assert world.push("task/qa", seed=2).version.number == 2


def test_no_file_descriptors_left_is_unavailable_and_passes(world: World, pusher: Pusher) -> None:
    world.push("task/qa", seed=1)
    folder = world.adapter(seed=2)
    outcome = pusher.push(request_for(world, folder, files=4))
    assert outcome.result is not None
    assert (outcome.result["error"], outcome.result["status"]) == ("unavailable", 503)
    assert pusher.push(request_for(world, folder)).result == {"number": 2, "created": True}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@needs_root
def test_full_store_is_507_and_reads_go_on_and_it_recovers(world: World, small_disk: Path) -> None:
    world.registry.context = replace(world.context, store=LocalStore(small_disk))
    world.push("task/qa", seed=1)
    filler = small_disk / "filler"
    big = world.adapter(seed=2, hidden=8192)  # 8 tensors of 4 x 8192 x 4 bytes: 1 MB
    filler.write_bytes(bytes(1_200_000))
    with pytest.raises(StorageFull):
        world.push("task/qa", big)
    upload_folder = small_disk / "uploads"
    assert list(upload_folder.iterdir()) == []
    data = os.urandom(1_000_000)
    upload = world.registry.uploads.start(world.admin, QA, hashlib.sha256(data).hexdigest(), len(data))
    with pytest.raises(StorageFull):
        world.registry.uploads.append(world.admin, upload.id, 0, io.BytesIO(data))
    assert list(upload_folder.iterdir()) == [], "a full disk is not kept full by what did not fit"
    assert versions(world) == [1]
    assert_whole(world)
    filler.unlink()
    assert world.push("task/qa", big).version.number == 2
    assert_whole(world)


@needs_root
def test_full_database_is_507_and_reads_go_on_and_it_recovers(
    small_disk: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database = fresh_database("sqlite", request, small_disk)
    world = World.open(ServerSettings(tmp_path, database, str(tmp_path / "store")), tmp_path)
    secret = world.registry.tokens.create(world.admin, "unused", ["read"]).secret
    world.push("task/qa", seed=1)
    fill_up(small_disk / "filler")
    folders = [world.adapter(seed=seed) for seed in range(2, 40)]
    assert push_until_refused(world, folders) is StorageFull
    pushed = versions(world)
    assert world.registry.tokens.authenticate(secret).user == "admin", "though its use can't be noted"
    assert world.registry.adapters.search(ANONYMOUS, Query(text="qa")).total == 1
    assert_whole(world)
    (small_disk / "filler").unlink()
    assert world.push("task/qa", seed=99).version.number == pushed[0] + 1
    assert_whole(world)
    world.close()


def fill_up(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def push_until_refused(world: World, folders: list[Path]) -> type[HubError] | None:
    for folder in folders:
        try:
            world.push("task/qa", folder)
        except HubError as error:
            return type(error)
    return None


def test_store_whose_folder_is_gone_is_unavailable_and_not_a_crash(world: World) -> None:
    shutil.rmtree(world.context.settings.store)
    with pytest.raises(HubError):
        world.push("task/qa")
    with pytest.raises(HubError):
        world.registry.check_ready()
