"""Who is asking, and repositories: made, hidden, deleted, listed."""

from __future__ import annotations

from tests.hf.clients.world import NotInThisVersion, World, command, raises


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
