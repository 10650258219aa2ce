"""Emptying and verifying a cache that others use at the same time."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hub.client.cache import Cache
from hub.client.cache_care import GRACE_SECONDS, clear, prune, remove_version, total_bytes, verify_all
from hub.client.progress import Observer
from hub.client.sync import pull, push
from hub.refs import AdapterName, AdapterRef
from hub.settings import ClientSettings
from tests.client.conftest import NAME
from tests.support.adapters import write_adapter
from tests.support.server import RunningServer
from tests.support.threads import at_once

PULLS = 3
ROUNDS = 6


@pytest.fixture
def settings(server: RunningServer, tmp_path: Path) -> ClientSettings:
    return ClientSettings(server.url, server.token, tmp_path / "cache")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def put_blob(cache: Cache, data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    partial = cache.partial_path(sha256)
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(data)
    cache.store_blob(partial, sha256)
    return sha256


@pytest.mark.timeout(200)
def test_whoever_looks_after_the_cache_disturbs_no_pull(settings: ClientSettings, tmp_path: Path) -> None:
    """Blobs are pruned as soon as they come, before their version has its folder, over and over."""
    cache = Cache(settings.cache)
    folders = [write_adapter(tmp_path / f"adapter-{number}", seed=300 + number) for number in range(PULLS)]
    names = [AdapterName("care", f"a{number}") for number in range(PULLS)]
    for name, folder in zip(names, folders, strict=True):
        push(folder, name, settings)
    is_over = threading.Event()

    def look_after() -> int:
        rounds = 0
        while not is_over.is_set():
            prune(cache, grace_seconds=0.0)
            assert verify_all(cache, Observer()) == []
            assert total_bytes(cache) >= 0
            time.sleep(0.01)
            rounds += 1
        return rounds

    def pull_again_and_again(number: int) -> None:
        for _ in range(ROUNDS):
            fetched = pull(AdapterRef(names[number], "v1"), settings)
            assert contents(fetched) == contents(folders[number])
            remove_version(cache, names[number], None)

    with ThreadPoolExecutor(2) as pool:
        caretakers = [pool.submit(look_after) for _ in range(2)]
        try:
            at_once(PULLS, pull_again_and_again)
        finally:
            is_over.set()
    assert min(caretaker.result() for caretaker in caretakers) > 0
    prune(cache, grace_seconds=0.0)
    assert total_bytes(cache) == 0


def test_several_that_empty_the_cache_count_each_file_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    sizes = range(1, 31)
    for size in sizes:
        put_blob(cache, b"x" * size)
    removed = at_once(4, lambda _: clear(cache))
    assert sum(one.files for one in removed) == len(sizes)
    assert sum(one.size_bytes for one in removed) == sum(sizes)


def test_what_is_being_fetched_is_left_alone(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    sha256 = put_blob(cache, b"blob")
    cache.partial_path("b" * 64).write_bytes(b"half")
    cache.partial_path("b" * 64).with_suffix(".etag").write_bytes(b"tag")
    with cache.lock(sha256), cache.lock("b" * 64):
        assert at_once(1, lambda _: prune(cache, grace_seconds=0.0).files) == [0]
    assert prune(cache, grace_seconds=0.0).files == 3


def test_removing_a_version_keeps_the_unfinished_downloads_of_others(
    cached: tuple[Cache, object, Path],
) -> None:
    """They are somebody's to go on with; `prune` takes them once nobody has for an hour."""
    cache, _, _ = cached
    other = put_blob(cache, b"fetched by a pull that is running")
    cache.partial_path("b" * 64).write_bytes(b"half")
    assert remove_version(cache, NAME, None).files == 3
    assert cache.blob_path(other).exists()
    assert cache.partial_path("b" * 64).read_bytes() == b"half"


def test_leftovers_of_a_crash_go_after_an_hour_and_not_before(
    cached: tuple[Cache, object, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a running pull is just writing looks the same, so even `prune --all` lets it be."""
    cache, _, folder = cached
    file, building = cache.root / "partial" / ".new-abc", folder.parent / ".new-def"
    file.write_bytes(b"tag")
    building.mkdir()
    clear(cache)
    assert (file.exists(), building.exists()) == (True, True)
    now = time.time()
    monkeypatch.setattr("hub.client.cache_care.time.time", lambda: now + GRACE_SECONDS + 1)
    clear(cache)
    assert (file.exists(), building.exists()) == (False, False)
    assert os.listdir(folder.parent) == []
