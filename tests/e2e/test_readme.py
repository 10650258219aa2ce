"""The README's Python runs as it stands: against a real server, on a real (tiny) base, in 4 bit."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.adapters import write_adapter
from tests.support.server import RunningServer, running_server
from tests.training.bases import write_base

ROOT = Path(__file__).resolve().parents[2]
HIDDEN, LAYERS = 64, 2


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the README's reader has it: ./base-model and ./my-adapter."""
    folder = tmp_path_factory.mktemp("desk")
    write_base(folder / "base-model", num_key_value_heads=4)
    write_adapter(folder / "my-adapter", hidden=HIDDEN, layers=LAYERS)
    return folder


@pytest.fixture(scope="module")
def server(desk: Path) -> Iterator[RunningServer]:
    """A registry that holds the versions which the README names."""
    with running_server(desk / "server") as running:
        for seed, name in ((1, "task/qa"), (2, "task/qa"), (3, "task/summarize")):
            folder = write_adapter(desk / f"seed-{seed}", hidden=HIDDEN, layers=LAYERS, seed=seed)
            running.cli("push", str(folder), name, "--base", str(desk / "base-model"))
        yield running


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def test_the_python_of_the_readme_runs(server: RunningServer, desk: Path) -> None:
    (code,) = python_blocks(ROOT / "README.md")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=desk, env=server.env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "trainable params: " in done.stdout
    assert "retention" in done.stdout


def test_the_commands_of_the_readme_run(server: RunningServer, desk: Path) -> None:
    base, adapter = str(desk / "base-model"), str(desk / "my-adapter")
    assert server.cli("push", adapter, "task/qa", "--base", base).stdout == "task/qa@v3\n"
    folder = Path(server.cli("pull", "task/qa@v3").stdout.strip())
    assert (folder / "adapter_model.safetensors").read_bytes() == (
        desk / "my-adapter" / "adapter_model.safetensors"
    ).read_bytes()
    assert server.cli("check", base, "task/qa@v3").returncode == 0
