"""Aliases: compare-and-swap, protection, history."""

from __future__ import annotations

import pytest

from hub.errors import AliasNotFound, Conflict, Forbidden, InvalidRef, PreconditionFailed, VersionNotFound
from hub.registry.rights.access import ANONYMOUS
from tests.registry.world import World, named, ref
from tests.support.threads import at_once

QA = named("task/qa")


@pytest.fixture
def two_versions(world: World) -> World:
    world.push("task/qa", seed=1)
    world.push("task/qa", seed=2)
    return world


def test_alias_resolves_to_its_version_until_it_is_moved(two_versions: World) -> None:
    registry, admin = two_versions.registry, two_versions.admin
    registry.aliases.set(admin, QA, "prod", 1)
    assert registry.versions.resolve(ANONYMOUS, ref("task/qa@prod")).number == 1
    registry.aliases.set(admin, QA, "prod", 2)
    assert registry.versions.resolve(ANONYMOUS, ref("task/qa@prod")).number == 2


def test_move_that_expects_another_version_is_refused_and_changes_nothing(two_versions: World) -> None:
    registry, admin = two_versions.registry, two_versions.admin
    registry.aliases.set(admin, QA, "prod", 1, expected=None)
    with pytest.raises(PreconditionFailed) as caught:
        registry.aliases.set(admin, QA, "prod", 2, expected=2)
    assert caught.value.details["current"] == 1
    with pytest.raises(PreconditionFailed):
        registry.aliases.set(admin, QA, "prod", 2, expected=None)
    with pytest.raises(PreconditionFailed):
        registry.aliases.delete(admin, QA, "prod", expected=2)
    assert registry.versions.resolve(admin, ref("task/qa@prod")).number == 1
    assert registry.aliases.set(admin, QA, "prod", 2, expected=1).version == 2


def test_of_movers_that_expect_the_same_version_one_wins(two_versions: World) -> None:
    two_versions.push("task/qa", seed=3)
    registry, admin = two_versions.registry, two_versions.admin
    registry.aliases.set(admin, QA, "prod", 1)

    def move(place: int) -> str:
        try:
            registry.aliases.set(admin, QA, "prod", 2 + place % 2, expected=1)
        except PreconditionFailed:
            return "refused"
        return "moved"

    assert sorted(at_once(6, move)) == ["moved"] + ["refused"] * 5


def test_only_owners_protect_move_or_delete_a_protected_alias(two_versions: World) -> None:
    registry, admin = two_versions.registry, two_versions.admin
    publisher = two_versions.user("pia", {"task": "publisher"})
    owner = two_versions.user("olga", {"task": "owner"})
    registry.aliases.set(publisher, QA, "beta", 1)
    with pytest.raises(Forbidden):
        registry.aliases.set(publisher, QA, "beta", 1, protected=True)
    assert registry.aliases.set(owner, QA, "beta", 1, protected=True).protected
    for attempt in (
        lambda: registry.aliases.set(publisher, QA, "beta", 2),
        lambda: registry.aliases.set(publisher, QA, "beta", 2, protected=False),
        lambda: registry.aliases.delete(publisher, QA, "beta"),
    ):
        with pytest.raises(Forbidden):
            attempt()
    assert registry.aliases.set(owner, QA, "beta", 2).protected, "a move keeps the protection"
    registry.aliases.delete(owner, QA, "beta")
    assert registry.aliases.list(admin, QA) == ()


def test_history_tells_every_move_newest_first(two_versions: World) -> None:
    registry, admin = two_versions.registry, two_versions.admin
    registry.aliases.set(admin, QA, "prod", 1)
    registry.aliases.set(admin, QA, "prod", 2)
    registry.aliases.set(admin, QA, "prod", 2)
    registry.aliases.set(admin, QA, "other", 1)
    registry.aliases.delete(admin, QA, "prod")
    moves = [(move.before, move.after, move.by) for move in registry.aliases.history(ANONYMOUS, QA, "prod")]
    assert moves == [(2, None, "admin"), (1, 2, "admin"), (None, 1, "admin")]
    assert len(registry.aliases.history(ANONYMOUS, QA)) == 4


def test_alias_is_never_moved_to_a_yanked_version_but_keeps_pointing_to_one(two_versions: World) -> None:
    registry, admin = two_versions.registry, two_versions.admin
    registry.aliases.set(admin, QA, "prod", 2)
    registry.versions.yank(admin, QA, 2, "answers in Klingon")
    with pytest.raises(Conflict, match="Klingon"):
        registry.aliases.set(admin, QA, "next", 2)
    shown = registry.versions.resolve(admin, ref("task/qa@prod"))
    assert shown.number == 2
    assert shown.yanked is not None


@pytest.mark.parametrize("name", ["latest", "main", "v3", "v3x", "a" * 40, "sha256:" + "a" * 64, "../x", "", "a//b"])
def test_names_that_read_as_something_else_are_no_aliases(two_versions: World, name: str) -> None:
    with pytest.raises(InvalidRef):
        two_versions.registry.aliases.set(two_versions.admin, QA, name, 1)


def test_aliases_with_slashes_work(two_versions: World) -> None:
    two_versions.registry.aliases.set(two_versions.admin, QA, "rel/1.0", 1)
    assert two_versions.registry.versions.resolve(ANONYMOUS, ref("task/qa@rel/1.0")).number == 1


def test_missing_alias_or_version_is_named_with_what_there_is(two_versions: World) -> None:
    registry, admin = two_versions.registry, two_versions.admin
    registry.aliases.set(admin, QA, "prod", 1)
    with pytest.raises(AliasNotFound, match="@prod"):
        registry.versions.resolve(admin, ref("task/qa@stable"))
    with pytest.raises(VersionNotFound, match="latest is v2"):
        registry.aliases.set(admin, QA, "prod", 9)
    with pytest.raises(AliasNotFound):
        registry.aliases.delete(admin, QA, "stable")
