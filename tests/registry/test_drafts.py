"""Commits, drafts and branches: what the Hugging Face wire is built on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub.errors import (
    AdapterNotFound,
    AliasNotFound,
    Conflict,
    FileNotFound,
    Forbidden,
    Gated,
    InvalidAdapter,
    InvalidManifest,
    InvalidRef,
    PreconditionFailed,
    UnsafeFile,
    VersionNotFound,
)
from hub.registry.context import DRAFT_LIFETIME
from hub.registry.library.drafts import Change
from hub.registry.rights.access import ANONYMOUS
from hub.registry.values import Query
from tests.registry.world import World, named, ref

QA = named("task/qa")
DRAFT = "refs/draft/admin"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def stored(world: World, folder: Path, name: str = "task/qa") -> dict[str, str]:
    return {path.name: world.put(name, path.read_bytes()) for path in sorted(folder.iterdir())}


def put_over(world: World, name: str, **files: str) -> Change:
    """Return the change that adds these files (path -> sha256) to whatever is there."""
    return Change(lambda tree: {**tree, **files}, name)


def files_at(world: World, revision: str = "main") -> dict[str, str]:
    return {file.path: file.sha256 for file in world.registry.commits.tree(world.admin, QA, revision).files}


def used(world: World) -> int:
    return world.registry.namespaces.get(world.admin, "task").used_bytes


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
    first = world.registry.commits.create(world.admin, QA, put_over(world, "config first", **{CONFIG: files[CONFIG]}))
    assert first.version is None
    assert WEIGHTS in (first.problem or "")
    assert world.registry.commits.tree(ANONYMOUS, QA).files == ()
    for actor in (ANONYMOUS, world.admin):
        with pytest.raises(VersionNotFound):
            world.registry.versions.resolve(actor, ref("task/qa"))
    rest = {path: sha256 for path, sha256 in files.items() if path != CONFIG}
    change = Change(lambda tree: {**tree, **rest}, "now the weights", "all of them")
    whole = world.registry.commits.create(world.admin, QA, change)
    assert (whole.version, whole.problem) == (1, None)
    version = world.registry.versions.resolve(ANONYMOUS, ref("task/qa"))
    assert (version.number, version.commit) == (1, whole.id)
    assert (whole.title, whole.message) == ("now the weights", "all of them")
    assert files_at(world) == files
    assert world.registry.lanes.drafts(world.admin, QA) == ()


def test_a_config_that_does_not_fit_leaves_main_as_it_is_for_everybody(world: World) -> None:
    """The weights have rank 4; who pushes a config that says 16 changes nothing for a reader of `main`."""
    folder = world.adapter(rank=4)
    version = world.push("task/qa", folder).version
    before = files_at(world)
    config = json.loads((folder / CONFIG).read_text())
    wide = world.put("task/qa", json.dumps(config | {"r": 16}).encode())
    draft = world.registry.commits.create(world.admin, QA, put_over(world, "wider", **{CONFIG: wide}))
    assert draft.version is None
    assert "q_proj" in (draft.problem or "")
    for actor in (ANONYMOUS, world.admin):
        assert world.registry.commits.tree(actor, QA).commit.id == version.commit
    assert files_at(world) == before
    assert files_at(world, DRAFT) == before | {CONFIG: wide}
    (shown,) = world.registry.lanes.drafts(world.admin, QA)
    assert (shown.ref, shown.author, shown.commit, shown.problem) == (DRAFT, "admin", draft.id, draft.problem)
    wider = stored(world, world.adapter(rank=16, seed=9))
    done = world.registry.commits.create(world.admin, QA, put_over(world, "weights", **{WEIGHTS: wider[WEIGHTS]}))
    assert done.version == 2
    assert files_at(world) == before | {CONFIG: wide, WEIGHTS: wider[WEIGHTS]}


def test_a_draft_goes_on_where_main_has_moved(world: World) -> None:
    """Bob publishes while Alice's draft waits: her version has his files, too."""
    world.namespace("task")
    alice, bob = (world.user(name, {"task": "publisher"}) for name in ("alice", "bob"))
    one = stored(world, world.adapter(seed=1))
    world.commit("task/qa", one, actor=bob)
    two = stored(world, world.adapter(rank=8, seed=2))
    draft = world.registry.commits.create(alice, QA, put_over(world, "config", **{CONFIG: two[CONFIG]}))
    assert draft.version is None
    note = {"notes.md": world.put("task/qa", b"# notes\n")}
    world.registry.commits.create(bob, QA, put_over(world, "notes", **note))
    done = world.registry.commits.create(alice, QA, put_over(world, "weights", **{WEIGHTS: two[WEIGHTS]}))
    assert done.version == 3
    assert files_at(world) == one | note | {CONFIG: two[CONFIG], WEIGHTS: two[WEIGHTS]}


def test_drafts_are_for_their_author_and_the_members_of_the_namespace(world: World) -> None:
    world.namespace("task")
    alice, rita = world.user("alice", {"task": "publisher"}), world.user("rita", {"task": "reader"})
    tom = world.user("tom", {})
    readme = {"README.md": world.put("task/qa", b"# secret plans\n")}
    draft = world.commit("task/qa", readme, actor=alice)
    for actor in (alice, rita, world.admin):
        assert [each.commit for each in world.registry.lanes.drafts(actor, QA)] == [draft.id]
        for revision in ("refs/draft/alice", "draft/alice", draft.id):
            assert world.registry.commits.tree(actor, QA, revision).commit.id == draft.id
    for actor in (tom, ANONYMOUS):
        assert world.registry.lanes.drafts(actor, QA) == ()
        for revision in ("refs/draft/alice", draft.id):
            with pytest.raises((VersionNotFound, AliasNotFound)):
                world.registry.commits.tree(actor, QA, revision)
    assert len(world.registry.commits.tree(alice, QA).files) == 1, "before the first version, main shows one's own"
    assert world.registry.commits.tree(rita, QA).files == ()
    with pytest.raises(InvalidManifest, match="were not sent"):
        world.commit("tom/copy", readme, actor=tom)


def test_a_draft_can_be_dropped_by_its_author_and_by_an_owner(world: World) -> None:
    world.namespace("task")
    alice, bob = (world.user(name, {"task": "publisher"}) for name in ("alice", "bob"))
    world.push("task/qa", seed=1)
    before = used(world)
    for by in (alice, world.admin):
        world.commit("task/qa", {"README.md": world.put("task/qa", b"# half\n")}, actor=alice)
        assert used(world) == before + len(b"# half\n")
        with pytest.raises(Forbidden):
            world.registry.lanes.delete(bob, QA, "draft/alice")
        world.registry.lanes.delete(by, QA, "draft/alice")
        assert world.registry.lanes.drafts(alice, QA) == ()
        assert used(world) == before
    with pytest.raises(AliasNotFound):
        world.registry.lanes.delete(alice, QA, "draft/alice")


def test_a_draft_ends_after_its_time_and_with_its_adapter(world: World) -> None:
    world.push("task/qa", seed=1)
    before = used(world)
    world.commit("task/qa", {"README.md": world.put("task/qa", b"# half\n")})
    world.clock.forward(days=DRAFT_LIFETIME.days - 1)
    world.registry.upkeep.collect()
    (draft,) = world.registry.lanes.drafts(world.admin, QA)
    assert draft.expires_at == draft.updated_at + DRAFT_LIFETIME
    world.clock.forward(days=2)
    more = put_over(world, "x", **{"notes.md": world.put("task/qa", b"# x\n")})
    assert world.registry.commits.create(world.admin, QA, more).version == 2, "what has expired is not taken up again"
    world.commit("task/qa", {"README.md": world.put("task/qa", b"# half\n")})
    world.clock.forward(days=DRAFT_LIFETIME.days + 1)
    world.registry.upkeep.collect()
    assert world.registry.lanes.drafts(world.admin, QA) == ()
    assert used(world) == before + sum(file.size for file in world.registry.commits.tree(world.admin, QA).files)
    world.commit("task/new", {"README.md": world.put("task/new", b"# half\n")})
    world.registry.adapters.delete(world.admin, named("task/new"))
    world.registry.adapters.create(world.admin, named("task/new"))
    assert world.registry.commits.tree(world.admin, named("task/new")).files == ()


def test_history_of_main_has_versions_and_that_of_a_draft_its_steps(world: World) -> None:
    files = stored(world, world.adapter())
    world.commit("task/qa", {"README.md": world.put("task/qa", b"# one\n")})
    one = world.commit("task/qa", files)
    first = world.registry.commits.create(
        world.admin, QA, put_over(world, "a", **{"a.txt": world.put("task/qa", b"a")})
    )
    assert first.version == 2
    half = world.commit("task/qa", {"README.md": world.put("task/qa", b"# two\n")})
    more = world.commit("task/qa", {"README.md": world.put("task/qa", b"# three\n")})
    ids = [commit.id for commit in world.registry.commits.list(ANONYMOUS, QA)]
    assert ids[:2] == [first.id, one.id]
    assert len(ids) == 3, "and the empty one"
    assert [commit.id for commit in world.registry.commits.list(world.admin, QA, DRAFT)] == [more.id, half.id, *ids]
    assert [commit.id for commit in world.registry.commits.list(ANONYMOUS, QA, one.id)] == ids[1:]
    assert [c.id for c in world.registry.commits.list(ANONYMOUS, QA, limit=1, before=first.id)] == [one.id]
    assert world.registry.versions.resolve(ANONYMOUS, ref("task/qa")).number == 2, "a draft is never the latest"
    assert more.parent == half.id
    assert half.parent == first.id


def test_what_is_kept_of_a_tree_is_never_older_than_the_adapter(world: World) -> None:
    """Each change shows at once, whoever asked before; and what one may see is not kept for another."""
    qa, one = QA, stored(world, world.adapter(seed=1))

    def seen() -> tuple[int | None, bool, bool, int]:
        tree = world.registry.commits.tree(ANONYMOUS, qa)
        return tree.commit.version, tree.yanked is not None, tree.adapter.gated, tree.adapter.downloads

    world.commit("task/qa", one)
    assert seen() == seen() == (1, False, False, 0)
    world.commit("task/qa", {**one, "a.txt": world.put("task/qa", b"a")})
    assert seen() == (2, False, False, 0)
    world.registry.versions.yank(world.admin, qa, 2, "bad")
    assert seen() == (1, False, False, 0)
    assert world.registry.commits.tree(ANONYMOUS, qa, "v2").yanked is not None
    world.registry.versions.count_download(
        world.admin, world.registry.versions.resolve(ANONYMOUS, ref("task/qa@v1")).id
    )
    assert seen() == (1, False, False, 1)
    assert world.registry.commits.open_file(ANONYMOUS, qa, "main", CONFIG).version == 1
    world.registry.adapters.update(world.admin, qa, gated=True)
    assert seen() == (1, False, True, 1)
    with pytest.raises(Gated):
        world.registry.commits.open_file(ANONYMOUS, qa, "main", CONFIG)
    assert world.registry.commits.open_file(world.admin, qa, "main", CONFIG).version == 1
    world.registry.adapters.update(world.admin, qa, private=True)
    with pytest.raises(AdapterNotFound):
        seen()
    with pytest.raises(AdapterNotFound):
        world.registry.commits.open_file(ANONYMOUS, qa, "v1", CONFIG)


def test_stale_parent_is_refused_and_nothing_is_lost(world: World) -> None:
    files = stored(world, world.adapter())
    first = world.commit("task/qa", files)
    text = world.put("task/qa", b"hello\n")
    second = world.commit("task/qa", {**files, "README.md": text}, parent=first.id)
    with pytest.raises(PreconditionFailed, match="The branch was updated since") as caught:
        world.commit("task/qa", files, parent=first.id)
    assert caught.value.details["head"] == second.id
    assert world.registry.commits.tree(ANONYMOUS, QA).commit.version == 2


def test_commit_of_the_same_tree_adds_nothing(world: World) -> None:
    files = stored(world, world.adapter())
    readme = {"README.md": world.put("task/qa", b"# one\n")}
    drafts = [world.commit("task/qa", readme).id for _ in range(2)]
    versions = [world.commit("task/qa", files).id for _ in range(2)]
    assert len(set(drafts)) == len(set(versions)) == 1
    assert len(world.registry.commits.list(ANONYMOUS, QA)) == 2
    world.commit("task/qa", readme)
    assert world.commit("task/qa", files).id == versions[0], "back to what main has: the draft is gone"
    assert world.registry.lanes.drafts(world.admin, QA) == ()


def test_going_back_to_an_older_tree_is_the_older_version_again(world: World) -> None:
    one, two = (stored(world, world.adapter(seed=seed)) for seed in (1, 2))
    first = world.commit("task/qa", one)
    world.commit("task/qa", two)
    back = world.commit("task/qa", one)
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
    assert world.commit("task/qa", files, parent=tree.commit.id).version == 3


def test_deleting_the_newest_version_leaves_main_at_the_one_before(world: World) -> None:
    one = world.push("task/qa", seed=1).version
    world.push("task/qa", seed=2)
    world.commit("task/qa", {"README.md": world.put("task/qa", b"# half\n")})
    world.registry.versions.delete(world.admin, QA, 2)
    assert world.registry.commits.tree(world.admin, QA).commit.id == one.commit


def test_push_and_commit_see_the_same_history(world: World) -> None:
    folder = world.adapter()
    version = world.push("task/qa", folder, message="pushed").version
    assert world.registry.commits.tree(ANONYMOUS, QA).commit.id == version.commit
    assert world.commit("task/qa", stored(world, folder), parent=version.commit).version == 1
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
        world.commit("tom/copy", tree, actor=thief)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", ".git/config", "a\\b", "con", "x\0y", "adapter_model.bin"])
def test_unsafe_names_and_pickles_are_refused_in_drafts_too(world: World, path: str) -> None:
    with pytest.raises(UnsafeFile):
        world.commit("task/qa", {path: world.put("task/qa", b"hello")})
    assert list(Path(world.context.settings.store).rglob("blobs/*/*")) != [], "the bytes wait for gc"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({CONFIG: b'{"peft_type": "LOHA", "r": 8}'}, "LOHA"),
        ({CONFIG: b'{"peft_type": "LORA", "r": 0}'}, "rank"),
        ({"pytorch_lora_weights.safetensors": b"\x02\0\0\0\0\0\0\0{}"}, "diffusers LoRA"),
        ({"model_index.json": b"{}", "unet/config.json": b"{}"}, "diffusers pipeline"),
        ({"config.json": b"{}", "model-00001-of-00002.safetensors": b"\x02\0\0\0\0\0\0\0{}"}, "a full model"),
        ({"README.md": b"# x\n", "poet/adapter_config.json": b'{"peft_type": "LORA"}'}, "./poet"),
    ],
)
def test_what_can_never_be_a_version_is_refused_and_not_kept(world: World, files: dict[str, bytes], says: str) -> None:
    world.push("task/qa", seed=1)
    tree = {path: world.put("task/qa", data) for path, data in files.items()}
    with pytest.raises(InvalidAdapter, match=says):
        world.commit("task/qa", tree)
    assert world.registry.lanes.drafts(world.admin, QA) == ()


def test_a_commit_can_be_held_back_until_another_releases_it(world: World) -> None:
    """A trainer's saves on the way are no versions."""
    files = stored(world, world.adapter())
    saved = world.commit("task/qa", files, "Training in progress, step 5", held="It is a save on the way.")
    assert (saved.version, saved.problem) == (None, "It is a save on the way.")
    assert world.commit("task/qa", files, "End of training").version == 1


def test_large_files_have_no_git_id_and_files_are_found_by_path(world: World) -> None:
    sha256 = world.put("task/qa", b"{" + bytes(17 * 1024 * 1024))
    commit = world.commit("task/qa", {"notes.json": sha256})
    assert world.registry.commits.tree(world.admin, QA, commit.id).files[0].git_sha1 is None
    with pytest.raises(FileNotFound) as caught:
        world.registry.commits.open_file(world.admin, QA, DRAFT, "absent.json")
    assert caught.value.details["commit"] == commit.id


# Branches --------------------------------------------------------------------------------------------------------


def test_versions_of_a_branch_never_become_the_latest(world: World) -> None:
    one, two, three = (stored(world, world.adapter(seed=seed)) for seed in (1, 2, 3))
    first = world.commit("task/qa", one)
    world.registry.lanes.create_branch(world.admin, QA, "experiment", first.id)
    assert files_at(world, "experiment") == one
    tried = world.commit("task/qa", two, branch="experiment")
    assert (tried.version, tried.lane) == (2, "experiment")
    assert files_at(world, "experiment") == two
    assert files_at(world) == files_at(world, "latest") == one
    assert world.registry.versions.resolve(ANONYMOUS, ref("task/qa")).number == 1
    assert world.registry.versions.resolve(ANONYMOUS, ref("task/qa@v2")).branch == "experiment"
    assert world.commit("task/qa", three).version == 3
    assert files_at(world, "experiment") == two
    ids = [commit.id for commit in world.registry.commits.list(ANONYMOUS, QA, "experiment")]
    assert ids[:2] == [tried.id, first.id]
    assert [branch.name for branch in world.registry.lanes.branches(ANONYMOUS, QA)] == ["experiment"]


def test_what_main_takes_over_from_a_branch_is_its_own(world: World) -> None:
    one, two = (stored(world, world.adapter(seed=seed)) for seed in (1, 2))
    first = world.commit("task/qa", one)
    world.registry.lanes.create_branch(world.admin, QA, "experiment", first.id)
    tried = world.commit("task/qa", two, branch="experiment")
    merged = world.commit("task/qa", two)
    assert (merged.id, merged.version) == (tried.id, 2)
    assert world.registry.versions.resolve(ANONYMOUS, ref("task/qa")).number == 2
    assert world.registry.commits.tree(ANONYMOUS, QA).commit.version == 2


def test_drafts_of_a_branch_are_their_own(world: World) -> None:
    one = stored(world, world.adapter(seed=1))
    first = world.commit("task/qa", one)
    world.registry.lanes.create_branch(world.admin, QA, "experiment", first.id)
    half = world.commit("task/qa", {CONFIG: one[CONFIG]}, branch="experiment")
    assert half.lane == "draft/admin/experiment"
    assert files_at(world, "experiment") == one
    readme = put_over(world, "card", **{"README.md": world.put("task/qa", b"# card\n")})
    assert world.registry.commits.create(world.admin, QA, readme).version == 2, "main has no draft"


def test_names_of_branches(world: World) -> None:
    first = world.commit("task/qa", stored(world, world.adapter()))
    world.registry.aliases.set(world.admin, QA, "prod", 1)
    for name in ("prod", "experiment", "experiment"):
        if name == "prod":
            with pytest.raises(Conflict):
                world.registry.lanes.create_branch(world.admin, QA, name, first.id)
        elif not world.registry.lanes.branches(world.admin, QA):
            world.registry.lanes.create_branch(world.admin, QA, name, first.id)
    with pytest.raises(Conflict):
        world.registry.lanes.create_branch(world.admin, QA, "experiment", first.id)
    with pytest.raises(Conflict):
        world.registry.aliases.set(world.admin, QA, "experiment", 1)
    for name in ("main", "v2", "draft/x", "refs/pr/1", "latest"):
        with pytest.raises(InvalidRef):
            world.registry.lanes.create_branch(world.admin, QA, name, first.id)
    with pytest.raises(VersionNotFound):
        world.registry.lanes.create_branch(world.admin, QA, "nowhere", "0" * 40)
    with pytest.raises(VersionNotFound):
        world.commit("task/qa", {}, branch="nowhere")
    world.registry.lanes.delete(world.admin, QA, "experiment")
    assert world.registry.lanes.branches(world.admin, QA) == ()
