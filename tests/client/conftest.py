"""What the client's tests share: a cache with one version in it, made without any server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from hub.adapter.files import build_manifest
from hub.client.cache import Cache
from hub.manifest import Manifest
from hub.refs import AdapterName
from tests.support.adapters import lora_config, write_adapter
from tests.support.server import RunningServer, running_server

NAME = AdapterName("task", "qa")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A real registry, one for all of the client's tests."""
    with running_server(tmp_path_factory.mktemp("registry")) as running:
        yield running


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


def write_large_adapter(folder: Path, megabytes: float, seed: int = 0, base: str = "tests/llama-4096") -> Path:
    """Write a LoRA adapter of about that size: rank 64 on q_proj of a llama of hidden size 4,096."""
    numbers = numpy.random.default_rng(seed)
    tensors = {}
    for layer in range(max(1, round(megabytes / 2.097))):
        prefix = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{prefix}.lora_A.weight"] = numbers.standard_normal((64, 4096), dtype=numpy.float32)
        tensors[f"{prefix}.lora_B.weight"] = numbers.standard_normal((4096, 64), dtype=numpy.float32)
    folder.mkdir(parents=True)
    save_file(tensors, str(folder / "adapter_model.safetensors"), {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(lora_config(64, 64, ["q_proj"], base)))
    return folder


@pytest.fixture
def write_to() -> Callable[[Path, int], None]:
    """Flip one bit of a read-only file, as a careless program or a failing disk would."""

    def flip(path: Path, at: int) -> None:
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)

    return flip
