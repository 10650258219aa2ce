"""What the commands work with: a server, local folders, the client under test; and how a command is told of."""

from __future__ import annotations

import filecmp
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
