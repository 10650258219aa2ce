"""Servers in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.server import RunningServer, running_server
from tests.web.api import Api, OverSocket


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for a file's tests: two workers with four threads each, so that a few clients can fill it."""
    with running_server(tmp_path_factory.mktemp("server"), "--workers", "2", LORAHUB_THREADS="4") as running:
        yield running


@pytest.fixture
def admin(server: RunningServer) -> Api:
    return Api(OverSocket(server.url), server.token)
