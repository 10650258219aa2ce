"""Versions: what a ref means, yank, delete, deprecate, downloads."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hub.errors import AdapterNotFound, Conflict, FileNotFound, InvalidRef, InvalidRequest, VersionNotFound
from hub.registry.rights.access import ANONYMOUS
from tests.registry.world import World, named, ref

QA = named("task/qa")


def read(world: World, text: str, path: str) -> bytes:
    found = world.registry.versions.open_file(ANONYMOUS, ref(text), path)
    return b"".join(found.open(0, found.entry.size))


def test_every_kind_of_ref_finds_its_version(world: World) -> None:
    first = world.push("task/qa", seed=1, alias="prod").version
    world.push("task/qa", seed=2)
    found = {
        text: world.registry.versions.resolve(ANONYMOUS, ref(text)).number
        for text in ("task/qa", "task/qa@latest", "task/qa@v1", "task/qa@prod", f"task/qa@sha256:{first.digest}")
    }
    assert list(found.values()) == [2, 2, 1, 1, 1]


def test_a_resolved_version_is_the_one_that_is_listed(world: World) -> None:
    world.push("task/qa", seed=1)
    world.push(
        "task/qa", seed=2, alias="prod", trained_from=["task/qa@v1", "elsewhere/x@v3"], merged_from=["task/qa@v1"]
    )
    world.registry.aliases.set(world.admin, QA, "beta", 2)
    for name, dataset in (("f1", "squad"), ("accuracy", ""), ("f1", "")):
        world.registry.metrics.set(world.admin, QA, 2, name, 0.5, dataset)
    world.registry.versions.yank(world.admin, QA, 1, "leaks")
    for listed in world.registry.versions.list(ANONYMOUS, QA):
        found = world.registry.versions.resolve(ANONYMOUS, ref(f"task/qa@v{listed.number}"))
        assert found.manifest_json
        assert replace(found, manifest_json=None) == listed


def test_missing_version_names_the_latest(world: World) -> None:
    world.push("task/qa")
    with pytest.raises(VersionNotFound, match=r"has no version v9; the latest is v1.*lorahub show task/qa"):
        world.registry.versions.resolve(ANONYMOUS, ref("task/qa@v9"))
    with pytest.raises(AdapterNotFound):
        world.registry.versions.resolve(ANONYMOUS, ref("task/none"))


def test_files_come_back_byte_by_byte_and_by_range(world: World) -> None:
    folder = world.adapter()
    world.push("task/qa", folder)
    weights = (folder / "adapter_model.safetensors").read_bytes()
    assert read(world, "task/qa@v1", "adapter_model.safetensors") == weights
    found = world.registry.versions.open_file(ANONYMOUS, ref("task/qa@v1"), "adapter_model.safetensors")
    assert b"".join(found.open(100, 333)) == weights[100:333]
    assert b"".join(found.open(len(weights) - 5, len(weights) + 5)) == weights[-5:]
    with pytest.raises(FileNotFound):
        world.registry.versions.open_file(ANONYMOUS, ref("task/qa@v1"), "../registry.sqlite3")


def test_yanked_version_is_skipped_by_latest_and_still_readable(world: World) -> None:
    for seed in (1, 2, 3):
        world.push("task/qa", seed=seed)
    world.registry.versions.yank(world.admin, QA, 3, "leaks")
    assert world.registry.versions.resolve(ANONYMOUS, ref("task/qa")).number == 2
    shown = world.registry.versions.resolve(ANONYMOUS, ref("task/qa@v3"))
    assert shown.yanked is not None
    assert (shown.yanked.reason, shown.yanked.by) == ("leaks", "admin")
    assert len(read(world, "task/qa@v3", "adapter_config.json")) > 0
    world.registry.versions.unyank(world.admin, QA, 3)
    assert world.registry.versions.resolve(ANONYMOUS, ref("task/qa")).number == 3


def test_when_all_versions_are_yanked_there_is_no_latest(world: World) -> None:
    world.push("task/qa")
    world.registry.versions.yank(world.admin, QA, 1, "wrong data")
    with pytest.raises(VersionNotFound, match="is yanked"):
        world.registry.versions.resolve(ANONYMOUS, ref("task/qa"))
    assert world.registry.adapters.get(ANONYMOUS, QA).latest is None


def test_yank_takes_a_reason(world: World) -> None:
    world.push("task/qa")
    with pytest.raises(InvalidRequest):
        world.registry.versions.yank(world.admin, QA, 1, "  ")


def test_number_of_a_deleted_version_is_never_used_again(world: World) -> None:
    folder = world.adapter(seed=7)
    world.push("task/qa", seed=1)
    world.push("task/qa", folder)
    world.registry.versions.delete(world.admin, QA, 2)
    with pytest.raises(VersionNotFound):
        world.registry.versions.resolve(ANONYMOUS, ref("task/qa@v2"))
    assert world.registry.versions.resolve(ANONYMOUS, ref("task/qa")).number == 1
    # The same content as the deleted version's: a new number all the same.
    again = world.push("task/qa", folder)
    assert (again.version.number, again.created) == (3, True)


def test_version_is_deleted_within_72_hours_only(world: World) -> None:
    world.push("task/qa")
    world.clock.forward(hours=73)
    with pytest.raises(Conflict, match="72 hours"):
        world.registry.versions.delete(world.admin, QA, 1)
    with pytest.raises(Conflict, match="72 hours"):
        world.registry.adapters.delete(world.admin, QA)
    world.push("task/qa", seed=2)
    world.clock.forward(hours=71)
    world.registry.versions.delete(world.admin, QA, 2)
    assert [version.number for version in world.registry.versions.list(ANONYMOUS, QA)] == [1]


def test_version_that_an_alias_names_is_not_deleted(world: World) -> None:
    world.push("task/qa", alias="prod")
    with pytest.raises(Conflict, match="@prod"):
        world.registry.versions.delete(world.admin, QA, 1)


def test_deleted_adapter_keeps_its_name_and_goes_on_counting(world: World) -> None:
    world.push("task/qa", seed=1)
    world.push("task/qa", seed=2, alias="prod")
    world.registry.adapters.delete(world.admin, QA)
    with pytest.raises(AdapterNotFound):
        world.registry.adapters.get(world.admin, QA)
    assert world.push("task/qa", seed=3).version.number == 3
    assert world.registry.aliases.list(ANONYMOUS, QA) == ()
    with pytest.raises(VersionNotFound):
        world.registry.versions.resolve(ANONYMOUS, ref("task/qa@v1"))


def test_name_of_a_namespace_is_never_given_to_another_owner(world: World) -> None:
    world.namespace("team")
    with pytest.raises(Conflict):
        world.registry.namespaces.create(world.admin, "team")
    with pytest.raises(Conflict):
        world.registry.users.create(world.admin, "team")


@pytest.mark.parametrize("name", ["api", "static", "models", "login"])
def test_names_of_the_servers_own_pages_are_no_namespaces(world: World, name: str) -> None:
    with pytest.raises(InvalidRef):
        world.push(f"{name}/thing")


def test_deprecation_points_to_a_successor_and_can_be_taken_back(world: World) -> None:
    world.push("task/qa")
    marked = world.registry.versions.deprecate(world.admin, QA, 1, "old base", "task/next@v2").deprecated
    assert marked is not None
    assert (marked.reason, marked.successor) == ("old base", "task/next@v2")
    assert world.registry.versions.deprecate(world.admin, QA, 1, None).deprecated is None
    adapter = world.registry.adapters.deprecate(world.admin, QA, "moved", "task/next")
    assert adapter.deprecated is not None
    assert adapter.deprecated.successor == "task/next"
    with pytest.raises(InvalidRef):
        world.registry.adapters.deprecate(world.admin, QA, "moved", "not a ref")


def test_download_counts_once_per_user_version_and_day(world: World) -> None:
    version = world.push("task/qa").version
    other = world.push("task/qa", seed=2).version
    count = world.registry.versions.count_download
    ann, bob = world.user("ann"), world.user("bob")
    assert [count(ann, version.id), count(ann, version.id), count(bob, version.id)] == [True, False, True]
    assert [count(ANONYMOUS, version.id, "1.2.3.4"), count(ANONYMOUS, version.id, "1.2.3.4")] == [True, False]
    assert count(ann, other.id)
    world.clock.forward(days=1)
    assert count(ann, version.id)
    assert world.registry.versions.resolve(ANONYMOUS, ref("task/qa@v1")).downloads == 4
    assert world.registry.adapters.get(ANONYMOUS, QA).downloads == 5
    days = world.registry.versions.download_history(ANONYMOUS, QA)
    assert [(day.day, day.count) for day in days] == [("2031-05-04", 4), ("2031-05-05", 1)]


def test_resolve_that_is_answered_from_memory_sees_every_change(world: World) -> None:
    """One mutation of each kind, with a resolve before and after: none may answer with what was."""
    registry, admin = world.registry, world.admin
    version = world.push("task/qa").version

    def shown() -> object:
        found = registry.versions.resolve(ANONYMOUS, ref("task/qa@v1"))
        return (found.aliases, found.yanked, found.deprecated, found.metrics, found.downloads, found.base)

    registry.bases.update(admin, "tests/tiny-llama", new_id="tests/renamed")
    states = [shown()]
    for mutate in (
        lambda: registry.aliases.set(admin, QA, "prod", 1),
        lambda: registry.metrics.set(admin, QA, 1, "accuracy", 0.5),
        lambda: registry.metrics.set(admin, QA, 1, "accuracy", 0.75),
        lambda: registry.versions.deprecate(admin, QA, 1, "old"),
        lambda: registry.versions.count_download(admin, version.id),
        lambda: registry.bases.update(admin, "tests/renamed", new_id="tests/again"),
        lambda: registry.versions.yank(admin, QA, 1, "bad"),
        lambda: registry.versions.unyank(admin, QA, 1),
        lambda: registry.aliases.delete(admin, QA, "prod"),
    ):
        assert shown() == states[-1]
        mutate()
        assert shown() != states[-1]
        states.append(shown())


def test_children_are_found_unless_they_may_not_be_read(world: World) -> None:
    world.push("task/qa", seed=1)
    world.push("task/child", seed=2, trained_from=["task/qa@v1"])
    world.push("vault/child", seed=3, private=True, merged_from=["task/qa@v1"])
    seen = [child.ref for child in world.registry.versions.children(ANONYMOUS, ref("task/qa@v1"))]
    assert seen == ["task/child@v1"]
    assert len(world.registry.versions.children(world.admin, ref("task/qa@v1"))) == 2
