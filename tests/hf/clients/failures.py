"""Errors and warnings, each in the client's own words."""

from __future__ import annotations

import hashlib

from tests.hf.clients.world import NotInThisVersion, World, command, raises, same_files


@command("missing, unauthorised, gated: each its own exception")
def exceptions(world: World) -> None:
    from huggingface_hub.utils import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    api = world.api
    for token in (None, False):
        with raises(RepositoryNotFoundError):
            api.hf_hub_download(world.name("nothing"), "adapter_config.json", token=token)
        with raises(RepositoryNotFoundError):
            api.model_info("no-namespace-at-all", token=token)
    with raises(RevisionNotFoundError):
        api.hf_hub_download(world.qa, "adapter_config.json", revision="v99")
    with raises(EntryNotFoundError):
        api.hf_hub_download(world.qa, "nothing.json")
    with raises(HfHubHTTPError, "401"):
        api.model_info(world.qa, token="lhub_wrong")
    with raises(HfHubHTTPError, "publish"):
        api.upload_file(repo_id=world.qa, path_in_repo="a.txt", path_or_fileobj=b"a", token=world.reader_token)
    repo = world.upload("gated")
    api.update_repo_settings(repo, gated="manual")
    assert api.model_info(repo, token=False).gated == "manual"
    with raises(GatedRepoError):
        api.hf_hub_download(repo, "adapter_model.safetensors", token=False, local_dir=str(world.tmp / "gated"))
    api.hf_hub_download(repo, "adapter_model.safetensors", local_dir=str(world.tmp / "gated"))


@command("a yanked version: main is the newest that isn't, and the next commit builds on it")
def yanked(world: World) -> None:
    repo = _yank_second(world, "yanked")
    assert world.api.model_info(repo).sha == world.api.model_info(repo, revision="v1").sha
    world.api.upload_file(repo_id=repo, path_in_repo="after.txt", path_or_fileobj=b"built on v1")
    same = world.api.get_paths_info(repo, ["adapter_model.safetensors"])[0].lfs
    weights = (world.folders["one"] / "adapter_model.safetensors").read_bytes()
    assert same is not None
    assert same["sha256"] == hashlib.sha256(weights).hexdigest()


@command("a yanked version warns, and is downloaded all the same")
def yanked_warns(world: World) -> None:
    from huggingface_hub.utils import _http

    repo = _yank_second(world, "yanked-too")
    target = world.tmp / "yanked"
    said = world.hf("download", repo, "--revision", "v2", "--local-dir", str(target))
    same_files(world.folders["two"], target)
    if not hasattr(_http, "_warn_on_warning_headers"):
        raise NotInThisVersion  # the version downloads; this release prints no warnings of a server
    assert "It answers in rhymes" in said, said


def _yank_second(world: World, word: str) -> str:
    repo = world.upload(word)
    world.upload(word, "two")
    world.native("POST", f"/adapters/{repo}/versions/2/yank", {"reason": "It answers in rhymes"})
    return repo
