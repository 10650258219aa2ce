"""What the client's tests share: a cache with one version in it, made without any server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hub.adapter_files import build_manifest
from hub.cache import Cache
from hub.manifest import Manifest
from hub.refs import AdapterName
from tests.support.adapters import write_adapter

NAME = AdapterName("task", "qa")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter", readme="# QA\n")


@pytest.fixture
def cached(tmp_path: Path, adapter: Path) -> tuple[Cache, Manifest, Path]:
    """A cache, the manifest of the one version in it, and that version's folder."""
    cache = Cache(tmp_path / "cache")
    manifest = build_manifest(adapter)
    return cache, manifest, fill(cache, adapter, manifest)


def fill(cache: Cache, folder: Path, manifest: Manifest, name: AdapterName = NAME) -> Path:
    """Put a folder's files into a cache, as a finished download does."""
    for entry in manifest.files:
        if cache.has_blob(entry):
            continue
        partial = cache.partial_path(entry.sha256)
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes((folder / entry.path).read_bytes())
        cache.store_blob(partial, entry.sha256)
    cache.save_manifest(manifest)
    return cache.build_snapshot(name, manifest)


@pytest.fixture
def write_to() -> Callable[[Path, int], None]:
    """Flip one bit of a read-only file, as a careless program or a failing disk would."""

    def flip(path: Path, at: int) -> None:
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)

    return flip
