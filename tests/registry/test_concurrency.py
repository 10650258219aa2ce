"""Many at once: publishers in several processes, and readers in between."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from hub.registry.access import ANONYMOUS
from hub.registry.values import Query
from tests.registry.world import World, named

QA = named("task/qa")
PUBLISHERS, WORKERS = 40, 4


def requests_for(world: World, folders: list[Path]) -> list[dict[str, Any]]:
    settings = world.context.settings
    token = world.registry.create_token(world.admin, "crowd", ["read", "publish"]).secret
    common = {"data": str(settings.data), "database": settings.database, "store": settings.store, "token": token}
    return [{**common, "name": str(QA), "folder": str(folder)} for folder in folders]


def push_at_once(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let four processes push their shares with ten threads each, all from the same moment."""
    shares = [requests[place::WORKERS] for place in range(WORKERS)]
    crowd = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.registry.crowd"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in shares
    ]
    for process in crowd:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process, share in zip(crowd, shares, strict=True):
        assert process.stdin is not None
        process.stdin.write(json.dumps(share) + "\n")
        process.stdin.flush()
    results = []
    for process in crowd:
        out, _ = process.communicate(timeout=200)
        results += json.loads(out)
    return results


def test_forty_publishers_in_four_processes_get_forty_numbers(world: World) -> None:
    """None lost, no gap, no number twice, no error; the same content is one version, whoever sent it first."""
    folders = [world.adapter(seed=seed, layers=1, hidden=8) for seed in range(PUBLISHERS - 4)]
    folders += [folders[0], folders[0], folders[1], folders[1]]
    results = push_at_once(requests_for(world, folders))
    assert [result for result in results if "error" in result] == []
    created = sorted(result["number"] for result in results if result["created"])
    assert created == list(range(1, PUBLISHERS - 4 + 1))
    shown = world.registry.versions(ANONYMOUS, QA)
    assert [version.number for version in shown] == created[::-1]
    counts = Counter(result["number"] for result in results)
    assert sorted(counts.values(), reverse=True)[:2] == [3, 3]
    assert world.registry.search(ANONYMOUS, Query()).total == 1
    assert world.registry.check_storage().ok
    events = [event.action for event in world.registry.audit_log(world.admin, "task", limit=500)]
    assert events.count("version.publish") == PUBLISHERS - 4


def test_writers_of_different_adapters_never_lock_each_other_out(world: World) -> None:
    """They share every row of the catalog's index, which is where they could deadlock."""
    failures: list[BaseException] = []
    start = threading.Barrier(8)
    folders = [
        [world.adapter(seed=10 * writer + turn, layers=1, hidden=8, rank=2 + turn % 2) for turn in range(3)]
        for writer in range(8)
    ]

    def write(writer: int) -> None:
        start.wait()
        try:
            for turn, folder in enumerate(folders[writer]):
                world.push(f"task/w{writer}", folder)
                world.registry.set_alias(world.admin, named(f"task/w{writer}"), "prod", turn + 1)
            world.registry.yank(world.admin, named(f"task/w{writer}"), 3, "last one")
        except BaseException as error:  # noqa: BLE001  (shown by the assertion)
            failures.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    page = world.registry.search(ANONYMOUS, Query())
    assert page.total == 8
    assert {item.value: item.count for item in page.facets["rank"]} == {"3": 8}, "v2 is the latest of each"
    assert world.registry.check_storage().ok


def test_readers_see_whole_versions_while_writers_write(world: World) -> None:
    world.push("task/qa", world.adapter(layers=1, hidden=8))
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            version = world.registry.resolve(ANONYMOUS, QA.at("latest"))
            tree = world.registry.tree(ANONYMOUS, QA, f"v{version.number}")
            if {file.path for file in tree.files} != {file.path for file in version.manifest.files}:
                wrong.append(version.number)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for seed in range(1, 9):
        world.push("task/qa", world.adapter(seed=seed, layers=1, hidden=8))
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
