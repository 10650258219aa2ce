"""Uploads: folders, files, commits, tags, cards; and what is refused, with the next step."""

from __future__ import annotations

import filecmp
import inspect
import json
from pathlib import Path

from tests.hf.clients.world import NotInThisVersion, World, command, raises, same_files, tree_of


@command("hf upload REPO FOLDER")
def upload_folder_by_command(world: World) -> None:
    repo = world.name("by-command")
    assert repo in world.hf("upload", repo, str(world.folders["one"]))
    target = world.tmp / "by-command"
    world.hf("download", repo, "--revision", "v1", "--local-dir", str(target))
    same_files(world.folders["one"], target)
    version = world.native("GET", f"/adapters/{repo}/versions/v1")
    assert version["commit"] == world.api.model_info(repo).sha


@command("hf upload REPO FILE: a README alone makes the next version")
def upload_file_by_command(world: World) -> None:
    repo = world.upload("one-file")
    card = world.tmp / "new-card.md"
    card.write_text("---\nlicense: mit\n---\n# Another card\n", "utf-8")
    world.hf("upload", repo, str(card), "README.md")
    assert {"v1", "v2"} <= {tag.name for tag in world.api.list_repo_refs(repo).tags}
    assert world.native("GET", f"/adapters/{repo}")["latest"] == "v2"
    assert world.native("GET", f"/adapters/{repo}")["license"] == "mit"


@command("upload_folder again: nothing new, no new version")
def upload_again(world: World) -> None:
    repo = world.upload("again")
    before = world.api.model_info(repo).sha
    world.api.upload_folder(repo_id=repo, folder_path=str(world.folders["one"]))
    assert world.api.model_info(repo).sha == before
    assert [tag.name for tag in world.api.list_repo_refs(repo).tags] == ["v1"]


@command("upload_file, upload_folder of several large files in one commit")
def upload_parts(world: World) -> None:
    repo = world.upload("parts")
    world.api.upload_file(repo_id=repo, path_in_repo="notes/läuft gut.txt", path_or_fileobj="grüße".encode())
    assert "notes/läuft gut.txt" in tree_of(world, repo)
    several = world.upload("several", "several")
    assert world.native("GET", f"/adapters/{several}/versions/v1")["files"] == len(tree_of(world, several))
    assert len([c for c in world.api.list_repo_commits(several) if c.title.startswith("Upload")]) == 1


@command("create_commit with a stale parent_commit: 412")
def stale_parent(world: World) -> None:
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.utils import HfHubHTTPError

    repo = world.upload("parent")
    parent = world.api.model_info(repo).sha
    add = CommitOperationAdd("a.txt", b"first")
    done = world.api.create_commit(repo, [add], commit_message="first", parent_commit=parent)
    assert done.oid == world.api.model_info(repo).sha
    with raises(HfHubHTTPError, "412"):
        world.api.create_commit(
            repo, [CommitOperationAdd("b.txt", b"second")], commit_message="second", parent_commit=parent
        )
    assert "b.txt" not in tree_of(world, repo)


@command("delete_file, delete_folder")
def delete_files(world: World) -> None:
    from huggingface_hub.utils import EntryNotFoundError

    repo = world.upload("deleting", "git-style")
    world.api.delete_file("notes/with space.txt", repo)
    world.api.delete_folder("tokenizer", repo)
    assert not [path for path in tree_of(world, repo) if "space" in path or path.startswith("tokenizer/")]
    with raises(EntryNotFoundError):
        world.api.delete_file("not there.txt", repo)


@command("create_tag, delete_tag: a tag is an alias, with '/' too")
def tags(world: World) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import HfHubHTTPError, RevisionNotFoundError

    repo = world.upload("tagged")
    world.api.create_tag(repo, tag="rel/1.0", revision="v1")
    world.api.create_tag(repo, tag="rel/1.0", exist_ok=True)
    with raises(HfHubHTTPError, "409"):
        world.api.create_tag(repo, tag="rel/1.0")
    assert world.api.model_info(repo, revision="rel/1.0").sha == world.api.model_info(repo, revision="v1").sha
    assert world.api.file_exists(repo, "adapter_config.json", revision="rel/1.0")
    same_files(world.folders["one"], Path(snapshot_download(repo, revision="rel/1.0")))
    assert [alias["alias"] for alias in world.native("GET", f"/adapters/{repo}")["aliases"]] == ["rel/1.0"]
    world.api.delete_tag(repo, tag="rel/1.0")
    assert not world.api.revision_exists(repo, "rel/1.0")
    with raises(RevisionNotFoundError):
        world.api.delete_tag(repo, tag="rel/1.0")


@command("a branch: its versions are never the latest")
def branches(world: World) -> None:
    repo = world.upload("branched")
    world.api.create_branch(repo, branch="experiment")
    world.api.create_branch(repo, branch="experiment", exist_ok=True)
    world.api.create_branch(repo, branch="main", exist_ok=True)
    world.hf("upload", repo, str(world.folders["two"]), "--revision", "experiment")
    assert {branch.name for branch in world.api.list_repo_refs(repo).branches} == {"main", "experiment"}
    assert world.api.model_info(repo, revision="experiment").sha == world.api.model_info(repo, revision="v2").sha
    assert world.api.model_info(repo).sha == world.api.model_info(repo, revision="v1").sha
    assert world.native("GET", f"/adapters/{repo}")["latest"] == "v1"
    world.hf("upload", repo, str(world.folders["two"]), "--revision", "made-by-upload")
    world.api.delete_branch(repo, branch="experiment")
    assert not world.api.revision_exists(repo, "experiment")
    assert world.api.revision_exists(repo, "v2")


@command("a pull request, a commit to a version: refused with the next step")
def refused_revisions(world: World) -> None:
    from huggingface_hub.utils import HfHubHTTPError, RevisionNotFoundError

    repo = world.upload("refusing")
    with raises(HfHubHTTPError, "Upload without a revision"):
        world.api.upload_file(repo_id=repo, path_in_repo="a.txt", path_or_fileobj=b"a", revision="v1")
    with raises(RevisionNotFoundError):
        world.api.upload_file(repo_id=repo, path_in_repo="a.txt", path_or_fileobj=b"a", revision="nowhere")
    with raises(HfHubHTTPError, "pull requests"):
        world.api.upload_file(repo_id=repo, path_in_repo="a.txt", path_or_fileobj=b"a", create_pr=True)
    said = world.hf("upload", repo, str(world.folders["one"]), "--revision", "v9", expect=1)
    assert "reads as a version" in said, said


def is_told(world: World, repo: str, path: Path, *words: str) -> None:
    """Upload a file that makes a draft: newer releases warn and go on, older ones fail.  Both print the words."""
    from huggingface_hub.utils import _http

    code = 0 if hasattr(_http, "_warn_on_warning_headers") else 1
    said = world.hf("upload", repo, str(path), path.name, expect=code)
    for word in ("no new version", *words):
        assert word in said, (word, said)


@command("config first, weights later: a draft that the client tells of, then a version")
def draft_then_version(world: World) -> None:
    repo = world.name("in-two-steps")
    world.api.create_repo(repo)
    folder = world.folders["one"]
    is_told(world, repo, folder / "adapter_config.json", "adapter_model.safetensors")
    assert world.api.list_repo_refs(repo).tags == []
    assert world.native("GET", f"/adapters/{repo}")["latest"] is None
    (draft,) = world.native("GET", f"/adapters/{repo}")["drafts"]
    assert tree_of(world, repo, draft["ref"]) == ["adapter_config.json"]
    assert draft["ref"] in [branch.ref for branch in world.api.list_repo_refs(repo).branches]
    with raises(Exception, "404"):  # to others, main is empty
        world.api.hf_hub_download(repo, "adapter_config.json", token=False, force_download=True)
    world.api.upload_file(
        repo_id=repo,
        path_in_repo="adapter_model.safetensors",
        path_or_fileobj=str(folder / "adapter_model.safetensors"),
    )
    assert [tag.name for tag in world.api.list_repo_refs(repo).tags] == ["v1"]
    assert [branch.name for branch in world.api.list_repo_refs(repo).branches] == ["main"]


@command("a config that doesn't fit: main stays, the client is told, the right weights make a version of it")
def draft_over_version(world: World) -> None:
    repo = world.upload("over-a-version")
    before = world.api.model_info(repo).sha
    wide = world.tmp / "wide" / "adapter_config.json"
    wide.parent.mkdir()
    config = json.loads((world.folders["one"] / "adapter_config.json").read_text("utf-8"))
    wide.write_text(json.dumps(config | {"r": 16}), "utf-8")
    for _ in range(2):  # an upload of the same is told again
        is_told(world, repo, wide, "q_proj")
        assert world.api.model_info(repo).sha == before
    same_files(world.folders["one"], Path(world.api.snapshot_download(repo)))
    (draft,) = world.native("GET", f"/adapters/{repo}")["drafts"]
    world.api.delete_branch(repo, branch=draft["ref"])
    world.api.upload_file(repo_id=repo, path_in_repo="note.md", path_or_fileobj=b"# after the draft was dropped")
    assert world.native("GET", f"/adapters/{repo}")["latest"] == "v2"


@command("LoHa, diffusers, a full model, a named adapter: refused with the reason")
def never_versions(world: World) -> None:
    from huggingface_hub.utils import HfHubHTTPError

    repo = world.upload("only-lora")
    before = world.api.model_info(repo).sha
    for folder, word in {
        "loha": "LOHA",
        "diffusers": "diffusers",
        "full-model": "full model",
        "named": "./poet",
    }.items():
        with raises(HfHubHTTPError, word):
            world.api.upload_folder(repo_id=repo, folder_path=str(world.folders[folder]), delete_patterns="*")
    assert world.api.model_info(repo).sha == before
    assert world.native("GET", f"/adapters/{repo}")["drafts"] == []


@command("a pickle is refused before it is sent, with the conversion step")
def pickle_refused(world: World) -> None:
    from huggingface_hub.utils import HfHubHTTPError

    repo = world.upload("no-pickles")
    for name in ("adapter_model.bin", "adapter_model.safetensors"):
        with raises(HfHubHTTPError, "pickle", "save_pretrained"):
            world.api.upload_file(repo_id=repo, path_in_repo=name, path_or_fileobj=b"\x80\x04\x95.")
    said = world.hf("upload", repo, str(world.folders["pickled"]), expect=1)
    assert "save_pretrained" in said, said
    assert [tag.name for tag in world.api.list_repo_refs(repo).tags] == ["v1"]


@command("a trainer's leftovers are left out")
def leftovers(world: World) -> None:
    repo = world.upload("trained", "trainer")
    assert tree_of(world, repo) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert [tag.name for tag in world.api.list_repo_refs(repo).tags] == ["v1"]


@command("git-style folders, empty files, spaces, non-ASCII names")
def git_style(world: World) -> None:
    from huggingface_hub import hf_hub_download, snapshot_download

    repo = world.upload("git-style", "git-style")
    kept = {p.relative_to(world.folders["git-style"]).as_posix() for p in world.folders["git-style"].rglob("*.*")}
    kept = {name for name in kept if not name.startswith(".git") and (world.folders["git-style"] / name).is_file()}
    assert set(tree_of(world, repo)) == kept
    found = Path(snapshot_download(repo, revision="v1"))
    for name in kept:
        assert filecmp.cmp(found / name, world.folders["git-style"] / name, shallow=False), name
    one = hf_hub_download(repo, "notes/grüße % 100#.txt", local_dir=str(world.tmp / "one-name"))
    assert Path(one).read_bytes() == (world.folders["git-style"] / "notes/grüße % 100#.txt").read_bytes()


@command("ModelCard.push_to_hub, metadata_update")
def cards(world: World) -> None:
    from huggingface_hub import ModelCard, metadata_update

    if "https://huggingface.co/api" in inspect.getsource(ModelCard.validate):
        raise NotInThisVersion  # the check of a card goes to huggingface.co, whatever HF_ENDPOINT says
    repo = world.upload("card")
    card = ModelCard("---\nlicense: mit\ntags: [peft, poems]\nbase_model: tests/tiny-llama\n---\n# Poems\n")
    card.push_to_hub(repo)
    assert ModelCard.load(repo).data.license == "mit"
    metadata_update(repo, {"license": "apache-2.0"}, overwrite=True)
    assert world.api.model_info(repo).card_data["license"] == "apache-2.0"
    assert repo in {model.id for model in world.api.list_models(filter="poems")}
    with raises(ValueError, "anchors or aliases"):
        ModelCard("---\na: &a [1]\nb: *a\n---\n# Bomb\n").validate()


@command("super_squash_history is refused")
def squash(world: World) -> None:
    from huggingface_hub.utils import HfHubHTTPError

    with raises(HfHubHTTPError, "never change"):
        world.api.super_squash_history(world.qa)
