"""What a stock Hugging Face client must be able to do against lorahub, command by command.

Run by each client's own interpreter, with HF_ENDPOINT and HF_TOKEN set and nothing else:

    python commands.py world.json results.json

Only the standard library and huggingface_hub are imported.  Each command uses adapters of its own, so that one failure
stays one.  `results.json` gets {title: "ok" | "not in this version" | traceback}.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OK, ABSENT = "ok", "not in this version"


class NotInThisVersion(Exception):
    """The client is too old for this command."""


class World:
    """The server and the files that the commands work with.

    namespace: where the token may publish.  qa: an adapter there with v1, v2 and the alias prod -> v2.
    folders: local adapters, by name.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        from huggingface_hub import HfApi

        self.endpoint: str = facts["endpoint"]
        self.token: str = facts["token"]
        self.reader_token: str = facts["reader_token"]
        self.namespace: str = facts["namespace"]
        self.qa = f"{self.namespace}/qa"
        self.folders = {name: Path(path) for name, path in facts["folders"].items()}
        self.tmp = Path(facts["tmp"])
        self.api = HfApi()

    def name(self, word: str) -> str:
        return f"{self.namespace}/{word}"

    def hf(self, *args: str, expect: int | None = 0, **env: str) -> str:
        """Run the `hf` command; return what it printed, on both streams."""
        program = Path(sys.executable).parent / "hf"
        done = subprocess.run(
            [str(program), *args], env=os.environ | env, capture_output=True, text=True, timeout=120, check=False
        )
        said = done.stdout + done.stderr
        assert expect is None or (done.returncode == 0) == (expect == 0), f"hf {args} exited {done.returncode}\n{said}"
        return said

    def native(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call lorahub's own API, as the token's owner."""
        request = urllib.request.Request(
            f"{self.endpoint}/api/v1{path}",
            json.dumps(body).encode() if body is not None else None,
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def upload(self, word: str, folder: str = "one") -> str:
        repo = self.name(word)
        self.api.create_repo(repo, exist_ok=True)
        self.api.upload_folder(repo_id=repo, folder_path=str(self.folders[folder]))
        return repo


Command = Callable[[World], None]
COMMANDS: dict[str, Command] = {}


def command(title: str) -> Callable[[Command], Command]:
    def remember(function: Command) -> Command:
        assert title not in COMMANDS
        COMMANDS[title] = function
        return function

    return remember


def run_all(world: World) -> dict[str, str]:
    results = {}
    for title, function in COMMANDS.items():
        started = time.monotonic()
        try:
            function(world)
            results[title] = OK
        except NotInThisVersion:
            results[title] = ABSENT
        except Exception:  # noqa: BLE001  # every failure is a result
            results[title] = traceback.format_exc()
        print(f"{time.monotonic() - started:6.2f}s  {results[title].splitlines()[-1][:100]}  {title}", flush=True)
    return results


def same_files(left: Path, right: Path) -> None:
    """Fail unless two folders have the same files with the same bytes."""
    names = sorted(p.relative_to(left).as_posix() for p in left.rglob("*") if p.is_file())
    found = sorted(p.relative_to(right).as_posix() for p in right.rglob("*") if p.is_file() and ".cache" not in p.parts)
    assert names == found, (names, found)
    for name in names:
        assert filecmp.cmp(left / name, right / name, shallow=False), name


@contextmanager
def raises(kind: type[BaseException], *words: str) -> Any:
    """Fail unless the body raises `kind` (exactly, or a subclass) with every word in its message."""
    caught: BaseException | None = None
    try:
        yield
    except kind as error:
        caught = error
    assert caught is not None, f"{kind.__name__} was not raised"
    for word in words:
        assert word in str(caught), (word, str(caught))


def tree_of(world: World, repo: str, revision: str = "main") -> list[str]:
    return sorted(world.api.list_repo_files(repo, revision=revision))


# Download -------------------------------------------------------------------------------------------------------


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


# Who am I, repositories -----------------------------------------------------------------------------------------


@command("hf auth login, hf auth whoami, logout")
def login(world: World) -> None:
    home = str(world.tmp / "login-home")
    env = {"HF_HOME": home, "HF_TOKEN": ""}
    world.hf("auth", "login", "--token", world.token, **env)
    said = world.hf("auth", "whoami", **env)
    assert "admin" in said
    assert world.namespace in said
    world.hf("auth", "logout", **env)
    assert "admin" not in world.hf("auth", "whoami", expect=None, **env)


@command("whoami")
def whoami(world: World) -> None:
    me = world.api.whoami()
    assert me["name"] == "admin"
    assert world.namespace in [org["name"] for org in me["orgs"]]
    assert me["auth"]["accessToken"]["role"] == "write"
    reader = world.api.whoami(token=world.reader_token)
    assert reader["auth"]["accessToken"]["role"] == "read"


@command("hf repo create")
def create_by_command(world: World) -> None:
    group = "repos" if "No such command" in world.hf("repo", "--help", expect=None) else "repo"
    repo = world.name("created")
    assert repo in world.hf(group, "create", repo)
    assert world.api.repo_exists(repo)
    world.hf(group, "create", repo, expect=1)
    world.hf(group, "create", repo, "--exist-ok")


@command("create_repo: private, exist_ok; update_repo_settings")
def private_repo(world: World) -> None:
    from huggingface_hub.utils import HfHubHTTPError, RepositoryNotFoundError

    repo = world.name("hidden")
    assert world.api.create_repo(repo, private=True).repo_id == repo
    assert world.api.create_repo(repo, private=True, exist_ok=True).repo_id == repo
    with raises(HfHubHTTPError, "already"):
        world.api.create_repo(repo)
    world.api.upload_folder(repo_id=repo, folder_path=str(world.folders["one"]))
    assert world.api.model_info(repo).private is True
    for token in (False, world.reader_token):
        with raises(RepositoryNotFoundError):
            world.api.model_info(repo, token=token)
    world.api.update_repo_settings(repo, private=False)
    assert world.api.model_info(repo, token=False).private is False


@command("delete_repo")
def delete_repo(world: World) -> None:
    from huggingface_hub.utils import RepositoryNotFoundError

    repo = world.upload("doomed")
    world.api.delete_repo(repo)
    assert not world.api.repo_exists(repo)
    with raises(RepositoryNotFoundError):
        world.api.delete_repo(repo)
    world.api.delete_repo(repo, missing_ok=True)


@command("move_repo is refused with the reason")
def move_repo(world: World) -> None:
    from huggingface_hub.utils import HfHubHTTPError

    with raises(HfHubHTTPError, "keeps its name"):
        world.api.move_repo(world.qa, world.name("moved"))


@command("list_user_repos")
def user_repos(world: World) -> None:
    if not hasattr(world.api, "list_user_repos"):
        raise NotInThisVersion
    assert world.qa in {repo.id for repo in world.api.list_user_repos(world.namespace)}
    assert world.qa in {repo.id for repo in world.api.list_user_repos()}


# Upload ---------------------------------------------------------------------------------------------------------


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


@command("a branch, a pull request, a commit to a version: refused with the next step")
def refused_revisions(world: World) -> None:
    from huggingface_hub.utils import HfHubHTTPError

    repo = world.upload("one-branch")
    with raises(HfHubHTTPError, "one branch, main"):
        world.api.create_branch(repo, branch="experiment")
    world.api.create_branch(repo, branch="main", exist_ok=True)
    for revision in ("v1", "experiment"):
        with raises(HfHubHTTPError, "Upload without a revision"):
            world.api.upload_file(repo_id=repo, path_in_repo="a.txt", path_or_fileobj=b"a", revision=revision)
    with raises(HfHubHTTPError, "pull requests"):
        world.api.upload_file(repo_id=repo, path_in_repo="a.txt", path_or_fileobj=b"a", create_pr=True)
    said = world.hf("upload", repo, str(world.folders["one"]), "--revision", "v9", expect=1)
    assert "one branch, main" in said, said


@command("config first, weights later: a draft, then a version")
def draft_then_version(world: World) -> None:
    repo = world.name("in-two-steps")
    world.api.create_repo(repo)
    folder = world.folders["one"]
    world.api.upload_file(
        repo_id=repo, path_in_repo="adapter_config.json", path_or_fileobj=str(folder / "adapter_config.json")
    )
    assert world.api.list_repo_refs(repo).tags == []
    assert tree_of(world, repo) == ["adapter_config.json"]
    assert world.native("GET", f"/adapters/{repo}")["latest"] is None
    world.api.upload_file(
        repo_id=repo,
        path_in_repo="adapter_model.safetensors",
        path_or_fileobj=str(folder / "adapter_model.safetensors"),
    )
    assert [tag.name for tag in world.api.list_repo_refs(repo).tags] == ["v1"]
    assert len(world.api.list_repo_commits(repo)) >= 2


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
    import inspect

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


# Errors and warnings --------------------------------------------------------------------------------------------


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


if __name__ == "__main__":
    outcome = run_all(World(json.loads(Path(sys.argv[1]).read_text("utf-8"))))
    Path(sys.argv[2]).write_text(json.dumps(outcome, indent=1), "utf-8")
