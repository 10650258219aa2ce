from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.bases import write_base


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("bases") / "tiny-llama")


@pytest.fixture(scope="session")
def other_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shapes, other weights."""
    return write_base(tmp_path_factory.mktemp("bases") / "tiny-llama", seed=1)


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORAHUB_CONFIG", str(tmp_path / "config.json"))
    monkeypatch.setenv("LORAHUB_CACHE", str(tmp_path / "cache"))
