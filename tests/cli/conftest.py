"""A real server for the command line's tests, one for all of them, and a machine of its own for every test."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hub import cli
from tests.support.server import RunningServer, clean_env, running_server


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@dataclass
class Machine:
    """One user's machine: environment, cache and config of its own.  `run` is the command line, in this process."""

    folder: Path
    env: dict[str, str]
    monkeypatch: pytest.MonkeyPatch
    results: list[Result] = field(default_factory=list)

    def run(self, *arguments: str, **env: str) -> Result:
        out, err = io.StringIO(), io.StringIO()
        with self.monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("LORAHUB_")]:
                patch.delenv(name)
            for name, value in (self.env | env).items():
                patch.setenv(name, value)
            with redirect_stdout(out), redirect_stderr(err):
                code = cli.run_command(list(arguments))
        self.results.append(Result(code, out.getvalue(), err.getvalue()))
        return self.results[-1]

    def ok(self, *arguments: str, **env: str) -> str:
        """Run a command that must succeed; return its stdout."""
        result = self.run(*arguments, **env)
        assert result.code == 0, f"lorahub {' '.join(arguments)} exited {result.code}\n{result.out}{result.err}"
        return result.out

    @property
    def cache(self) -> Path:
        return Path(self.env["LORAHUB_CACHE"])


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def machine(tmp_path: Path, server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine that knows the server and its admin's token."""
    env = clean_env(tmp_path) | {"LORAHUB_ENDPOINT": server.url, "LORAHUB_TOKEN": server.token}
    return Machine(tmp_path, env, monkeypatch)


@pytest.fixture
def lonely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine that reaches no registry."""
    return Machine(tmp_path, clean_env(tmp_path) | {"LORAHUB_ENDPOINT": "http://127.0.0.1:9"}, monkeypatch)
