"""Mixed load for a while: no error, and memory and descriptors stay where they were."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.server.wire import workers_of
from tests.support.adapters import write_adapter
from tests.support.server import RunningServer, running_server
from tests.web.api import Api, OverSocket

MIB = 1024 * 1024
CLIENTS = 6


def test_a_little_load_leaves_no_trace(tmp_path: Path) -> None:
    assert mixed_load(tmp_path, seconds=6) == set(ACTIONS)


@pytest.mark.slow
def test_ten_minutes_of_load_leave_no_trace(tmp_path: Path) -> None:
    assert mixed_load(tmp_path, seconds=600) == set(ACTIONS)


def mixed_load(folder: Path, seconds: float) -> set[str]:
    """Publish, resolve, search, download whole and in part, move aliases, yank; measure while it goes on.

    Returns what was done, all of it without an error, and with nothing left behind.
    """
    with running_server(folder, "--workers", "2") as server:
        admin = Api(OverSocket(server.url), server.token)
        for seed in range(4):
            admin.push(write_adapter(folder / f"first-{seed}", seed=seed), "task/load")
        outcome: Counter[tuple[str, int]] = Counter()
        stop = time.monotonic() + seconds
        clients = [threading.Thread(target=client, args=(server, folder, n, stop, outcome)) for n in range(CLIENTS)]
        for one in clients:
            one.start()
        samples = []
        while time.monotonic() < stop:
            time.sleep(min(1.0, seconds / 20))
            samples.append(measure(server))
        for one in clients:
            one.join()
        time.sleep(0.5)
        samples.append(measure(server))
    unexpected = {key: count for key, count in outcome.items() if key[1] >= 500 or key[1] in {0, 401, 403, 404, 429}}
    assert not unexpected
    assert sum(outcome.values()) > 10 * CLIENTS
    settled, last = samples[len(samples) // 3], samples[-1]
    assert last["descriptors"] <= settled["descriptors"] + 2 * CLIENTS
    assert last["bytes"] <= settled["bytes"] + 24 * MIB
    assert last["workers"] == samples[0]["workers"], "a worker was replaced"
    return {kind for kind, _status in outcome}


def measure(server: RunningServer) -> dict[str, Any]:
    workers: list[psutil.Process] = workers_of(server.process.pid)
    return {
        "bytes": sum(worker.memory_full_info().uss for worker in workers),
        "descriptors": sum(worker.num_fds() for worker in workers),
        "workers": sorted(worker.pid for worker in workers),
    }


def client(server: RunningServer, folder: Path, number: int, stop: float, outcome: Counter[tuple[str, int]]) -> None:
    """Do one thing after the other until the time is over; count what was answered."""
    numbers = random.Random(number)
    api = Api(OverSocket(server.url), server.token)
    while time.monotonic() < stop:
        kind = numbers.choice(list(ACTIONS))
        try:
            status = ACTIONS[kind](api, folder, numbers)
        except OSError:
            status = 0
        outcome[kind, status] += 1


WEIGHTS = "/adapters/task/load/versions/v1/files/adapter_model.safetensors"


def publish(api: Api, folder: Path, numbers: random.Random) -> int:
    """Publish to one of many adapters: what is listed and shown must not grow with the time, or memory rightly does."""
    made = write_adapter(folder / f"{threading.get_ident()}", seed=numbers.randrange(1 << 30))
    return 201 if api.push(made, f"task/load-{numbers.randrange(1000)}")["version"] else 0


def move_alias(api: Api, _folder: Path, numbers: random.Random) -> int:
    return api.call("PUT", "/adapters/task/load/aliases/prod", {"version": numbers.randint(1, 3)}).status


def yank(api: Api, _folder: Path, _numbers: random.Random) -> int:
    api.call("POST", "/adapters/task/load/versions/v4/yank", {"reason": "load"}, expect=200)
    return api.call("DELETE", "/adapters/task/load/versions/v4/yank").status


def read_part(api: Api, _folder: Path, numbers: random.Random) -> int:
    return api.call("GET", WEIGHTS, headers={"Range": f"bytes={numbers.randint(0, 1000)}-"}).status


ACTIONS: dict[str, Any] = {
    "publish": publish,
    "move alias": move_alias,
    "yank": yank,
    "read part": read_part,
    "read": lambda api, _folder, _numbers: api.call("GET", WEIGHTS).status,
    "resolve": lambda api, _folder, _numbers: api.call("GET", "/adapters/task/load/versions/latest").status,
    "list": lambda api, _folder, _numbers: api.call("GET", "/adapters/task/load/versions").status,
    "search": lambda api, _folder, _numbers: api.call("GET", "/adapters?q=load&rank_max=8").status,
    "page": lambda api, _folder, _numbers: api.sender.send("GET", "/task/load", {"Accept": "text/html"}, None).status,
}
