"""What huggingface_hub's tests find around them: becomes the `conftest.py` of its tests, in an environment of theirs.

The constants of its test server are replaced before any test is imported.  Facts come from the environment:
SUITE_FACTS, a JSON object with the constants' new values.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from huggingface_hub import HfApi, RepoUrl, constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import _detect_agent

from . import testing_constants  # type: ignore[attr-defined]

for _name, _value in json.loads(os.environ["SUITE_FACTS"]).items():
    setattr(testing_constants, _name, _value)

RepoFactory = Callable[..., RepoUrl]
_MARKERS = ("api", "transfer", "inference", "xet", "no_xet", "production", "deprecated", "git_lfs")


def pytest_configure(config: pytest.Config) -> None:
    for name in _MARKERS:
        config.addinivalue_line("markers", f"{name}: of huggingface_hub's own suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("production"):
            item.add_marker(pytest.mark.skip(reason="asks the public Hub"))
        if item.get_closest_marker("no_xet"):
            item.add_marker(pytest.mark.skip(reason="is for clients without hf_xet"))
        if item.get_closest_marker("git_lfs"):
            item.add_marker(pytest.mark.skip(reason="takes git"))


@pytest.fixture(autouse=True)
def _xet_as_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)


@pytest.fixture(autouse=True)
def _no_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever agent runs the tests, they are not told of it."""
    monkeypatch.setattr(_detect_agent, "_registry", {"standardEnvVars": [], "harnesses": {}}, raising=False)


@pytest.fixture(scope="session")
def api() -> HfApi:
    return HfApi(endpoint=testing_constants.ENDPOINT_STAGING, token=testing_constants.TOKEN)


@pytest.fixture
def new_repo_id(api: HfApi) -> Iterator[str]:
    """Name a repository that the test makes, which ends with it."""
    from .testing_utils import repo_name  # type: ignore[attr-defined]

    repo = f"{testing_constants.USER}/{repo_name()}"
    yield repo
    with suppress(HfHubHTTPError):
        api.delete_repo(repo, missing_ok=True)


@pytest.fixture
def repo_factory(api: HfApi) -> Iterator[RepoFactory]:
    """Make repositories that end with the test."""
    made: list[tuple[str, str, str]] = []

    def make(
        repo_type: str = "model", *, repo_id: str | None = None, token: str | None = None, **words: Any
    ) -> RepoUrl:
        from .testing_utils import repo_name  # type: ignore[attr-defined]

        used = token or testing_constants.TOKEN
        url = api.create_repo(repo_id or repo_name(), repo_type=repo_type, token=used, **words)
        made.append((url.repo_id, repo_type, used))
        return url

    yield make
    for repo, kind, used in made:
        with suppress(HfHubHTTPError):
            api.delete_repo(repo, repo_type=kind, token=used, missing_ok=True)
