"""A real server for the command line's tests, one for all of them, and a folder of its own for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import RunningServer, clean_env, running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine that knows no registry."""
    return clean_env(tmp_path) | {"LORAHUB_ENDPOINT": "http://127.0.0.1:9"}
