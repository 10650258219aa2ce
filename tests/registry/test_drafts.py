"""Commits and trees: what the Hugging Face wire is built on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub.errors import (
    AliasNotFound,
    Conflict,
    FileNotFound,
    InvalidManifest,
    PreconditionFailed,
    UnsafeFile,
    VersionNotFound,
)
from hub.registry.rights.access import ANONYMOUS
from hub.registry.values import Query
from tests.registry.world import World, named, ref

QA = named("task/qa")


def stored(world: World, folder: Path) -> dict[str, str]:
    return {path.name: world.put("task/qa", path.read_bytes()) for path in sorted(folder.iterdir())}


def test_new_adapter_has_an_empty_commit_and_is_not_in_the_catalog(world: World) -> None:
    world.registry.adapters.create(world.admin, QA)
    tree = world.registry.commits.tree(ANONYMOUS, QA)
    assert (tree.files, tree.commit.version, tree.commit.parent) == ((), None, None)
    assert len(tree.commit.id) == 40
    assert world.registry.adapters.search(ANONYMOUS, Query()).total == 0
    with pytest.raises(Conflict):
        world.registry.adapters.create(world.admin, QA)


def test_adapter_that_comes_in_pieces_is_a_draft_until_it_is_whole(world: World) -> None:
    files = stored(world, world.adapter())
    config = {"adapter_config.json": files["adapter_config.json"]}
    draft = world.registry.commits.create(world.admin, QA, None, config, "config first")
    assert draft.version is None
    assert "adapter_model.safetensors" in (draft.problem or "")
    with pytest.raises(VersionNotFound):
        world.registry.versions.resolve(ANONYMOUS, ref("task/qa"))
    whole = world.registry.commits.create(world.admin, QA, draft.id, files, "now the weights\n\nall of them")
    assert (whole.version, whole.problem, whole.parent) == (1, None, draft.id)
    version = world.registry.versions.resolve(ANONYMOUS, ref("task/qa"))
    assert (version.number, version.commit) == (1, whole.id)
    assert (whole.title, whole.message) == ("now the weights", "all of them")


def test_every_accepted_commit_stays_readable(world: World) -> None:
    files = stored(world, world.adapter())
    first = world.registry.commits.create(world.admin, QA, None, {"README.md": world.put("task/qa", b"# one\n")})
    second = world.registry.commits.create(world.admin, QA, first.id, files)
    draft = world.registry.commits.create(world.admin, QA, second.id, {"README.md": world.put("task/qa", b"# two\n")})
    ids = [commit.id for commit in world.registry.commits.list(ANONYMOUS, QA)]
    assert ids[:3] == [draft.id, second.id, first.id]
    assert [commit.id for commit in world.registry.commits.list(ANONYMOUS, QA, first.id)] == ids[2:]
    assert [commit.id for commit in world.registry.commits.list(ANONYMOUS, QA, limit=1, before=draft.id)] == [second.id]
    readme = world.registry.commits.open_file(ANONYMOUS, QA, first.id, "README.md")
    assert b"".join(readme.open(0, 100)) == b"# one\n"
    assert {file.path for file in world.registry.commits.tree(ANONYMOUS, QA, "v1").files} == set(files)
    assert world.registry.commits.tree(ANONYMOUS, QA).commit.id == draft.id
    assert world.registry.versions.resolve(ANONYMOUS, ref("task/qa")).number == 1, "a draft is never the latest"


def test_stale_parent_is_refused_and_nothing_is_lost(world: World) -> None:
    files = stored(world, world.adapter())
    first = world.registry.commits.create(world.admin, QA, None, files)
    text = world.put("task/qa", b"hello\n")
    second = world.registry.commits.create(world.admin, QA, first.id, {**files, "README.md": text})
    with pytest.raises(PreconditionFailed) as caught:
        world.registry.commits.create(world.admin, QA, first.id, files)
    assert caught.value.details["head"] == second.id
    assert world.registry.commits.tree(ANONYMOUS, QA).commit.version == 2


def test_commit_of_the_same_tree_adds_nothing(world: World) -> None:
    files = stored(world, world.adapter())
    readme = {"README.md": world.put("task/qa", b"# one\n")}
    drafts = [world.registry.commits.create(world.admin, QA, None, readme).id for _ in range(2)]
    versions = [world.registry.commits.create(world.admin, QA, None, files).id for _ in range(2)]
    assert len(set(drafts)) == len(set(versions)) == 1
    assert len(world.registry.commits.list(ANONYMOUS, QA)) == 3


def test_going_back_to_an_older_tree_is_the_older_version_again(world: World) -> None:
    one, two = (stored(world, world.adapter(seed=seed)) for seed in (1, 2))
    first = world.registry.commits.create(world.admin, QA, None, one)
    world.registry.commits.create(world.admin, QA, None, two)
    back = world.registry.commits.create(world.admin, QA, None, one)
    assert (back.id, back.version) == (first.id, 1)
    assert world.registry.commits.tree(ANONYMOUS, QA).commit.id == first.id
    assert world.registry.versions.resolve(ANONYMOUS, ref("task/qa")).number == 2


def test_main_is_never_a_yanked_version_if_there_is_a_better_one(world: World) -> None:
    world.push("task/qa", seed=1)
    world.push("task/qa", seed=2)
    world.registry.versions.yank(world.admin, QA, 2, "bad")
    tree = world.registry.commits.tree(ANONYMOUS, QA)
    assert tree.commit.version == 1
    assert world.registry.commits.tree(ANONYMOUS, QA, "v2").yanked is not None
    files = stored(world, world.adapter(seed=3))
    assert world.registry.commits.create(world.admin, QA, tree.commit.id, files).version == 3


def test_push_and_commit_see_the_same_history(world: World) -> None:
    folder = world.adapter()
    version = world.push("task/qa", folder, message="pushed").version
    assert world.registry.commits.tree(ANONYMOUS, QA).commit.id == version.commit
    assert world.registry.commits.create(world.admin, QA, version.commit, stored(world, folder)).version == 1
    for revision in ("main", "latest", "v1", version.commit, f"sha256:{version.digest}"):
        assert world.registry.commits.tree(ANONYMOUS, QA, revision).commit.version == 1
    for revision in ("v9", "0" * 40, "nightly"):
        with pytest.raises((VersionNotFound, AliasNotFound)):
            world.registry.commits.tree(ANONYMOUS, QA, revision)


def test_tree_can_only_name_bytes_that_the_committer_may_use(world: World) -> None:
    secret = world.push("vault/model", private=True).version
    thief = world.user("tom", {})
    tree = {file.path: file.sha256 for file in secret.manifest.files}
    with pytest.raises(InvalidManifest, match="were not sent"):
        world.registry.commits.create(thief, named("tom/copy"), None, tree)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", ".git/config", "a\\b", "con", "x\0y", "adapter_model.bin"])
def test_unsafe_names_and_pickles_are_refused_in_drafts_too(world: World, path: str) -> None:
    with pytest.raises(UnsafeFile):
        world.registry.commits.create(world.admin, QA, None, {path: world.put("task/qa", b"hello")})
    assert list(Path(world.context.settings.store).rglob("blobs/*/*")) != [], "the bytes wait for gc"


def test_invalid_adapter_is_a_draft_that_says_why(world: World) -> None:
    folder = world.adapter(rank=4)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"r": 16}))
    commit = world.registry.commits.create(world.admin, QA, None, stored(world, folder))
    assert commit.version is None
    assert "q_proj" in (commit.problem or "")
    assert world.registry.commits.list(ANONYMOUS, QA)[0].problem == commit.problem


def test_large_files_have_no_git_id_and_files_are_found_by_path(world: World) -> None:
    sha256 = world.put("task/qa", b"{" + bytes(17 * 1024 * 1024))
    commit = world.registry.commits.create(world.admin, QA, None, {"notes.json": sha256})
    assert world.registry.commits.tree(ANONYMOUS, QA).files[0].git_sha1 is None
    with pytest.raises(FileNotFound) as caught:
        world.registry.commits.open_file(ANONYMOUS, QA, "main", "absent.json")
    assert caught.value.details["commit"] == commit.id
