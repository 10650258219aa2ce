"""Downloads: by the command, by Python, from the cache, in parts; and what can be asked of a repository."""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.hf.clients.world import NotInThisVersion, World, command, same_files, tree_of


@command("hf download REPO --revision v2")
def download_revision(world: World) -> None:
    target = world.tmp / "v2"
    world.hf("download", world.qa, "--revision", "v2", "--local-dir", str(target))
    same_files(world.folders["two"], target)


@command("hf download REPO FILE")
def download_file(world: World) -> None:
    target = world.tmp / "file"
    world.hf("download", world.qa, "adapter_config.json", "--local-dir", str(target))
    assert [p.name for p in target.iterdir() if p.is_file()] == ["adapter_config.json"]
    assert filecmp.cmp(target / "adapter_config.json", world.folders["two"] / "adapter_config.json", shallow=False)


@command("hf download REPO --include PATTERN")
def download_include(world: World) -> None:
    target = world.tmp / "include"
    world.hf("download", world.qa, "--include", "*.safetensors", "--local-dir", str(target))
    assert [p.name for p in target.iterdir() if p.is_file()] == ["adapter_model.safetensors"]


@command("hf download of large weights")
def download_large(world: World) -> None:
    target = world.tmp / "large"
    world.hf("download", world.name("large"), "--local-dir", str(target))
    same_files(world.folders["large"], target)


@command("snapshot_download at v1, v2, an alias, main, a commit id")
def snapshot_revisions(world: World) -> None:
    from huggingface_hub import snapshot_download

    commit = world.api.model_info(world.qa, revision="v1").sha
    expected = {"v1": "one", commit: "one", "v2": "two", "prod": "two", "main": "two"}
    for revision, folder in expected.items():
        same_files(world.folders[folder], Path(snapshot_download(world.qa, revision=revision)))


@command("snapshot_download again, then offline")
def snapshot_offline(world: World) -> None:
    from huggingface_hub import snapshot_download

    path = snapshot_download(world.qa, revision="v2")
    assert snapshot_download(world.qa, revision="v2") == path
    code = f"from huggingface_hub import snapshot_download; print(snapshot_download({world.qa!r}, revision='v2'))"
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == path, done.stderr


@command("hf_hub_download of a part: Range requests")
def ranges(world: World) -> None:
    from huggingface_hub import HfFileSystem

    weights = (world.folders["two"] / "adapter_model.safetensors").read_bytes()
    system = HfFileSystem()
    path = f"{world.qa}@v2/adapter_model.safetensors"
    with system.open(path, "rb", block_size=1024) as file:
        file.seek(100)
        assert file.read(50) == weights[100:150]
    assert system.info(path)["size"] == len(weights)
    assert system.read_block(path, 0, 10) == weights[:10]


@command("file_exists, repo_exists, revision_exists")
def existence(world: World) -> None:
    assert world.api.file_exists(world.qa, "adapter_config.json")
    assert world.api.file_exists(world.qa, "adapter_config.json", revision="v1")
    assert not world.api.file_exists(world.qa, "nothing.json")
    assert not world.api.file_exists(world.qa, "adapter_config.json", revision="v99")
    assert not world.api.file_exists(world.name("nothing"), "adapter_config.json")
    assert world.api.repo_exists(world.qa)
    assert not world.api.repo_exists(world.name("nothing"))
    assert world.api.revision_exists(world.qa, "v1")
    assert not world.api.revision_exists(world.qa, "v99")


@command("model_info")
def model_info(world: World) -> None:
    info = world.api.model_info(world.qa, revision="v2", files_metadata=True)
    weights = world.folders["two"] / "adapter_model.safetensors"
    assert info.id == world.qa
    assert info.sha is not None
    assert len(info.sha) == 40
    assert info.sha == world.api.model_info(world.qa).sha
    assert info.private is False
    assert info.library_name == "peft"
    assert "peft" in (info.tags or [])
    sibling = {s.rfilename: s for s in info.siblings or []}["adapter_model.safetensors"]
    assert sibling.size == weights.stat().st_size
    assert sibling.lfs is not None
    assert sibling.lfs["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert info.created_at is not None
    assert info.last_modified is not None
    assert (info.card_data or {}).get("license") == "apache-2.0"


@command("list_repo_files, list_repo_tree, get_paths_info")
def listings(world: World) -> None:
    expected = sorted(p.relative_to(world.folders["two"]).as_posix() for p in world.folders["two"].rglob("*.*"))
    assert tree_of(world, world.qa) == expected
    config = (world.folders["two"] / "adapter_config.json").read_bytes()
    git_id = hashlib.sha1(b"blob %d\0" % len(config) + config).hexdigest()
    entries = {entry.path: entry for entry in world.api.list_repo_tree(world.qa, recursive=True, expand=True)}
    assert entries["adapter_config.json"].blob_id == git_id
    assert entries["adapter_model.safetensors"].lfs is not None
    (info,) = world.api.get_paths_info(world.qa, ["adapter_config.json", "nothing"], expand=True)
    assert (info.path, info.size, info.blob_id) == ("adapter_config.json", len(config), git_id)


@command("list_repo_refs, list_repo_commits")
def history(world: World) -> None:
    refs = world.api.list_repo_refs(world.qa)
    tags = {tag.name: tag.target_commit for tag in refs.tags}
    assert {"v1", "v2", "prod"} <= set(tags)
    assert tags["prod"] == tags["v2"]
    assert [branch.name for branch in refs.branches] == ["main"]
    assert refs.branches[0].target_commit == tags["v2"]
    ids = [commit.commit_id for commit in world.api.list_repo_commits(world.qa)]
    assert ids[:2] == [tags["v2"], tags["v1"]]
    assert next(iter(world.api.list_repo_commits(world.qa, revision="v1"))).commit_id == tags["v1"]


@command("list_models with filters")
def list_models(world: World) -> None:
    def found(**query: Any) -> set[str]:
        return {model.id for model in world.api.list_models(author=world.namespace, **query)}

    assert world.qa in found()
    assert world.qa in found(search="qa")
    assert world.qa in found(filter="peft")
    assert world.qa in found(filter=["lora", "license:apache-2.0"])
    assert world.qa in found(filter="base_model:adapter:tests/tiny-llama")
    assert world.qa not in found(filter="base_model:adapter:tests/another")
    assert world.qa not in found(filter="no-such-tag")
    assert world.qa not in found(search="zzzz")
    assert list(world.api.list_models(author="no-such-namespace")) == []
    newest = next(iter(world.api.list_models(sort="downloads", limit=1)))
    assert newest.downloads is not None


@command("list_models page by page")
def paging(world: World) -> None:
    from huggingface_hub.utils._pagination import paginate

    for word in ("page-a", "page-b", "page-c"):
        world.upload(word)
    headers = {"Authorization": f"Bearer {world.token}"}
    everything = {model.id for model in world.api.list_models(author=world.namespace)}
    pages = paginate(f"{world.endpoint}/api/models", {"limit": 2, "author": world.namespace}, headers)
    ids = [model["id"] for model in pages]
    assert len(ids) == len(set(ids)) >= 4
    assert set(ids) == everything


@command("parse_safetensors_file_metadata")
def safetensors_metadata(world: World) -> None:
    found = world.api.parse_safetensors_file_metadata(world.qa, "adapter_model.safetensors", revision="v2")
    weights = (world.folders["two"] / "adapter_model.safetensors").read_bytes()
    header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    header.pop("__metadata__", None)
    assert {name: tuple(t.shape) for name, t in found.tensors.items()} == {
        name: tuple(t["shape"]) for name, t in header.items()
    }


@command("verify_repo_checksums")
def checksums(world: World) -> None:
    from huggingface_hub import snapshot_download

    if not hasattr(world.api, "verify_repo_checksums"):
        raise NotInThisVersion
    snapshot_download(world.qa)
    result = world.api.verify_repo_checksums(world.qa)
    assert not result.mismatches
    assert not result.missing_paths
    assert result.checked_count == len(tree_of(world, world.qa))
