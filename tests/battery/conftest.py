"""The battery inside of the suite: as the runtime's tests, one thread and a cache of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # PEFT asks the model hub when it saves
torch = pytest.importorskip("torch", reason="the runtime needs the extra `load`")
pytest.importorskip("peft", reason="the oracle of these tests is PEFT")


@pytest.fixture(autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    home = tmp_path_factory.getbasetemp() / "battery-home"
    monkeypatch.setenv("LORAHUB_CACHE", str(home / "cache"))
    monkeypatch.setenv("LORAHUB_CONFIG", str(home / "config.json"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
