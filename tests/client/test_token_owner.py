"""LORAHUB_TOKEN goes to the registry that it is for, and to no other that a command names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.settings import DEFAULT_ENDPOINT, ClientSettings, UserConfig
from tests.support.server import RunningServer, clean_env, run_cli, running_server

MINE, OTHER = "https://mine.example", "https://other.example"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("LORAHUB_TOKEN", "LORAHUB_TOKEN_FOR", "LORAHUB_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "config.json"
    monkeypatch.setenv("LORAHUB_CONFIG", str(path))
    return path


@pytest.mark.parametrize(
    ("environment", "asked", "sent"),
    [
        ({}, DEFAULT_ENDPOINT, "secret"),
        ({}, OTHER, None),
        ({"LORAHUB_ENDPOINT": MINE}, MINE, "secret"),
        ({"LORAHUB_ENDPOINT": MINE}, "https://MINE.example:443/", "secret"),
        ({"LORAHUB_ENDPOINT": MINE}, "http://mine.example", None),
        ({"LORAHUB_ENDPOINT": MINE}, "https://mine.example.evil.example", None),
        ({"LORAHUB_ENDPOINT": MINE}, OTHER, None),
        ({"LORAHUB_TOKEN_FOR": OTHER}, OTHER, "secret"),
        ({"LORAHUB_TOKEN_FOR": OTHER, "LORAHUB_ENDPOINT": MINE}, MINE, None),
        ({"LORAHUB_TOKEN_FOR": OTHER}, DEFAULT_ENDPOINT, None),
    ],
)
def test_the_token_of_the_environment_goes_to_its_owner(
    config: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], asked: str, sent: str | None
) -> None:
    for name, value in (environment | {"LORAHUB_TOKEN": "secret"}).items():
        monkeypatch.setenv(name, value)
    assert ClientSettings.from_env().with_endpoint(asked).token == sent


def test_a_registry_that_the_user_logged_in_to_gets_its_own(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    UserConfig(None, {}).with_token(OTHER, "theirs").with_token(MINE, "mine").write(config)
    assert ClientSettings.from_env().with_endpoint(OTHER).token == "theirs"
    monkeypatch.setenv("LORAHUB_TOKEN", "secret")
    assert ClientSettings.from_env().token == "secret", "the last login's registry is the default one"
    assert ClientSettings.from_env().with_endpoint(OTHER).token == "theirs"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, RunningServer]]:
    with running_server(tmp_path_factory.mktemp("one")) as one, running_server(tmp_path_factory.mktemp("two")) as two:
        yield one, two


def test_two_servers_and_one_token(two: tuple[RunningServer, RunningServer], tmp_path: Path) -> None:
    one, other = two
    env = clean_env(tmp_path) | {"LORAHUB_ENDPOINT": one.url, "LORAHUB_TOKEN": one.token}
    assert run_cli("whoami", env=env).stdout.startswith("user\tadmin")
    refused = run_cli("whoami", "--registry", other.url, env=env)
    assert refused.returncode == 4
    assert f"LORAHUB_TOKEN is for {one.url}" in refused.stderr
    assert "LORAHUB_TOKEN_FOR=" in refused.stderr
    theirs = env | {"LORAHUB_TOKEN": other.token, "LORAHUB_TOKEN_FOR": other.url}
    assert run_cli("whoami", "--registry", other.url, env=theirs).stdout.startswith("user\tadmin")
    assert run_cli("whoami", env=theirs).returncode == 4
