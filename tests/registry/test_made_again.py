"""A name is permanent, its contents are not: what is made under the name of a deleted adapter sees nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hub.errors import AliasNotFound, HubError, InvalidManifest, NotFound, VersionNotFound
from hub.registry.rights.access import ANONYMOUS
from hub.registry.values import Query
from tests.registry.world import World, named, ref
from tests.support.adapters import write_adapter
from tests.support.threads import at_once

QA = named("task/qa")
CANARY = "canary-7d1f"
CARD = f"---\nlicense: {CANARY}-license\ntags: [{CANARY}-tag]\n---\n# {CANARY}\n\n{CANARY} words\n"


@pytest.fixture
def buried(world: World) -> list[str]:
    """A private adapter with some of everything, deleted; its commits' ids."""
    registry, admin = world.registry, world.admin
    folder = world.adapter(seed=1, readme=CARD)
    world.push("task/qa", folder, private=True, alias=f"{CANARY}-alias", task=f"{CANARY}-task", message=CANARY)
    registry.metrics.set(admin, QA, 1, f"{CANARY}-metric", 0.5)
    registry.adapters.deprecate(admin, QA, f"{CANARY} reason", "task/other")
    notes = world.put("task/qa", f"{CANARY} in a draft".encode())
    draft = world.commit("task/qa", {"notes.md": notes}, f"{CANARY} title", description=CANARY)
    assert draft.version is None
    commits = [draft.id, *[commit.id for commit in registry.commits.list(admin, QA)]]
    registry.versions.count_download(ANONYMOUS, registry.versions.resolve(admin, ref("task/qa")).id, "somebody")
    registry.adapters.delete(admin, QA)
    return commits


def everything(world: World, commits: list[str]) -> str:
    """Whatever a stranger gets to read of the adapter, as text; what isn't there, too."""
    registry = world.registry
    questions: list[Callable[[], Any]] = [
        lambda: registry.adapters.get(ANONYMOUS, QA),
        lambda: registry.adapters.search(ANONYMOUS, Query()),
        lambda: registry.versions.list(ANONYMOUS, QA),
        lambda: registry.aliases.list(ANONYMOUS, QA),
        lambda: registry.aliases.history(ANONYMOUS, QA),
        lambda: registry.versions.resolve(ANONYMOUS, ref("task/qa")),
        lambda: registry.versions.resolve(ANONYMOUS, ref("task/qa@v1")),
        lambda: registry.versions.resolve(ANONYMOUS, ref(f"task/qa@{CANARY}-alias")),
        lambda: registry.commits.list(ANONYMOUS, QA),
        lambda: registry.commits.tree(ANONYMOUS, QA),
        lambda: registry.commits.tree(ANONYMOUS, QA, "v1"),
        lambda: registry.bases.list(ANONYMOUS),
        *[lambda commit=commit: registry.commits.tree(ANONYMOUS, QA, commit) for commit in commits],
        *[lambda commit=commit: registry.commits.open_file(ANONYMOUS, QA, commit, "notes.md") for commit in commits],
    ]
    return "\n".join(_answer(question) for question in questions)


def _answer(question: Callable[[], Any]) -> str:
    try:
        return repr(question())
    except HubError as error:
        return f"{error.code}: {error.message}".replace(f"@{CANARY}-alias", "@what-was-asked-for")


@pytest.mark.parametrize("way", ["created empty", "pushed", "committed"])
def test_nothing_of_the_private_one_shows_in_the_public_one(world: World, buried: list[str], way: str) -> None:
    if way == "created empty":
        world.registry.adapters.create(world.admin, QA)
    elif way == "pushed":
        world.push("task/qa", seed=2)
    else:
        world.commit("task/qa", {"notes.md": world.put("task/qa", b"public")})
    seen = everything(world, buried)
    assert CANARY not in seen
    made = world.registry.adapters.get(ANONYMOUS, QA)
    assert (made.private, made.downloads, made.deprecated, made.task, made.tags) == (False, 0, None, None, ())
    with pytest.raises(NotFound):
        world.registry.commits.tree(ANONYMOUS, QA, buried[0])
    with pytest.raises(AliasNotFound):
        world.registry.versions.resolve(ANONYMOUS, ref(f"task/qa@{CANARY}-alias"))


def test_numbers_go_on_where_they_ended_however_often_it_is_made_again(world: World) -> None:
    for seed in range(1, 4):
        assert world.push("task/qa", seed=seed).version.number == seed
        world.registry.adapters.delete(world.admin, QA)
    # The same content as that of a deleted one is not the deleted one.
    assert world.push("task/qa", seed=1).version.number == 4
    with pytest.raises(VersionNotFound):
        world.registry.versions.resolve(ANONYMOUS, ref("task/qa@v1"))


def test_bytes_that_were_sent_to_the_old_one_are_sent_again(world: World) -> None:
    """To name a hash gives nobody the bytes that somebody else once sent to the name."""
    folder = world.adapter(seed=1)
    world.push("task/qa", folder, private=True)
    world.registry.adapters.delete(world.admin, QA)
    later = world.user("later", {"task": "publisher"})
    with pytest.raises(InvalidManifest):
        world.registry.versions.publish(later, QA, world.manifest(folder))
    assert world.push("task/qa", folder, actor=later).version.number == 2


def test_it_is_made_again_once_by_many_at_once(world: World) -> None:
    world.push("task/qa", seed=1)
    world.registry.adapters.delete(world.admin, QA)
    folders = [write_adapter(world.folder / f"again-{seed}", seed=seed) for seed in range(2, 6)]
    for folder in folders:
        world.send(world.admin, "task/qa", folder, world.manifest(folder).files)

    def push(number: int) -> int:
        manifest = world.manifest(folders[number])
        return world.registry.versions.publish(world.admin, QA, manifest).version.number

    assert sorted(at_once(4, push)) == [2, 3, 4, 5]
    assert len(world.registry.versions.list(ANONYMOUS, QA)) == 4
