"""Publishing: numbers, sameness, and what is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from hub.errors import Conflict, Forbidden, InvalidAdapter, InvalidManifest, InvalidRef, NotFound, UnsafeFile
from hub.manifest import BaseIdentity, FileEntry
from hub.registry.rights.access import ANONYMOUS
from tests.registry.world import World, named, ref


def test_versions_are_numbered_from_one_without_gaps(world: World) -> None:
    numbers = [world.push("task/qa", seed=seed).version.number for seed in range(3)]
    assert numbers == [1, 2, 3]
    assert [version.number for version in world.registry.versions.list(ANONYMOUS, named("task/qa"))] == [3, 2, 1]


def test_version_says_what_config_and_tensors_say(world: World) -> None:
    folder = world.adapter(rank=4, alpha=8, layers=2, hidden=32, targets=("q_proj", "v_proj"))
    version = world.push("task/qa", folder).version
    # 2 layers x 2 targets x (A: 4 x 32, B: 32 x 4)
    assert version.parameters == 2 * 2 * (4 * 32 + 32 * 4)
    assert (version.rank, version.alpha, version.method, version.dtype) == (4, 8, "lora", "F32")
    assert version.target_modules == ("q_proj", "v_proj")
    assert version.size_bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert version.digest == hashlib.sha256(version.manifest_json or b"").hexdigest()
    assert version.commit == version.digest[:40]


def test_same_content_is_the_same_version(world: World) -> None:
    folder = world.adapter()
    first, again = world.push("task/qa", folder), world.push("task/qa", folder)
    assert (first.created, again.created) == (True, False)
    assert again.version.number == first.version.number == 1


def test_same_files_from_another_adapter_are_a_version_of_their_own(world: World) -> None:
    folder = world.adapter()
    assert world.push("task/qa", folder).version.digest == world.push("task/copy", folder).version.digest


def test_saying_something_new_of_the_base_makes_a_version_and_saying_less_does_not(world: World) -> None:
    folder = world.adapter(base="org/model")
    known = BaseIdentity(id="org/model", shapes="sha256:" + "1" * 64, weights="sha256:" + "2" * 64)
    assert world.push("task/qa", folder).version.number == 1
    assert world.push("task/qa", folder, base=known).version.number == 2
    less = world.push("task/qa", folder)
    assert (less.version.number, less.created) == (2, False)


def test_manifest_that_names_bytes_nobody_sent_is_refused(world: World) -> None:
    manifest = world.manifest(world.adapter())
    with pytest.raises(InvalidManifest, match="were not sent"):
        world.registry.versions.publish(world.admin, named("task/qa"), manifest)
    with pytest.raises(NotFound):
        world.registry.adapters.get(world.admin, named("task/qa"))


def test_config_and_tensors_are_read_from_storage_not_from_the_manifest(world: World) -> None:
    folder = world.adapter()
    manifest = world.manifest(folder)
    world.send(world.admin, "task/qa", folder, manifest.files)
    boast = replace(manifest, config={**manifest.config, "r": 64})
    with pytest.raises(InvalidManifest, match="config differs"):
        world.registry.versions.publish(world.admin, named("task/qa"), boast)
    with pytest.raises(InvalidManifest, match="tensors differ"):
        world.registry.versions.publish(world.admin, named("task/qa"), replace(manifest, tensors=manifest.tensors[1:]))


def test_a_size_that_lies_is_refused(world: World) -> None:
    folder = world.adapter()
    manifest = world.manifest(folder)
    world.send(world.admin, "task/qa", folder, manifest.files)
    shorter = tuple(FileEntry(f.path, f.size - 1, f.sha256) for f in manifest.files)
    with pytest.raises(InvalidManifest, match="bytes, not"):
        world.registry.versions.publish(world.admin, named("task/qa"), replace(manifest, files=shorter))


@pytest.mark.parametrize(
    ("config", "named_fault"),
    [({"r": 8}, "q_proj"), ({"bias": "all"}, None)],
    ids=["rank differs from the tensors", "bias without tensors"],
)
def test_adapter_that_contradicts_itself_is_refused_by_name(
    world: World, config: dict[str, object], named_fault: str | None
) -> None:
    good = world.adapter()
    written = json.loads((good / "adapter_config.json").read_text())
    (good / "adapter_config.json").write_text(json.dumps(written | config))
    data = {path.name: path.read_bytes() for path in good.iterdir()}
    hashes = {name: world.put("task/qa", body) for name, body in data.items()}
    commit = world.commit("task/qa", hashes)
    if named_fault is None:
        assert commit.version == 1
    else:
        assert commit.version is None
        assert named_fault in (commit.problem or "")


def test_config_that_imports_code_is_refused(world: World) -> None:
    good = world.adapter()
    config = json.loads((good / "adapter_config.json").read_text()) | {"auto_mapping": {"base_model_class": "X"}}
    with pytest.raises(InvalidAdapter, match="auto_mapping"):
        world.commit("task/qa", {"adapter_config.json": world.put("task/qa", json.dumps(config).encode())})


def test_pickle_under_an_allowed_name_is_never_stored_as_a_version(world: World) -> None:
    folder = world.adapter()
    hashes = {path.name: world.put("task/qa", path.read_bytes()) for path in folder.iterdir()}
    hashes["adapter_model.safetensors"] = world.put("task/qa", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94.")
    with pytest.raises(UnsafeFile):
        world.commit("task/qa", hashes)


def test_alias_moves_in_the_same_transaction_as_the_version(world: World) -> None:
    published = world.push("task/qa", alias="prod")
    assert published.version.aliases == ("prod",)
    with pytest.raises(InvalidRef):
        world.push("task/qa", seed=1, alias="v7")
    assert len(world.registry.versions.list(world.admin, named("task/qa"))) == 1


def test_failing_alias_leaves_no_version_behind(world: World) -> None:
    world.push("task/qa", alias="prod")
    world.registry.aliases.set(world.admin, named("task/qa"), "prod", 1, protected=True)
    publisher = world.user("pia", {"task": "publisher"})
    with pytest.raises(Forbidden):
        world.push("task/qa", seed=1, actor=publisher, alias="prod")
    assert [v.number for v in world.registry.versions.list(world.admin, named("task/qa"))] == [1]
    assert world.push("task/qa", seed=2).version.number == 2


def test_push_does_not_change_who_may_read(world: World) -> None:
    world.push("task/qa", private=True)
    assert world.push("task/qa", seed=1, private=True).created
    with pytest.raises(Conflict, match="private"):
        world.push("task/qa", seed=2, private=False)


def test_knowing_a_hash_gives_nobody_the_content(world: World) -> None:
    folder = world.adapter(seed=5)
    secret = world.push("vault/model", folder, private=True).version
    thief = world.user("tom", {})
    wanted = [(entry.sha256, entry.size) for entry in secret.manifest.files]
    assert world.registry.blobs.missing(thief, named("tom/copy"), wanted) == tuple(wanted)
    with pytest.raises(InvalidManifest, match="were not sent"):
        world.registry.versions.publish(thief, named("tom/copy"), secret.manifest)


def test_blobs_of_public_versions_need_not_be_sent_again(world: World) -> None:
    public = world.push("task/qa").version
    other = world.user("ann", {})
    wanted = [(entry.sha256, entry.size) for entry in public.manifest.files]
    assert world.registry.blobs.missing(other, named("ann/copy"), wanted) == ()
    assert world.registry.versions.publish(other, named("ann/copy"), public.manifest).created


def test_lineage_is_pinned_to_the_version_that_was_meant(world: World) -> None:
    world.push("task/qa", alias="prod")
    child = world.push("task/next", seed=1, trained_from=["task/qa@prod"], merged_from=["elsewhere/thing@v2"]).version
    assert child.trained_from == ("task/qa@v1",)
    assert child.merged_from == ("elsewhere/thing@v2",)
    assert {parent.ref: parent.version for parent in child.lineage} == {"task/qa@v1": 1, "elsewhere/thing@v2": None}


def test_lineage_does_not_tell_whether_a_private_parent_exists(world: World) -> None:
    world.push("vault/model", private=True, alias="prod")
    outsider = world.user("tom", {})
    child = world.push("tom/next", seed=1, actor=outsider, trained_from=["vault/model@prod", "vault/none@prod"]).version
    assert [(parent.ref, parent.version) for parent in child.lineage] == [
        ("vault/model@prod", None),
        ("vault/none@prod", None),
    ]


def test_card_fills_in_what_the_push_does_not_say(world: World) -> None:
    matter = "---\nlicense: mit\ntags: [lora, Medical, notes]\npipeline_tag: text-generation\n---\n"
    readme = f"{matter}# Title\n\nAnswers well.\n"
    world.push("task/qa", world.adapter(readme=readme))
    shown = world.registry.adapters.get(ANONYMOUS, named("task/qa"))
    assert (shown.license, shown.tags, shown.task) == ("mit", ("medical", "notes"), "text-generation")
    assert shown.description == "Answers well."


def test_first_push_of_an_admin_makes_the_namespace_and_of_a_user_does_not(world: World) -> None:
    assert world.push("fresh/one").version.ref == ref("fresh/one@v1")
    user = world.user("ann", {})
    with pytest.raises(NotFound):
        world.push("newer/one", actor=user)
    with pytest.raises(Forbidden):
        world.push("fresh/two", actor=user)
