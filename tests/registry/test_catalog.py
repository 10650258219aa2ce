"""Search: filters, facets, order and pages, held against a model that looks at every adapter one by one."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from hub.adapter.facets import COUNTED, FACETS
from hub.errors import InvalidRequest
from hub.registry.db.models import AdapterRow, TermChunkRow, TermRow
from hub.registry.rights.access import ANONYMOUS
from hub.registry.search import facets
from hub.registry.values import Adapter, MetricFilter, Query
from hub.settings import ServerSettings
from tests.registry.conftest import DATABASES, fresh_database
from tests.registry.world import World, named

TASKS, BASES, LICENSES, TAGS = ["qa", "sql", "chat"], ["org/one", "org/two"], ["mit", "apache-2.0"], ["a", "b", "c"]


def fill(world: World, count: int, seed: int = 0) -> None:
    """Publish adapters with facts drawn from a seed; every fifth is private."""
    draw = random.Random(seed)
    for number in range(count):
        tags = draw.sample(TAGS, draw.randint(0, 2))
        front = f"---\nlicense: {draw.choice(LICENSES)}\ntags: [{', '.join(tags)}]\n---\nNumber {number} of many.\n"
        folder = world.adapter(
            seed=number,
            readme=front,
            rank=draw.choice([2, 4]),
            alpha=draw.choice([4, 8]),
            layers=1,
            hidden=8,
            targets=draw.choice([("q_proj",), ("q_proj", "v_proj")]),
            base=draw.choice(BASES),
            config={"use_rslora": draw.random() < 0.3},
        )
        space = draw.choice(["task", "lab"])
        world.push(f"{space}/item-{number:03}", folder, task=draw.choice(TASKS), private=number % 5 == 0)


def everything(world: World) -> list[Adapter]:
    """Return all adapters without the catalog's index: from the rows themselves."""
    from hub.registry.library import adapters

    with world.context.database.read() as session:
        rows = session.scalars(select(AdapterRow).where(AdapterRow.recent_id > 0).order_by(AdapterRow.recent_id.desc()))
        return adapters.describe_many(session, world.admin, rows.all())


def matches(adapter: Adapter, query: Query) -> bool:
    wanted = query.having
    return (
        ("task" not in wanted or adapter.task in wanted["task"])
        and ("base" not in wanted or adapter.base in wanted["base"])
        and ("license" not in wanted or adapter.license in wanted["license"])
        and ("method" not in wanted or adapter.method in wanted["method"])
        and ("namespace" not in wanted or adapter.name.namespace in wanted["namespace"])
        and set(wanted.get("tag", ())) <= set(adapter.tags)
        and set(wanted.get("target", ())) <= set(adapter.target_modules)
        and ("rank" not in wanted or str(adapter.rank) in wanted["rank"])
        and ("alpha" not in wanted or adapter.alpha in map(float, wanted["alpha"]))
        and (query.rank_max is None or (adapter.rank or 0) <= query.rank_max)
        and (query.rank_min is None or (adapter.rank or 0) >= query.rank_min)
        and (query.size_max is None or (adapter.size_bytes or 0) <= query.size_max)
    )


def asking(**options: Any) -> Query:
    """Take facets by their names, beside the other fields of a query."""
    having = {facet.name: options.pop(facet.name) for facet in FACETS if facet.name in options}
    return Query(having=having, **options)


def counted(adapters: list[Adapter], field: str) -> dict[str, int]:
    values: Counter[str] = Counter()
    for adapter in adapters:
        many = {"tag": adapter.tags, "target": adapter.target_modules}.get(field)
        values.update([str(getattr(adapter, field))] if many is None else many)
    values.pop("None", None)
    return dict(values)


QUERIES: list[dict[str, Any]] = [
    {},
    {"task": ("qa",)},
    {"task": ("qa", "sql"), "base": ("org/one",)},
    {"license": ("mit",), "tag": ("a",)},
    {"tag": ("a", "b")},
    {"target": ("q_proj", "v_proj"), "method": ("rslora",)},
    {"rank_max": 2},
    {"rank_min": 3, "alpha": ("8",)},
    {"rank": ("4",), "rank_max": 2},
    {"namespace": ("lab",), "size_max": 1_100},
    {"base": ("nobody/nothing",)},
]


@pytest.fixture(scope="module", params=DATABASES)
def catalog(request: pytest.FixtureRequest, quick_folder: Path) -> Iterator[World]:
    """A catalog that the tests only read: it is filled once for each kind of database."""
    folder = Path(tempfile.mkdtemp(dir=quick_folder))
    database = fresh_database(str(request.param), request, folder)
    world = World.open(ServerSettings(data=folder, database=database, store=str(folder / "store")), folder)
    fill(world, 24)
    yield world
    world.close()


def test_every_filter_finds_what_looking_at_each_adapter_finds(catalog: World) -> None:
    rows = everything(catalog)
    for actor, visible in ((catalog.admin, rows), (ANONYMOUS, [row for row in rows if not row.private])):
        for options in QUERIES:
            query = asking(limit=100, **options)
            page = catalog.registry.adapters.search(actor, query)
            wanted = [row.name for row in visible if matches(row, query)]
            assert [item.name for item in page.items] == wanted, options
            assert page.total == len(wanted)


def test_facets_count_what_is_there_without_the_fields_own_filter(catalog: World) -> None:
    rows = [row for row in everything(catalog) if not row.private]
    for options in QUERIES:
        page = catalog.registry.adapters.search(ANONYMOUS, asking(**options))
        for field in (facet.name for facet in COUNTED):
            own = {"rank", "rank_max", "rank_min"} if field == "rank" else {field}
            others = options if field in {"tag", "target"} else {k: v for k, v in options.items() if k not in own}
            among = [row for row in rows if matches(row, asking(**others))]
            assert {item.value: item.count for item in page.facets[field]} == counted(among, field), (options, field)


@pytest.mark.parametrize("sort", ["recent", "new", "downloads", "name"])
def test_pages_show_everything_once_and_in_order(catalog: World, sort: Any) -> None:
    draw = random.Random(1)
    for row in everything(catalog):
        for visitor in range(draw.randint(0, 3)):
            version = catalog.registry.versions.list(catalog.admin, row.name)[0]
            catalog.registry.versions.count_download(ANONYMOUS, version.id, str(visitor))
    rows = everything(catalog)
    keys: dict[str, Any] = {
        "recent": lambda row: rows.index(row),
        "new": lambda row: -row.id,
        "downloads": lambda row: (-row.downloads, -row.id),
        "name": lambda row: str(row.name),
    }
    seen: list[str] = []
    cursor = None
    while True:
        page = catalog.registry.adapters.search(catalog.admin, Query(sort=sort, limit=5, cursor=cursor))
        seen += [str(item.name) for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page.items) == 5
    assert seen == [str(row.name) for row in sorted(rows, key=keys[sort])]


def test_page_is_the_same_whether_the_index_is_walked_or_the_matches_are_sorted(
    catalog: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pages(query: Query) -> list[str]:
        return [str(item.name) for item in catalog.registry.adapters.search(catalog.admin, query).items]

    for options in QUERIES:
        for sort in ("recent", "downloads", "name"):
            query = asking(sort=sort, limit=7, **options)  # type: ignore[arg-type]
            sorted_matches = pages(query)
            monkeypatch.setattr("hub.registry.library.catalog._FEW", 0)
            assert pages(query) == sorted_matches
            monkeypatch.setattr("hub.registry.library.catalog._WALK_ROWS", 1)
            assert pages(query) == sorted_matches
            monkeypatch.undo()


def test_text_is_found_by_words_and_their_beginnings(world: World) -> None:
    world.push(
        "task/qa-json", world.adapter(seed=1, readme="---\ntags: [finance]\n---\nAnswers about Müller's invoices.\n")
    )
    world.push("task/other", world.adapter(seed=2, readme="Nothing of that.\n"))
    for text in ("qa", "json", "QA-JSON", "task/qa", "finance", "müller", "invoi", "answers invoices", "tiny-llama qa"):
        found = [str(item.name) for item in world.registry.adapters.search(ANONYMOUS, Query(text=text)).items]
        assert found == ["task/qa-json"], text
    assert world.registry.adapters.search(ANONYMOUS, Query(text="answers spreadsheet")).total == 0
    assert world.registry.adapters.search(ANONYMOUS, Query(text="  ")).total == 2


@pytest.mark.parametrize(
    "text",
    ['foo"', "a:b", "-x", "*", "NEAR(a b)", "a OR b", "'; DROP TABLE adapters; --", "(", "\x00", "!&|", "ÿ" * 5000],
)
def test_nothing_that_is_typed_breaks_the_search(world: World, text: str) -> None:
    world.push("task/qa")
    assert world.registry.adapters.search(ANONYMOUS, Query(text=text)).total in {0, 1}


@pytest.mark.parametrize("cursor", ["", "x", "eyJhIjoxfQ", "W10", "WyJuYW1lIiwxLDJd", "WyJyZWNlbnQiLCJ4IiwxXQ", "é"])
def test_cursor_that_was_never_given_out_is_refused(world: World, cursor: str) -> None:
    with pytest.raises(InvalidRequest):
        world.registry.adapters.search(ANONYMOUS, Query(cursor=cursor))


def test_metrics_of_the_latest_version_are_searched(world: World) -> None:
    for number, value in enumerate((0.5, 0.8, 0.9)):
        world.push(f"task/m{number}", seed=number)
        world.registry.metrics.set(world.admin, named(f"task/m{number}"), 1, "accuracy", value, "squad")

    def found(*filters: MetricFilter) -> set[str]:
        return {item.name.name for item in world.registry.adapters.search(ANONYMOUS, Query(metrics=filters)).items}

    assert found(MetricFilter("accuracy", ">=", 0.8)) == {"m1", "m2"}
    assert found(MetricFilter("accuracy", ">", 0.8), MetricFilter("accuracy", "<", 1)) == {"m2"}
    assert found(MetricFilter("f1", ">", 0)) == set()
    world.push("task/m2", seed=9)
    assert found(MetricFilter("accuracy", ">=", 0.8)) == {"m1"}, "the new version has no such metric"
    world.registry.metrics.delete(world.admin, named("task/m1"), 1, "accuracy", "squad")
    assert found(MetricFilter("accuracy", ">=", 0.0)) == {"m0"}
    with pytest.raises(InvalidRequest):
        found(MetricFilter("accuracy", "~", 1))  # type: ignore[arg-type]


def test_private_adapters_are_found_by_members_and_counted_for_nobody_else(world: World) -> None:
    world.namespace("vault", private=True)
    world.push("vault/one", seed=1)
    world.push("open/two", seed=2, private=True)
    world.push("open/three", seed=3)
    member = world.user("mia", {"vault": "reader"})
    assert world.registry.adapters.search(ANONYMOUS, Query()).total == 1
    assert world.registry.adapters.search(member, Query()).total == 2
    assert world.registry.adapters.search(world.admin, Query()).total == 3
    assert [item.count for item in world.registry.adapters.search(ANONYMOUS, Query()).facets["method"]] == [1]
    world.registry.namespaces.update(world.admin, "vault", private=False)
    assert world.registry.adapters.search(ANONYMOUS, Query()).total == 2
    world.registry.namespaces.update(world.admin, "vault", private=True)
    world.registry.adapters.update(world.admin, named("open/two"), private=False)
    assert world.registry.adapters.search(ANONYMOUS, Query()).total == 2


def test_catalog_follows_every_mutation_and_equals_an_index_built_anew(world: World) -> None:
    fill(world, 8, seed=3)
    names = [row.name for row in everything(world)]
    world.push(str(names[0]), world.adapter(seed=99, base="org/three", readme="---\nlicense: gpl-3.0\n---\n"))
    world.registry.versions.yank(world.admin, names[0], 2, "bad")
    world.registry.adapters.update(world.admin, names[1], private=True)
    world.registry.adapters.delete(world.admin, names[2])
    world.registry.versions.delete(world.admin, names[3], 1)
    world.registry.bases.update(world.admin, "org/one", new_id="org/renamed")
    world.registry.namespaces.update(world.admin, "lab", private=True)
    before = index(world)
    world.context.database.transact(facets.rebuild)
    assert index(world) == before
    assert world.registry.upkeep.check().problems == ()


def index(world: World) -> dict[tuple[str, str], tuple[int, int]]:
    with world.context.database.read() as session:
        terms = session.execute(select(TermRow.field, TermRow.value, TermRow.count).where(TermRow.count > 0)).all()
        sets = facets.load(session, [(field, value) for field, value, _ in terms])
        assert session.scalar(select(TermChunkRow.chunk)) == 0
    return {(field, value): (count, sets[(field, value)]) for field, value, count in terms}


def test_statistics_count_what_is_there(world: World) -> None:
    world.push("task/qa", seed=1)
    size = world.push("task/qa", seed=2).version.size_bytes
    found = world.registry.adapters.statistics()
    # Two versions, whose adapter_config.json is one blob.
    assert (found["adapters"], found["versions"], found["blobs"]) == (1, 2, 3)
    assert size < found["bytes"] < 2 * size
