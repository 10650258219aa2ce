"""Tiny real models, adapters that PEFT writes, and PEFT itself as the oracle."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # PEFT asks the model hub when it saves
torch = pytest.importorskip("torch", reason="the runtime needs the extra `load`")
pytest.importorskip("peft", reason="the oracle of these tests is PEFT")

from tests.runtime import support  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny products on two threads measure the scheduler; and with one, runs are equal to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.getbasetemp() / "runtime-home"
    monkeypatch.setenv("LORAHUB_CACHE", str(home / "cache"))
    monkeypatch.setenv("LORAHUB_CONFIG", str(home / "config.json"))


@pytest.fixture
def _kernel_off(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Products of 4-bit weights as bitsandbytes computes them, to the last bit."""
    from hub.runtime import kernel

    monkeypatch.setenv("LORAHUB_KERNEL", "off")
    kernel.choose()
    yield
    monkeypatch.undo()
    kernel.choose()


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a tiny model of an architecture, written once a session."""
    root = tmp_path_factory.mktemp("bases")

    def folder(kind: str) -> Path:
        path = root / kind
        if not path.exists():
            support.make_base(kind, path)
        return path

    return folder


@pytest.fixture(scope="session")
def base(bases: Callable[[str], Path]) -> Path:
    """The folder of a tiny model, where its architecture doesn't matter."""
    return bases("llama")
