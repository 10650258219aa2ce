"""Nobody who is slow keeps the others waiting: many clients of each kind against one worker with four threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attack.slow_clients import KINDS, PING, Fate, Kind, Target, attack, download, push_weights
from tests.support.server import RunningServer, running_server

CLIENTS = 48
"""Twelve for each thread."""


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("slow")
    with running_server(folder / "server", "--workers", "1", LORAHUB_THREADS="4") as server:
        push_weights(server, folder)
        yield server


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_slow_clients_keep_nobody_waiting(one_worker: RunningServer, kind: Kind) -> None:
    target, others = Target.of(one_worker), Fate()
    with attack(kind, target, CLIENTS):
        for _ in range(10):
            others.ask(one_worker.url, PING)
        others.ask(one_worker.url, download(target))
    assert others.was_served, others
