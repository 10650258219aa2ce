"""Many at once: publishers in several processes, and readers in between."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hub.errors import Unavailable
from hub.registry.rights.access import ANONYMOUS
from hub.registry.values import Query
from hub.settings import ServerSettings
from tests.registry.conftest import fresh_database
from tests.registry.world import World, named
from tests.support.threads import at_once

QA = named("task/qa")
PUBLISHERS, WORKERS = 40, 4
WRITERS = 16


def requests_for(world: World, folders: list[Path]) -> list[dict[str, Any]]:
    settings = world.context.settings
    token = world.registry.tokens.create(world.admin, "crowd", ["read", "publish"]).secret
    common = {"data": str(settings.data), "database": settings.database, "store": settings.store, "token": token}
    return [{**common, "name": str(QA), "folder": str(folder)} for folder in folders]


def push_at_once(requests: list[dict[str, Any]], processes: int = WORKERS) -> list[dict[str, Any]]:
    """Let so many processes push their shares with a thread per request, all from the same moment."""
    shares = [requests[place::processes] for place in range(processes)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.registry.crowd"],
        input=json.dumps(shares) + "\n",
        stdout=subprocess.PIPE,
        text=True,
        timeout=200,
        check=True,
    )
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def test_forty_publishers_in_four_processes_get_forty_numbers(world: World) -> None:
    """None lost, no gap, no number twice, no error; the same content is one version, whoever sent it first."""
    folders = [world.adapter(seed=seed, layers=1, hidden=8) for seed in range(PUBLISHERS - 4)]
    folders += [folders[0], folders[0], folders[1], folders[1]]
    results = push_at_once(requests_for(world, folders))
    assert [result for result in results if "error" in result] == []
    created = sorted(result["number"] for result in results if result["created"])
    assert created == list(range(1, PUBLISHERS - 4 + 1))
    shown = world.registry.versions.list(ANONYMOUS, QA)
    assert [version.number for version in shown] == created[::-1]
    counts = Counter(result["number"] for result in results)
    assert sorted(counts.values(), reverse=True)[:2] == [3, 3]
    assert world.registry.adapters.search(ANONYMOUS, Query()).total == 1
    assert world.registry.upkeep.check().ok
    events = [event.action for event in world.registry.audit.list(world.admin, "task", limit=500)]
    assert events.count("version.publish") == PUBLISHERS - 4


def test_sixteen_processes_that_write_one_sqlite_file_are_all_served(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Half of them to one adapter, half each to its own: SQLite's lock is waited for, and no user hears of it."""
    database = fresh_database("sqlite", request, tmp_path)
    world = World.open(ServerSettings(tmp_path, database, str(tmp_path / "store")), tmp_path)
    folders = [world.adapter(seed=seed, layers=1, hidden=8) for seed in range(2 * WRITERS)]
    requests = requests_for(world, folders)
    for place, one in enumerate(requests):
        one |= {"alias": "newest"} if place < WRITERS else {"name": f"task/w{place}"}
    results = push_at_once(requests, WRITERS)
    assert [result for result in results if not result.get("created")] == []
    assert sorted(result["number"] for result in results) == [1] * WRITERS + list(range(1, WRITERS + 1))
    assert world.registry.adapters.search(ANONYMOUS, Query()).total == 1 + WRITERS
    moves = world.registry.aliases.history(ANONYMOUS, QA, "newest")
    assert len(moves) == WRITERS, "each of them moved the alias, one after the other"
    assert world.registry.upkeep.check().ok
    world.close()


def test_a_writer_that_holds_sqlite_too_long_is_told_as_the_registry_being_busy(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program that never lets go: a 503 in our own words, and no other lasting harm."""
    monkeypatch.setattr("hub.registry.db.database.BUSY_TIMEOUT_SECONDS", 0.2)
    database = fresh_database("sqlite", request, tmp_path)
    world = World.open(ServerSettings(tmp_path, database, str(tmp_path / "store")), tmp_path)
    world.push("task/qa")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, database.removeprefix("sqlite:///")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Unavailable, match="busy") as caught:
            world.registry.versions.yank(world.admin, QA, 1, "why")
        assert "lock" not in caught.value.message
        assert world.registry.versions.resolve(ANONYMOUS, QA.at("latest")).number == 1, "reading goes on"
        holder.communicate("let go\n", timeout=30)
    assert world.registry.versions.yank(world.admin, QA, 1, "why").yanked is not None
    world.close()


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
"""


def test_writers_of_different_adapters_never_lock_each_other_out(world: World) -> None:
    """They share every row of the catalog's index, which is where they could deadlock."""
    folders = [
        [world.adapter(seed=10 * writer + turn, layers=1, hidden=8, rank=2 + turn % 2) for turn in range(3)]
        for writer in range(8)
    ]

    def write(writer: int) -> None:
        for turn, folder in enumerate(folders[writer]):
            world.push(f"task/w{writer}", folder)
            world.registry.aliases.set(world.admin, named(f"task/w{writer}"), "prod", turn + 1)
        world.registry.versions.yank(world.admin, named(f"task/w{writer}"), 3, "last one")

    at_once(8, write)
    page = world.registry.adapters.search(ANONYMOUS, Query())
    assert page.total == 8
    assert {item.value: item.count for item in page.facets["rank"]} == {"3": 8}, "v2 is the latest of each"
    assert world.registry.upkeep.check().ok


def test_readers_see_whole_versions_while_writers_write(world: World) -> None:
    world.push("task/qa", world.adapter(layers=1, hidden=8))
    stop, everybody_reads = threading.Event(), threading.Barrier(4)

    def read() -> None:
        is_first = True
        while not stop.is_set():
            version = world.registry.versions.resolve(ANONYMOUS, QA.at("latest"))
            tree = world.registry.commits.tree(ANONYMOUS, QA, f"v{version.number}")
            assert {file.path for file in tree.files} == {file.path for file in version.manifest.files}
            if is_first:
                everybody_reads.wait(60)
            is_first = False

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            everybody_reads.wait(60)
            for seed in range(1, 9):
                world.push("task/qa", world.adapter(seed=seed, layers=1, hidden=8))
        finally:
            stop.set()
    for reader in readers:
        reader.result()
